"""The model registry by hand: promote by a passed verdict, roll back, show; every change in a ledger."""

from __future__ import annotations

import argparse

from tasks.params.load import load_params
from tasks.records.verdict import GateReport
from tasks.registry import versions
from tasks.registry.store import actor
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tasks.registry", description=__doc__)
    actions = made.add_subparsers(dest="action", required=True)
    up = actions.add_parser("promote", help="make a version champion, by the passed verdict in artifacts/gate")
    up.add_argument("--version", help="a version's number; left out, the candidate")
    up.add_argument("--anyway", action="store_true", help="also when the champion passed more; the ledger says so")
    back = actions.add_parser("rollback", help="swap champion and previous")
    for one, usual in ((up, "passed every gate"), (back, "rolled back by hand")):
        one.add_argument("--why", default=usual, help="the reason, for the ledger")
    actions.add_parser("show", help="versions, aliases and the ledger")
    for one in actions.choices.values():
        one.add_argument("--model", help="a registered model's name; left out, track.model_name of params.yaml")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run one action; exit 0 done, 1 refused by a failed verdict, 2 bad input, 3 refused as inconclusive."""
    arguments = parser().parse_args(argv)

    def work() -> None:
        name = arguments.model or load_params().registered_name
        if arguments.action == "show":
            print("\n".join(versions.show(name)))
        elif arguments.action == "rollback":
            print(f"{name}: {versions.rollback(name, actor(), arguments.why).reason}")
        else:
            report, anyway = GateReport.read(Workspace().verdicts), arguments.anyway
            change = versions.promote(name, arguments.version, report, actor(), arguments.why, anyway)
            print(f"{name}: {change.reason}")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
