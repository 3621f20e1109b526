"""Reading what was written when fields of a record had other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_new_names(raw: Any, new_names: Mapping[str, str]) -> Any:
    """The mapping with its old keys under their new names; anything else as it is.

    >>> with_new_names({"turn": 2, "version": "1"}, {"turn": "restart"})
    {'restart': 2, 'version': '1'}
    """
    return {new_names.get(key, key): value for key, value in raw.items()} if isinstance(raw, dict) else raw
