"""Make a version champion: with traffic, step by step, where a router serves; else by the registry's alias alone.

The flow behind it can be killed and started again at any moment; the router goes on without it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flows import server
from tasks import config, paths, registry
from tasks.errors import EXIT_OK, ResourceError
from tasks.promotion.__main__ import packaged
from tasks.promotion.rollout import Slot
from tasks.promotion.store import FOLDER, Store
from tasks.records import GateReport
from tasks.stage import run_stage


def parser() -> argparse.ArgumentParser:
    """Command line of `make promote`."""
    made = argparse.ArgumentParser(
        prog="python -m flows.promote", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--folder", type=Path, default=FOLDER, help=f"the router's folder ({FOLDER})")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--version", help="a version's number in the registry; left out, the candidate")
    which.add_argument("--package", type=Path, help="a package folder, where the router serves one")
    made.add_argument("--why", default="passed every gate", help="the reason, for the ledger")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit 0 champion, 1 rolled back or refused by its verdict, 2 bad input, 3 inconclusive."""
    arguments = parser().parse_args(argv)

    def work() -> int:
        store, name = Store(arguments.folder), config.load().track.model_name
        if not store.runs():
            if arguments.package:
                raise ResourceError(f"no router is at work on {store.folder}; start one with `make route`")
            verdicts = GateReport.read(paths.VERDICTS)
            change = registry.promote(name, arguments.version, verdicts, registry.actor(), arguments.why)
            print(f"{name}: {change.reason} (no router is at work, so no traffic was led)")
            return EXIT_OK
        slot = packaged(arguments.package) if arguments.package else Slot(version=version(name, arguments.version))
        print(led(store, slot, arguments.why))
        return EXIT_OK

    return run_stage(work)


def led(store: Store, slot: Slot, why: str) -> str:
    """Run the flow; returns how it ended. Raises RolledBackError when the version did not become champion."""
    otherwise = "the router goes on by itself, `python -m tasks.promotion status` says how far it is"
    with server.reached("the promotion", otherwise):
        from flows.takeover import promote

        return promote(str(store.folder), slot, why)


def version(name: str, asked: str | None) -> str:
    """A version's number; the candidate's when none is named."""
    return asked or registry.located(name, registry.CANDIDATE).version


if __name__ == "__main__":
    raise SystemExit(main())
