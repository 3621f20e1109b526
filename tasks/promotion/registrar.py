"""Who is champion, as the registry says: MLflow's, in a process of its own, or a file where packages are given by path.

MLflow takes seconds to import and the router's callers would wait for that; so each question is a process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Protocol

from tasks.errors import RegistryError
from tasks.promotion.rollout import Slot
from tasks.records.base import Record
from tasks.run.stage import run_stage

QUESTION_S = 120.0


class Registrar(Protocol):
    """Questions that the router asks of a registry."""

    async def champion(self) -> str:
        """The version that is champion; empty when there is none."""
        ...

    async def settle(self, version: str, back: bool, who: str, why: str) -> None:
        """Make a version champion; `back` says that it was before. Doing it twice changes nothing."""
        ...

    async def locate(self, version: str) -> Slot:
        """The package of a version whose verdict is a pass; raises RegistryError for any other."""
        ...


class Alias(Record):
    """The file of a router without a registry."""

    version: str


class FileRegistrar:
    """The champion is a line in a file."""

    def __init__(self, file: Path) -> None:
        """The file is made with the first champion."""
        self._file = file

    async def champion(self) -> str:
        """The version in the file."""
        return Alias.read(self._file).version if self._file.exists() else ""

    async def settle(self, version: str, back: bool, who: str, why: str) -> None:
        """Write the file."""
        Alias(version=version).write(self._file)

    async def locate(self, version: str) -> Slot:
        """There is no registry to look in."""
        raise RegistryError(f"this router serves package folders; version {version} cannot be looked up")


class MlflowRegistrar:
    """MLflow's registry."""

    def __init__(self, model: str) -> None:
        """Of one registered model."""
        self._model = model

    async def champion(self) -> str:
        """The version with the alias `champion`."""
        return (await self._ask("champion")).strip()

    async def settle(self, version: str, back: bool, who: str, why: str) -> None:
        """Move the alias, and write the ledger."""
        await self._ask("settle", version, "back" if back else "up", who, why)

    async def locate(self, version: str) -> Slot:
        """Fetch the package."""
        return Slot.model_validate_json(await self._ask("locate", version))

    async def _ask(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tasks.promotion.registrar", self._model, *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, said = await asyncio.wait_for(process.communicate(), QUESTION_S)
        except TimeoutError:
            process.kill()
            raise RegistryError(f"the registry has not answered within {QUESTION_S:g} s") from None
        if process.returncode:
            lines = said.decode(errors="replace").strip().splitlines()
            raise RegistryError(next((line for line in lines if line.startswith("error:")), lines[-1] if lines else ""))
        return out.decode().strip().splitlines()[-1] if out.strip() else ""


def _slot(found: Any) -> Slot:
    return Slot(version=found.version, package=str(found.package), manifest_sha256=found.manifest_sha256)


def main(argv: list[str]) -> int:
    """Ask MLflow one question."""
    from tasks.registry import versions as registry

    model, word, *rest = argv

    def work() -> None:
        if word == "champion":
            print(registry.champion(model) or "")
        elif word == "locate":
            print(_slot(registry.located(model, rest[0])).model_dump_json())
        elif word == "tag":
            registry.tag(model, *rest)
        elif word == "passed":
            print(json.dumps([_slot(one).model_dump() for one in registry.passed(model)]))
        else:
            version, way, who, why = rest
            registry.follow(model, version, way == "back", who, why)

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
