"""Check the prepared text before anything uses it: schema, empties, duplicates, lengths, overlap between splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.errors import DataError
from tasks.gates.context import batch_definition, ephemeral, great_expectations
from tasks.records.base import Record

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("split", "text", "size", "sha256")
SPLITS = ("evaluation", "calibration")
EXAMPLES = 3
SHOWN_TEXT = 60
SHARED = "splits_with_this_text"  # derived: in how many splits a row's text occurs


class DataLine(Record):
    """One expectation on the data: what was expected, what was seen, and rows that broke it."""

    name: str
    passed: bool
    observed: str
    examples: tuple[str, ...] = ()


class DataCheck(Record):
    """The suite's answer; `counts` holds the rows per split."""

    passed: bool
    lines: tuple[DataLine, ...]
    counts: dict[str, int]


def check_data(frame: pd.DataFrame, sizes: tuple[int, int], unit: str, least: tuple[int, int]) -> DataCheck:
    """Validate prepared rows: columns split ("evaluation" or "calibration"), text, size (int), sha256.

    Row counts, `least` of both splits, are minimums; sizes, in `unit`, must lie between the two given. When a column is
    absent the rows are not looked at. A frame of no rows and no columns counts as empty data.
    """
    rows = (frame if len(frame.columns) else frame.reindex(columns=list(COLUMNS))).reset_index(drop=True)
    lines = _validate(rows, _schema(), unit)
    if all(line.passed for line in lines):
        rows[SHARED] = rows.groupby("sha256")["split"].transform("nunique")
        lines += _validate(rows, _rows(sizes, unit, dict(zip(SPLITS, least, strict=True))), unit)
    counts = {name: int((rows["split"] == name).sum()) if "split" in rows else 0 for name in SPLITS}
    return DataCheck(passed=all(line.passed for line in lines), lines=lines, counts=counts)


def require_clean(check: DataCheck) -> None:
    """Do nothing when the data passed; else raise DataError listing what failed, with example rows."""
    if check.passed:
        return
    told = [
        f"- {line.name}: {line.observed}" + "".join(f"\n    {example}" for example in line.examples)
        for line in check.lines
        if not line.passed
    ]
    raise DataError(
        "the evaluation and calibration data failed its checks:\n" + "\n".join(told) + "\n"
        "mend the rows, point data.source (or data.calibration_source) at other text, or ask for fewer rows"
    )


def _schema() -> dict[str, Any]:
    expect = great_expectations().expectations
    return {f"column {name} exists": expect.ExpectColumnToExist(column=name) for name in COLUMNS}


def _rows(sizes: tuple[int, int], unit: str, least: Mapping[str, int]) -> dict[str, Any]:
    """Line -> expectation, in the order of the report."""
    expect = great_expectations().expectations
    from great_expectations.expectations.row_conditions import Column

    present = {f"{name} has no nulls": expect.ExpectColumnValuesToNotBeNull(column=name) for name in COLUMNS}
    counted = {
        f"at least {rows} {name} rows": expect.ExpectTableRowCountToBeBetween(
            min_value=rows, row_condition=Column("split") == name
        )
        for name, rows in least.items()
    }
    return {
        **present,
        f"split is {' or '.join(SPLITS)}": expect.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
        "text is a string": expect.ExpectColumnValuesToBeOfType(column="text", type_="str"),
        "text is not empty": expect.ExpectColumnValuesToMatchRegex(column="text", regex=r"\S"),
        f"{unit} are whole numbers": expect.ExpectColumnValuesToBeInTypeList(
            column="size", type_list=["int", "int32", "int64"]
        ),
        f"{unit} between {sizes[0]} and {sizes[1]}": expect.ExpectColumnValuesToBeBetween(
            column="size", min_value=sizes[0], max_value=sizes[1]
        ),
        "sha256 is a digest": expect.ExpectColumnValuesToMatchRegex(column="sha256", regex=r"^[0-9a-f]{64}$"),
        "no text twice in a split": expect.ExpectCompoundColumnsToBeUnique(column_list=["split", "sha256"]),
        "no text in both splits": expect.ExpectColumnValuesToBeBetween(column=SHARED, max_value=1),
        **counted,
    }


def _validate(rows: pd.DataFrame, expectations: Mapping[str, Any], unit: str) -> tuple[DataLine, ...]:
    """Run the expectations as one suite; the library returns answers in an order of its own, ours is kept."""
    gx = great_expectations()
    for name, expectation in expectations.items():
        expectation.meta = {"line": name}
    suite = gx.ExpectationSuite(name="edgewright-data", expectations=list(expectations.values()))
    batch = batch_definition(ephemeral(), "edgewright-data").get_batch(batch_parameters={"dataframe": rows})
    answers = batch.validate(suite, result_format={"result_format": "COMPLETE"}).results
    found = {answer.expectation_config.meta["line"]: answer for answer in answers}
    return tuple(_line(name, found.get(name), rows, unit) for name in expectations)


def _line(name: str, answer: Any, rows: pd.DataFrame, unit: str) -> DataLine:
    if answer is None:
        return DataLine(name=name, passed=False, observed="the suite gave no answer")
    broken = answer.result.get("unexpected_index_list") or []
    return DataLine(
        name=name,
        passed=bool(answer.success),
        observed=_observed(answer, len(rows)),
        examples=() if answer.success else _examples(broken, rows, unit),
    )


def _observed(answer: Any, total: int) -> str:
    """What the suite saw, in words."""
    problems = _exceptions(answer.exception_info)
    if problems:
        return f"could not be checked: {'; '.join(problems)}"
    if "observed_value" in answer.result:
        return f"found {answer.result['observed_value']}"
    if "unexpected_count" in answer.result:
        return f"{answer.result['unexpected_count']} of {total} rows break it"
    return "as expected" if answer.success else "not there"


def _exceptions(info: Mapping[str, Any]) -> list[str]:
    """Messages of exceptions inside the library, which reports one at the top or several by metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    return [str(entry["exception_message"]).strip() for entry in entries if entry.get("raised_exception")]


def _examples(index: Sequence[int], rows: pd.DataFrame, unit: str) -> tuple[str, ...]:
    """The first broken rows, each with its number, split and the beginning of its text."""
    shown = []
    for number in index[:EXAMPLES]:
        row = rows.loc[number]
        text = str(row["text"])
        cut = text if len(text) <= SHOWN_TEXT else text[:SHOWN_TEXT] + "..."
        shown.append(f"row {number} ({row['split']}, {row['size']} {unit}): {cut!r}")
    return tuple(shown)
