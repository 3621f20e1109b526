"""Tests, and the benches and drills beside them; the folders mirror the sources."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the checkout
