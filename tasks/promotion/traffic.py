"""Who answers a request: the champion or the challenger, by share, and the same one for the same key. Pure."""

from __future__ import annotations

import hashlib

PARTS = 10_000  # the finest share: a hundredth of a percent


def place(key: str, salt: str) -> float:
    """Place a key among all keys, percent in [0, 100): the same for the same key and salt.

    Another rollout has another salt, so that it is not always the same callers who meet what is new first.

    >>> 0 <= place("ann", "2") < 100 and place("ann", "2") == place("ann", "2") != place("ann", "3")
    True
    """
    digest = hashlib.sha256(f"{salt}\\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % PARTS * 100 / PARTS


def to_challenger(key: str, salt: str, share: float) -> bool:
    """Tell whether the challenger, who has `share` percent of the traffic, answers this key.

    A key that the challenger answers stays with it while the share grows.
    """
    return place(key, salt) < share
