"""The gates as Great Expectations' own pages: the suite, and a validation per variant."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tasks.config import Gate
from tasks.gates.suites import SUITE, frame, great_expectations, suite, thresholds
from tasks.records import ScoreRow

SITE = "gates"


def build(gate: Gate, rows: Sequence[ScoreRow], out: Path) -> None:
    """Fill the folder `out` with data docs, index.html first; no gate or no row leaves it empty.

    The pages are for people; verdicts rest on the same suite, read by `suites.validate`. They hold the time of their
    making, so nothing may depend on them.
    """
    limits = thresholds(gate)
    if not limits or not rows:
        return
    gx = great_expectations()
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.base import ProgressBarsConfig

    with tempfile.TemporaryDirectory() as scratch:
        context = gx.get_context(mode="file", project_root_dir=scratch)
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        context.add_data_docs_site(
            site_name=SITE,
            site_config={
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(out.resolve())},
            },
        )
        source = context.data_sources.add_pandas(SUITE)
        batches = source.add_dataframe_asset(SUITE).add_batch_definition_whole_dataframe(SUITE)
        checked = gx.ValidationDefinition(name=SUITE, data=batches, suite=context.suites.add(suite(limits)))
        definition = context.validation_definitions.add(checked)
        for row in rows:
            run = RunIdentifier(run_name=row.variant)
            definition.run(batch_parameters={"dataframe": frame(row, limits)}, run_id=run)
        context.build_data_docs(site_names=[SITE])
