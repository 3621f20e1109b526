"""Who says which version is champion."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import RegistryError
from tasks.promotion.registrar import FileRegistrar, MlflowRegistrar
from tests import ROOT


def test_the_registrars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    assert asyncio.run(_settled(tmp_path / "champion.json")) == ("", "7")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}")
    with pytest.raises(RegistryError, match="has no model"):
        asyncio.run(MlflowRegistrar("nobody").champion())


async def _settled(file: Path) -> tuple[str, str]:
    registrar = FileRegistrar(file)
    before = await registrar.champion()
    await registrar.settle("7", False, "ann", "why")
    with pytest.raises(RegistryError, match="package folders"):
        await registrar.locate("7")
    return before, await registrar.champion()
