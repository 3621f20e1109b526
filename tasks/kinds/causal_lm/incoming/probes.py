"""Texts on which two tokenizers must agree before one is taken for the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

# Each has something that tokenizers are known to cut differently.
PROBES: tuple[str, ...] = (
    "Hello world 123",
    " two  spaces   and    four",
    "trailing space ",
    "newline\nand two\n\nand three\n\n\nend\r\nwindows",
    "\ttab\t\ttwo\n\t- indented\n    four spaces",
    "3.14 + 42 = ? 1234567890 10,000.50 0xFF 2023-11-05",
    "It's we're I'll THEY'VE don't 'quoted' \"double\"",
    "def f(x):\n\treturn x ** 2  # comment\n\nprint(f(3) != 9)",
    "naïve café — ünïcode façade",
    "e\u0301 combining and \u00e9 composed",  # é as two characters and as one
    "漢字 仮名 カタカナ 中文，标点。",
    "한국어 텍스트",
    "Привет, мир! Ελληνικά",
    "مرحبا بالعالم 123",
    "नमस्ते दुनिया ภาษาไทย",
    "🙂 👩‍👩‍👧‍👦 🏳️‍🌈",
    'x = {\'a\': [1, 2], "b": <tag attr="v"/>}; $100 & 50% @user #tag',
    "CamelCase snake_case kebab-case UPPER lower MiXeD",
    "https://example.com/path?q=1&r=two#frag user@mail.org",
    "!!!??? ... --- === *** ___ \\\\ ||",
    "\u00a0non-breaking\u2003em\u200bzero width",
    "ﷺ ½ ² ™ № Ⅷ ﬁ",
    "a",
    " ",
    "\n",
)

Encode = Callable[[str], Sequence[int]]


def with_special(tokens: Iterable[str]) -> tuple[str, ...]:
    """The probes, and some with these special tokens written out among other text."""
    shown = [token for token in tokens if token][:8]
    return (*PROBES, *(f"before {token} after{token}\nnext" for token in shown), "".join(shown))


def difference(expected: Encode, found: Encode, probes: Iterable[str] = PROBES) -> str:
    """The first probe that both do not cut alike, with the ids of each, in words; empty when there is none.

    >>> difference(lambda text: [1], lambda text: [2], ["a"])
    "'a' ([2] instead of [1])"
    """
    for text in probes:
        want, have = list(expected(text)), list(found(text))
        if want != have:
            at = next((i for i, pair in enumerate(zip(want, have, strict=False)) if pair[0] != pair[1]), 0)
            first = max(0, min(at, len(want), len(have)) - 2)
            return f"{text!r} ({have[first : first + 8]} instead of {want[first : first + 8]})"
    return ""
