"""The router as a process: a full disk and noise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drill import promotion


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_costs_no_request(tmp_path: Path) -> None:
    assert promotion.full_disk(tmp_path, 60) == 0


def test_noise_is_refused(tmp_path: Path) -> None:
    assert promotion.malformed(tmp_path, 120) == 0
