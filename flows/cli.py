"""The commands of the Makefile as subcommands, for people without make: `edgewright run --model X --profile quick`.

Each takes the options of the module behind it; `edgewright COMMAND --help` lists them. Run it in the project's root.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import EXIT_BAD_INPUT, EXIT_OK

OPTION = ("-h", "--help", "help")


@dataclass(frozen=True)
class Command:
    """What a subcommand stands for."""

    module: str  # as `python -m` takes it
    about: str
    words: tuple[str, ...] = ()  # before what the user adds

    def call(self, more: list[str]) -> int:
        """Call the module's `main`; returns its exit code."""
        module = importlib.import_module(self.module)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{self.module}.__main__")
        code: int | None = module.main([*self.words, *more])
        return code or EXIT_OK


COMMANDS = {
    "run": Command("flows.run", "optimize, measure, gate, package, track and promote"),
    "repro": Command("flows.dvc.alone", "the same pipeline by DVC alone, without Prefect and without promotion"),
    "search": Command("flows.search", "look for the best recipe within limits and a time"),
    "advise": Command("tasks.advise", "which frameworks could carry a checkpoint, pictures and sound among them"),
    "gate": Command("tasks.gate", "the verdict as an exit code", ("--enforce",)),
    "scorecard": Command("tasks.report", "the scorecard of the last run as Markdown", ("--markdown",)),
    "ui": Command("flows.ui", "Prefect's and MLflow's pages for this checkout"),
    "serve": Command("tasks.serve", "serve the champion at http://127.0.0.1:8080/v1"),
    "loadtest": Command("tasks.serve.load.loadtest", "load the server that runs until it no longer keeps up"),
    "deploy-to": Command("tasks.bundle", "what is shipped to a target, from its own verdicts"),
    "placement": Command("tasks.place", "where each runtime really puts the variants, and why not where asked"),
    "deploy": Command("flows.deploy", "serve what runs by a schedule: re-optimization, monitor, weekly review"),
    "route": Command("tasks.promotion", "serve behind a router that can let a new version take over", ("serve",)),
    "promote": Command("flows.promote", "make a passed version the champion"),
    "ab": Command("tasks.promotion", "compare a version with the champion at a fixed share of the traffic", ("ab",)),
    "rollback": Command("tasks.promotion", "all traffic and the alias back to the version before", ("rollback",)),
    "status": Command("tasks.promotion", "where the rollout stands, and what happened last", ("status",)),
    "monitor": Command("flows.monitor", "watch the server: figures, drift, alerts, repairs"),
    "live": Command("monitoring.show.live", "a page with live charts of the server"),
    "weekly": Command("monitoring.show.weekly", "the review of the last seven days"),
}


def listing() -> str:
    """The help text."""
    rows = [f"  {name:<10} {command.about}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: edgewright COMMAND [OPTIONS]", "", str(__doc__).strip(), "", "commands:", *rows])


def main(argv: list[str] | None = None) -> int:
    """Call the command that is named; exit code 2 where there is no such one."""
    name, *more = (sys.argv[1:] if argv is None else argv) or [OPTION[0]]
    if name in OPTION:
        print(listing())
        return EXIT_OK
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        print(f"error: no command {name!r}; {hint}allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    # As in the Makefile: commands that DVC and others start find this environment, and nothing calls home.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return COMMANDS[name].call(more)


if __name__ == "__main__":
    raise SystemExit(main())
