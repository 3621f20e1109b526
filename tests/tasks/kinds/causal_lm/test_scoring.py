"""The reference's log-probabilities: whether the disk holds them is known before the model is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tasks.errors import ResourceError
from tasks.kinds.causal_lm import scoring


def test_a_disk_too_small_for_a_large_vocabulary_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 262_144}))
    free = shutil.disk_usage(tmp_path)._replace(free=4 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    scoring._check_disk(tmp_path, tmp_path, 6_000)
    with pytest.raises(
        ResourceError, match=r"12,800 predictions over 262,144 tokens .*evaluation_rows.* 4.0 GB are free"
    ):
        scoring._check_disk(tmp_path, tmp_path, 12_800)
