"""Serve behind a router, and let a new version take over: `python -m tasks.promotion`."""

from __future__ import annotations

from tasks.promotion.command import main

if __name__ == "__main__":
    raise SystemExit(main())
