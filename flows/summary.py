"""The run's summary as artifacts in Prefect's UI: the stages as a table, the scorecard, a link to the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows import failures
from flows.progress import duration
from flows.steps import Result
from tasks.errors import DataError
from tasks.run.workspace import Workspace


def publish(results: Sequence[Result], root: Path) -> None:
    """Create the artifacts; the scorecard and the link only when there is one."""
    from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

    create_table_artifact(table=rows(results), key="edgewright-stages", description="Every stage and how it ended")
    text = scorecard() if failures.has_own_scores(results) else ""
    if text:
        create_markdown_artifact(markdown=text, key="edgewright-scorecard", description="Scorecard and verdicts")
    page = root.resolve() / Workspace().report / "index.html"
    if page.exists():
        create_link_artifact(link=page.as_uri(), link_text="Report", key="edgewright-report")


def rows(results: Sequence[Result]) -> list[dict[str, str]]:
    """One line per stage."""
    return [
        {"stage": r.name, "status": r.status, "time": duration(r.seconds) if r.seconds else "", "why": r.reason}
        for r in results
    ]


def spans(results: Sequence[Result]) -> dict[str, float]:
    """Seconds from the first start to the last end of each kind of stage that ran; those of one kind overlap.

    >>> spans([Result("convert@a", "done", 5.0, began=10.0), Result("convert@b", "done", 5.0, began=12.0)])
    {'convert': 7.0}
    """
    kinds: dict[str, list[Result]] = {}
    for result in results:
        if result.began:
            kinds.setdefault(result.name.partition("@")[0], []).append(result)
    return {
        kind: max(one.began + one.seconds for one in of) - min(one.began for one in of) for kind, of in kinds.items()
    }


def scorecard() -> str:
    """The scorecard as Markdown, or nothing when this run has not come that far."""
    from tasks.reporting.markdown import markdown
    from tasks.reporting.reading import scores

    try:
        return markdown(scores(Workspace()))
    except DataError:
        return ""
