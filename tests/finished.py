"""A finished pipeline run in the current folder, as the stages before `package` leave it, for tests."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from tasks.gates import verdict
from tasks.kinds.base import DataCard
from tasks.params.whole import Whole
from tasks.records.scores import Metric, Recommendation
from tasks.records.terms import Outcome
from tasks.records.verdict import Expectation, GateReport, Verdict
from tasks.run.workspace import Workspace
from tasks.sources.files import Source
from tests import factories as make

WINNER = "openvino-int8"
CRASHED = Metric(state="missing", reason="crash: out of memory")
FILES: dict[str, bytes] = {
    "openvino_model.xml": b'<?xml version="1.0"?>\n<net name="Model0" version="11">\n</net>\n',
    "openvino_model.bin": bytes(range(256)) * 8,
    "openvino_tokenizer.xml": b'<?xml version="1.0"?>\n<net name="tokenizer" version="11">\n</net>\n',
    "openvino_detokenizer.xml": b'<?xml version="1.0"?>\n<net name="detokenizer" version="11">\n</net>\n',
    "tokenizer.json": b"{}\n",
}
TOKENIZER: dict[str, bytes] = {
    "tokenizer.json": b"{}\n",
    "tokenizer_config.json": b"{}\n",
    "chat_template.jinja": b"{{ messages }}",
    "config.json": b"{}\n",
}


def finished(
    winner: str | None = WINNER,
    outcome: Outcome = "pass",
    files: Mapping[str, bytes] = FILES,
    tokenizer: Mapping[str, bytes] = TOKENIZER,
    decode: float = 75.0,
    backend: str = "openvino",
) -> Whole:
    """Write every record and file; another `decode` makes another result. Returns the parameters, also on disk."""
    values = make.params().model_dump(mode="json", exclude_none=True)
    Path("params.yaml").write_text(yaml.safe_dump(values))
    make.hardware().write(Workspace().hardware)
    make.profile().write(Workspace().profile)
    _files(Workspace().model, tokenizer)
    Source(name="Tiny", source="sample", origin="made for tests", sha256="1" * 64).write(Workspace().source)
    data_card().write(Workspace().data_card)
    recipe = make.recipe(WINNER, backend=backend)
    _files(Workspace().artifact_files(WINNER), files)
    artifact = make.artifact(WINNER, files=tuple(files), recipe=recipe, versions={"openvino": "2026.4.1"})
    artifact.write(Workspace().artifact_record(WINNER))
    make.plan_entry(WINNER).write(Workspace().plan(WINNER))
    make.evaluation(WINNER).write(Workspace().evaluation_record(WINNER))
    make.benchmark(WINNER).write(Workspace().benchmark_record(WINNER))
    rows = (
        make.row("torch-fp32", metrics=make.good_metrics(decode_speedup=1.0, memory_share=1.0)),
        make.row(WINNER, backend=backend, metrics=make.good_metrics(decode_tokens_per_s=decode)),
        make.row("gguf-q8_0", status="failed", reason="crash: out of memory", metrics={"retention": CRASHED}),
    )
    recommendation = make.recommendation(*rows)
    recommendation.write(Workspace().recommendation)
    report(recommendation, winner, outcome).write(Workspace().verdicts)
    return make.params()


def data_card() -> DataCard:
    """What the data of the run was."""
    return DataCard(
        source="gsm8k", evaluation_rows=40, evaluation_tokens=7488, calibration_rows=32,
        evaluation_sha256="e" * 64, calibration_sha256="c" * 64, checks=(),
    )  # fmt: skip


def report(recommendation: Recommendation, winner: str | None = WINNER, outcome: Outcome = "pass") -> GateReport:
    """Verdicts on these results, written by hand: the winner (or the one candidate that might have won) and a crash."""
    retention = Expectation(
        gate="min_retention", metric="retention", against="torch-fp32", observed=0.996 if outcome == "pass" else 0.9,
        minimum=0.95, maximum=None, outcome=outcome, reason="as the test wants it",
        miss=0.0526 if outcome == "fail" else None,
    )  # fmt: skip
    crashed = retention.model_copy(update={"observed": None, "outcome": "fail", "reason": "missing", "miss": None})
    return GateReport(
        outcome=outcome,
        reason=f"{WINNER} passes every gate" if outcome == "pass" else "no candidate passed",
        winner=winner if outcome == "pass" else None,
        verdicts=(
            Verdict(variant=WINNER, outcome=outcome, expectations=(retention,)),
            Verdict(variant="gguf-q8_0", outcome="fail", expectations=(crashed,)),
        ),
        nearest=() if outcome == "pass" else (WINNER, "gguf-q8_0"),
        results_digest=verdict.results_digest(recommendation),
    )


def _files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@functools.cache
def _migrated() -> bytes:
    """An empty MLflow database; making one takes seconds, copying it none."""
    import mlflow

    file = Path(tempfile.mkdtemp()) / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file.read_bytes()


def database(file: Path) -> str:
    """Write an empty MLflow database to `file` and return its address."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_migrated())
    return f"sqlite:///{file}"
