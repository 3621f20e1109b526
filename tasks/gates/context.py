"""Great Expectations itself: the library, and contexts that leave nothing behind but the pages they are asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SITE = "gates"


def great_expectations() -> Any:
    """The library, imported late (it takes seconds) and without reports to its makers."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import great_expectations.expectations

    return gx


def ephemeral() -> Any:
    """A context in memory."""
    return _quiet(great_expectations().get_context(mode="ephemeral"))


@contextmanager
def documented(pages: Path | None) -> Iterator[Any]:
    """A context whose suites and validations fill the folder `pages` with data docs, index.html first, at the end.

    The pages hold the time of their making, so nothing may depend on them.
    """
    if pages is None:
        yield ephemeral()
        return
    with tempfile.TemporaryDirectory() as scratch:
        context = _quiet(great_expectations().get_context(mode="file", project_root_dir=scratch))
        context.add_data_docs_site(
            site_name=SITE,
            site_config={
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(pages.resolve())},
            },
        )
        yield context
        context.build_data_docs(site_names=[SITE])


def _quiet(context: Any) -> Any:
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def batch_definition(context: Any, name: str) -> Any:
    """A whole-table batch of data frames; reuse it for many frames."""
    source = context.data_sources.add_pandas(name)
    return source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
