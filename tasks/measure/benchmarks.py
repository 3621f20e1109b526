"""All variants of a workspace, measured where anything changed that their figures depend on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.errors import DataError
from tasks.hardware import cores
from tasks.measure import guard
from tasks.measure.pairing import Phases
from tasks.measure.passes import Passes
from tasks.measure.requests import MeasureRequest, Opening
from tasks.measure.results import failed, measurable, measure, sized, without
from tasks.measure.session import Limits, Minima, Session, leaves_open
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.base import write_text
from tasks.records.plan import PlanEntry
from tasks.records.speed import Benchmark
from tasks.run.memo import Memo, key_of
from tasks.run.stage import into_folder, settings_of
from tasks.run.workspace import Workspace
from tasks.sources.files import Source

BLOCKS = "blocks.json"  # every block of the variant's session, beside its record


@dataclass(frozen=True)
class Benchmarking:
    """All variants of one workspace, and what they are measured with."""

    workspace: Workspace
    params: Params
    entries: Mapping[str, PlanEntry]
    artifacts: Mapping[str, Artifact]
    minima: Limits  # of each candidate: the least speedups that gates ask
    phases: Phases  # that are compared with the reference
    deciding: Sequence[str]  # those whose speedup must be known precisely
    brief: bool = False  # only the phases that tuning is about

    def update(self, again: Sequence[str]) -> list[str]:
        """Bring the folder of benchmarks up to date, those in `again` in any case; returns a line per variant."""
        memo = Memo(self.workspace.memo)
        keys = {name: self.key(name) for name in self.entries}
        stale = [name for name in self.entries if name in again or not self._known(memo, name, keys[name])]
        for folder in self.workspace.benchmarks.glob("*"):
            if folder.name not in self.entries and folder.is_dir():
                shutil.rmtree(folder)
        found, session = self.found(stale)
        lines = [f"{name}: unchanged" for name in self.entries if name not in stale]
        for name in stale:
            made = found[name].model_copy(update={"key": keys[name]})
            lines.append(f"{name}: {words(self._write(made, session), self.deciding)}")
            if made.status == "ok" and not made.busy:
                memo.keep("benchmark", name, keys[name], self.workspace.benchmark(name))
        return lines

    def remembered(self, names: Sequence[str]) -> bool:
        """Whether all that can be measured of these was measured before, and will be found again."""
        memo = Memo(self.workspace.memo)
        fit = [name for name in names if measurable(self.entries[name], self.artifacts[name])]
        return all(memo.find("benchmark", name, self.key(name)) is not None for name in fit)

    def key(self, name: str) -> str:
        """Digest of all that one variant's figures depend on: the reference's artifact, too, and this machine."""
        pair = [self.entries[one] for one in (name, self.params.reference)]
        fit = [one for one in pair if measurable(one, self.artifacts[one.variant])]
        return key_of(
            [
                self.params.benchmark.model_dump_json(),
                *(one.model_dump_json() for one in pair),
                *(self.artifacts[one.variant].status for one in pair),
                str(settings_of(self.workspace, pair[0])),
            ],
            [
                self.workspace.hardware,
                self.workspace.data / "workload",
                *(self.workspace.artifact_manifest(one.variant) for one in fit),
                *self.workspace.listed("benchmark", *(one.recipe.backend for one in pair)),
            ],
        )

    def _known(self, memo: Memo, name: str, key: str) -> bool:
        """Whether a record under the key is in its place, or was put back there, and decides what gates ask."""
        out, record = self.workspace.benchmark(name), self.workspace.benchmark_record(name).name
        minima = self.minima.get(name, ())
        if _decides(out / record, key, minima):
            return True
        kept = memo.find("benchmark", name, key)
        return kept is not None and _decides(kept / record, key, minima) and memo.restore("benchmark", name, key, out)

    def found(self, stale: Sequence[str]) -> tuple[dict[str, Benchmark], Session | None]:
        """Measure what can be measured of these variants; the others' records say why not."""
        found = {name: without(self.entries[name], self.artifacts[name]) for name in stale}
        todo = [name for name in stale if measurable(self.entries[name], self.artifacts[name])]
        reference = self.params.reference
        if not todo:
            return found, None
        if not measurable(self.entries[reference], self.artifacts[reference]):
            reason = f"the reference {reference} cannot be timed: {self.artifacts[reference].reason}"
            return found | {name: failed(self.entries[name], reason) for name in todo}, None
        names = tuple(dict.fromkeys((reference, *todo)))
        with guard.device_to_itself():
            entries = {name: self.entries[name] for name in names}
            empty, passes = Session(reference, self.phases, self.deciding), Passes(self.workspace.logs)
            made, session = measure(passes, entries, self.requests(names), empty, self.minima)
        return found | {name: sized(made[name], self.artifacts[name]) for name in todo}, session

    def requests(self, names: Sequence[str]) -> dict[str, MeasureRequest]:
        """What child processes are told to measure, by variant."""
        kind, threads = Source.read(self.workspace.source).kind, cores.threads(self.params.benchmark.threads)
        return {
            name: MeasureRequest(
                opening=Opening(
                    kind=kind,
                    backend=self.entries[name].recipe.backend,
                    artifact=self.workspace.artifact_files(name),
                    threads=threads,
                    settings=settings_of(self.workspace, self.entries[name]),
                ),
                data=self.workspace.data,
                settings=self.params.benchmark,
                brief=self.brief,
            )
            for name in names
        }

    def _write(self, found: Benchmark, session: Session | None) -> Benchmark:
        def fill(partial: Path) -> Benchmark:
            if session is not None:
                of = (found.variant, session.reference)
                blocks = [asdict(block) for block in session.blocks if block.variant in of]
                write_text(partial / BLOCKS, json.dumps(blocks, indent=1) + "\n")
            return found

        record = self.workspace.benchmark_record(found.variant)
        return into_folder(record.parent, record.name, fill)


def words(found: Benchmark, deciding: Sequence[str]) -> str:
    """The deciding phases with their speedups, and the peak memory, in a line; else why there are none."""
    said = []
    for phase in deciding:
        if phase not in found.phases:
            return f"{found.status} - {found.reason}"
        own = found.paired.get(phase)
        times = f", {own.value:.2f} times the reference [{own.low:.2f}, {own.high:.2f}]" if own else ""
        said.append(f"{phase} {found.phases[phase].p50:.4g}{times}")
    return "; ".join([*said, f"peak {found.values.get('peak_rss_mb', 0.0):.0f} MB"])


def _decides(file: Path, key: str, minima: Minima) -> bool:
    """Whether the record is under this key, of a quiet machine, and leaves no gate open that sessions could decide."""
    try:
        found = Benchmark.read(file)
    except DataError:
        return False
    return found.key == key and not found.busy and (found.final or not leaves_open(found.paired, minima))
