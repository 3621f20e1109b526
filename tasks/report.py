"""Report: the scorecard in the terminal or as Markdown, and one self-contained page about the whole run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

from tasks.params.load import load_params
from tasks.params.pipeline import Params
from tasks.records.base import Record
from tasks.reporting.markdown import markdown as as_markdown
from tasks.reporting.page import page
from tasks.reporting.reading import findings, scores
from tasks.reporting.terminal import print_scorecard
from tasks.run.disk import fresh_folder, replace_folder
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace

PAGE, README = "index.html", "README.md"

R = TypeVar("R", bound=Record)


def report(workspace: Workspace, params: Params) -> Path:
    """Write the page into the workspace's folder, whole or not at all; raises DataError for a broken record."""
    text, out = page(findings(workspace, params)), workspace.report
    fresh = fresh_folder(out)
    (fresh / PAGE).write_text(text, encoding="utf-8")
    replace_folder(fresh, out)
    return out / PAGE


FORMS = (
    argument("--terminal", action="store_true", help="print the scorecard alone, from the files as they are"),
    argument("--markdown", action="store_true", help="print the scorecard as GitHub-flavoured Markdown"),
)
WIDTH = argument("--width", type=int, help="characters a line of the terminal's table may have")


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(terminal: bool, markdown: bool, width: int | None) -> None:
        workspace = Workspace()
        if terminal:
            print_scorecard(scores(workspace), width)
        elif markdown:
            sys.stdout.write(as_markdown(scores(workspace)))
        else:
            print(f"report: {report(workspace, load_params())}")

    return main_of("tasks.report", __doc__, work, argv, FORMS, WIDTH)


if __name__ == "__main__":
    raise SystemExit(main())
