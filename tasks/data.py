"""Data: split text into calibration and evaluation, check it, and fix the token ids all runtimes share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tasks import config, paths
from tasks.disk import fresh_folder, replace_folder
from tasks.models import text_data
from tasks.models.task_data import Encoder, task_set
from tasks.models.text_data import CalibrationSet, DataCard, Encode, Splits
from tasks.models.tokens import encoder
from tasks.stage import run_stage


def data(params: config.Data, probe_tokens: int, tokenizer: Path, out: Path) -> DataCard:
    """Write the data folder `out`; raises DataError when a check fails."""
    encode = encoder(tokenizer)
    own = text_data.read_rows(params.calibration_source) if params.calibration_source else None
    splits = text_data.split(text_data.read_rows(params.source), own, params)
    lines = check(splits, encode, params)
    partial = fresh_folder(out)
    evaluation = text_data.evaluation_set(splits.evaluation, encode, params.max_tokens, params.evaluation_rows)
    evaluation.write(partial / paths.EVALUATION_SET.name)
    CalibrationSet(texts=splits.calibration).write(partial / paths.CALIBRATION_SET.name)
    text_data.prompts(splits.spare, encode, params).write(partial / paths.PROMPTS.name)
    text_data.probe(splits.probe, encode, probe_tokens).write(partial / paths.PROBE.name)
    asked = task_set(splits.uncalibrated, Encoder(tuple(encode("")), encoder(tokenizer, special=False)), params)
    asked.write(partial / paths.TASK_SET.name)
    card = DataCard(
        source=params.source,
        evaluation_rows=len(evaluation.rows),
        evaluation_tokens=sum(len(row.ids) for row in evaluation.rows),
        calibration_rows=len(splits.calibration),
        choices=len(asked.choices),
        answers=len(asked.open),
        evaluation_sha256=text_data.digest(splits.evaluation),
        calibration_sha256=text_data.digest(splits.calibration),
        checks=tuple(lines),
    )
    card.write(partial / paths.DATA_CARD.name)
    replace_folder(partial, out)
    return card


def check(splits: Splits, encode: Encode, params: config.Data) -> Sequence[str]:
    """Run the data suite over both splits; raises DataError listing what failed, returns a line per check."""
    import pandas as pd

    from tasks.gates.data_checks import check_data, require_clean

    rows = [
        {
            "split": name,
            "text": text,
            "tokens": len(encode(text)[: params.max_tokens]),
            "text_sha256": text_data.digest([text]),
        }
        for name, texts in (("evaluation", splits.evaluation), ("calibration", splits.calibration))
        for text in texts
    ]
    result = check_data(pd.DataFrame(rows), params.max_tokens, len(splits.evaluation), params.calibration_rows)
    require_clean(result)
    return [f"{line.name}: {line.observed}" for line in result.lines]


def parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    return argparse.ArgumentParser(prog="python -m tasks.data", description=__doc__)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    parser().parse_args(argv)

    def work() -> None:
        params = config.load()
        card = data(params.data, params.convert.probe_tokens, paths.MODEL, paths.DATA)
        print(
            f"{card.source}: {card.evaluation_rows} rows to evaluate, {card.calibration_rows} to calibrate, "
            f"{card.choices} choices, {card.answers} prompts to answer"
        )

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
