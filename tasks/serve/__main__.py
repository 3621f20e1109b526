"""Serve a model over HTTP: `python -m tasks.serve`."""

from __future__ import annotations

from tasks.serve.command import main

if __name__ == "__main__":
    raise SystemExit(main())
