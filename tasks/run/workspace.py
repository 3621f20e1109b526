"""Where everything of one optimization lives; the same names stand in dvc.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("artifacts")  # of the checkout one is in, as DVC has it


@dataclass(frozen=True)
class Workspace:
    """A folder with all that one optimization reads and writes, so that several can run in one process at once."""

    root: Path = ROOT

    @property
    def placements(self) -> Path:
        """Folder with a Placement per variant."""
        return self.root / "placement"

    def placement(self, variant: str) -> Path:
        """Placement of a variant: where its runtime puts it."""
        return self.placements / f"{variant}.json"

    def bundle(self, target: str) -> Path:
        """Folder of what is shipped to one target."""
        return self.root / "bundles" / target

    def bundle_record(self, target: str) -> Path:
        """Bundle: what it is, what validators said, whether it answers."""
        return self.root / "bundles" / f"{target}.json"

    @property
    def code(self) -> Path:
        """Lists of source files that each stage and backend runs, with digests."""
        return self.root / "code"

    def listed(self, stage: str, *backends: str) -> list[Path]:
        """Lists of what a stage and some backends run, with digests; none where no pipeline made them."""
        names = (f"{stage}.txt", *(f"backends/{backend}.txt" for backend in backends))
        return [self.code / name for name in names if (self.code / name).exists()]

    @property
    def hardware(self) -> Path:
        """Hardware of the device."""
        return self.root / "hardware.json"

    @property
    def ceiling(self) -> Path:
        """Ceiling of this machine."""
        return self.root / "ceiling.json"

    @property
    def model(self) -> Path:
        """Folder of the unquantized checkpoint, as its kind of model keeps it."""
        return self.root / "model"

    @property
    def source(self) -> Path:
        """Source record of the model: where it came from."""
        return self.model / "source.json"

    @property
    def data(self) -> Path:
        """Folder of everything that is scored, timed and calibrated with."""
        return self.root / "data"

    @property
    def data_card(self) -> Path:
        """DataCard: what the data is."""
        return self.data / "card.json"

    @property
    def assess(self) -> Path:
        """Folder of the model's profile and the ranking of frameworks."""
        return self.root / "assess"

    @property
    def profile(self) -> Path:
        """ModelProfile of the model."""
        return self.assess / "profile.json"

    @property
    def selection(self) -> Path:
        """Selection: frameworks in the order in which they suit."""
        return self.assess / "selection.json"

    @property
    def fits(self) -> Path:
        """Fits: what each of several targets takes."""
        return self.assess / "targets.json"

    @property
    def plans(self) -> Path:
        """Folder with a PlanEntry per variant."""
        return self.root / "plan"

    def plan(self, variant: str) -> Path:
        """PlanEntry of one variant."""
        return self.plans / f"{variant}.json"

    @property
    def reference(self) -> Path:
        """Folder of what the unquantized model answers."""
        return self.root / "reference"

    @property
    def variants(self) -> Path:
        """Folder with a folder per variant."""
        return self.root / "variants"

    def artifact(self, variant: str) -> Path:
        """Folder of one variant: the record and the files as the runtime loads them."""
        return self.variants / variant

    def artifact_record(self, variant: str) -> Path:
        """Artifact of one variant."""
        return self.artifact(variant) / "artifact.json"

    def artifact_files(self, variant: str) -> Path:
        """Folder the runtime loads."""
        return self.artifact(variant) / "model"

    def artifact_manifest(self, variant: str) -> Path:
        """Manifest of the files the runtime loads."""
        return self.artifact(variant) / "manifest.json"

    @property
    def tune(self) -> Path:
        """Folder of tuned settings."""
        return self.root / "tune"

    def tuned(self, backend: str) -> Path:
        """Tuned settings of one backend, and how they were found."""
        return self.tune / f"{backend}.json"

    def settings(self, backend: str) -> Path:
        """The settings alone: what scoring and timing depend on."""
        return self.tune / "settings" / f"{backend}.json"

    @property
    def evaluations(self) -> Path:
        """Folder with a folder of scores per variant."""
        return self.root / "evaluate"

    def evaluation(self, variant: str) -> Path:
        """Folder of one variant's scores."""
        return self.evaluations / variant

    def evaluation_record(self, variant: str) -> Path:
        """Evaluation of one variant; what it stands on lies beside it."""
        return self.evaluation(variant) / "evaluation.json"

    @property
    def benchmarks(self) -> Path:
        """Folder with a folder of timings per variant."""
        return self.root / "benchmark"

    def benchmark(self, variant: str) -> Path:
        """Folder of one variant's timings."""
        return self.benchmarks / variant

    def benchmark_record(self, variant: str) -> Path:
        """Benchmark of one variant."""
        return self.benchmark(variant) / "benchmark.json"

    @property
    def recommendation(self) -> Path:
        """Recommendation: scorecard, front and ranking."""
        return self.root / "recommendation.json"

    @property
    def metrics(self) -> Path:
        """Figures that sum each variant up, for `dvc metrics`."""
        return self.root / "metrics.json"

    @property
    def planes(self) -> Path:
        """Places of the variants in a plot, for `dvc plots`."""
        return self.root / "plots" / "variants.json"

    @property
    def rankings(self) -> Path:
        """Rankings for the targets beyond the first."""
        return self.root / "rankings.json"

    @property
    def gate(self) -> Path:
        """Folder of the verdicts."""
        return self.root / "gate"

    @property
    def verdicts(self) -> Path:
        """GateReport."""
        return self.gate / "verdicts.json"

    @property
    def target_verdicts(self) -> Path:
        """TargetVerdicts, where there are several targets."""
        return self.gate / "targets.json"

    @property
    def data_docs(self) -> Path:
        """The gates as Great Expectations shows them."""
        return self.root / "data_docs"

    @property
    def package(self) -> Path:
        """Folder of the winner as it is taken home."""
        return self.root / "package"

    @property
    def package_record(self) -> Path:
        """Package: the winner, or why there is none."""
        return self.root / "package.json"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"

    @property
    def tracked(self) -> Path:
        """Tracked: where the results are in MLflow."""
        return self.root / "tracked.json"

    @property
    def logs(self) -> Path:
        """Output of child processes; not tracked by DVC."""
        return self.root / "logs"

    @property
    def provisional(self) -> Path:
        """A first scorecard as Markdown, while a run goes on."""
        return self.logs / "provisional.md"

    @property
    def times(self) -> Path:
        """Seconds per kind of stage of the last run that did something."""
        return self.logs / "times.json"

    @property
    def memo(self) -> Path:
        """Earlier measurements under keys; not tracked by DVC."""
        return self.root / "memo"
