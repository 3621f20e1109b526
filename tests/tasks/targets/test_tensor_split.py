"""Which splits of a model over accelerators are possible, and why others are not."""

from __future__ import annotations

import pytest

from tasks.targets.triton.tensor_split import split
from tests import factories as make


@pytest.mark.parametrize(("heads", "kv_heads", "parts", "ok", "words"), [
    (9, 3, 1, True, "9 of 9 heads and 3 of 3 heads of keys and values in each"),
    (9, 3, 2, False, "9 heads cannot be shared out evenly among 2 accelerators; allowed: 1, 3, 9"),
    (9, 3, 3, True, "3 of 9 heads and 1 of 3 heads"),
    (9, 3, 9, True, "1 of 9 heads and 1 of 3 heads of keys and values in each, each head of keys"),
    (32, 8, 4, True, "8 of 32 heads and 2 of 8"),
    (32, 8, 16, True, "copied to 2"),
    (24, 6, 4, False, "6 heads of keys and values can be neither shared out nor copied evenly among 4 accelerators"),
    (32, 8, 64, False, "32 heads cannot be shared out evenly"),
    (9, 3, 0, False, "0 is no number of accelerators"),
    (0, 0, 2, False, "tiny does not say how many heads"),
])  # fmt: skip
def test_splits(heads: int, kv_heads: int, parts: int, ok: bool, words: str) -> None:
    found = split(make.profile(heads=heads, kv_heads=kv_heads), parts)
    assert (found.ok, words in found.reason) == (ok, True), found.reason
    if ok:
        assert found.heads * parts == heads
        assert found.kv_heads * parts == kv_heads * found.copies
