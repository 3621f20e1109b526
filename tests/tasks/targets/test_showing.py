"""A bundle in the terminal: what would fit, and the search that looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tasks.records.bundles import Bundle, Component, Part
from tasks.targets.showing import search_for, show


def bundle(budget: float | None, weights: float = 100.0, rest: float = 2.5) -> Bundle:
    sizes: dict[Component, float] = {"weights": weights, "metadata": rest}
    parts = tuple(
        Part(component=one, name=one, download_bytes=round(mb * 1e6), installed_bytes=round(mb * 1e6))
        for one, mb in sizes.items()
    )
    within = None if budget is None else weights + rest <= budget
    return Bundle(
        target="ios", kind="ios", device="iphone", status="ok" if within else "failed", reason="said", parts=parts,
        variant="mlx-int4", size_mb=weights + rest, budget_mb=budget, within=within,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "asked"),
    [(50.0, "make search MAX_SIZE_MB=47 "), (200.0, ""), (None, ""), (2.0, "")],
)
def test_a_budget_that_is_exceeded_asks_the_search_for_what_the_rest_leaves(budget: float | None, asked: str) -> None:
    found = search_for(bundle(budget))
    assert found.startswith(asked)
    assert bool(found) == bool(asked)


def test_it_is_said_beside_what_would_fit(capsys: pytest.CaptureFixture[str]) -> None:
    show(bundle(50.0), Path("out"), Console(width=200))
    said = capsys.readouterr().out
    assert "looked for: make search MAX_SIZE_MB=47 (search: {only: [mlx-*]}" in said
    assert "102.5 of 50 MB" in said
