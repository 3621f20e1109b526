"""Chat templates, which are programs of strangers: they come to an end, and to no size."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tasks.errors import DataError, ModelError
from tasks.kinds.causal_lm.templates import ChatTemplate

LOOP = (
    "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"
)
DEEP = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}"
WIDE = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
DOUBLED = "{% set s = namespace(v='x') %}{% for i in range(64) %}{% set s.v = s.v OP s.v %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (LOOP, "does not come to an end"),
        (WIDE, "does not come to an end"),
        (DEEP, "RecursionError|recursion|does not come to an end"),
        (DOUBLED.replace("OP", "~"), "puts together"),
        (DOUBLED.replace("OP", "+"), "puts together"),
        ("{{ 'x' * 999999999 }}", "repeats"),
        ("{{ [0] * 999999999 }}", "repeats"),
        ("{{ 9 ** 999999999 }}", "powers"),
        ("{{ 'x'.ljust(999999999) }}", "fills a text"),
        ("{{ '%999999999d' % 1 }}", "fills a text"),
        ("{{ '{:999999999}'.format(1) }}", "fills a text"),
        ("{{ '{:{}}'.format(1, 999999999) }}", "fills a text"),
        ("{{ 'x'|center(999999999) }}", "fills a text"),
        ("{{ 'x'|indent(width=999999999) }}", "fills a text"),
        ("{% for a in range(99999) if range(9999)|sum < 0 %}{% endfor %}", "does not come to an end"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|refuses"),
        ("{{ lipsum(9) }}", "lipsum"),
        ("{{ messages.append(1) }}", "refuses"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
    ids=lambda value: value[:40],
)
def test_what_a_template_must_not_do_ends_in_words(template: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(DataError, match=said):
        ChatTemplate(template, {}, Path("model"), seconds=0.3).render([{"role": "user", "content": "x"}])
    assert time.monotonic() - began < 10


def test_what_it_may_do_is_as_before() -> None:
    template = (
        "{%- macro say(m) %}{{ m.role ~ ': ' + m['content'] * 2 }}{% endmacro %}"
        "{% for m in messages if m.role != 'system' %}{{ say(m) }}{% if not loop.last %}, {% endif %}{% endfor %}"
        "{% call(x) outer() %}{{ x }}{% endcall %}{{ '%s-%02d' % ('a', 7) }}{{ '{:>3}'.format(5) }}{{ 'c'|center(3) }}"
        "{{ messages|tojson(indent=1)|length > 9 }}"
    )
    template = "{% macro outer() %}<{{ caller(1 + 2 * 3) }}>{% endmacro %}" + template
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert ChatTemplate(template, {}, Path("model")).render(talk) == "user: aa, assistant: bb<7>a-07  5 c True"


@pytest.mark.parametrize(
    "template", ["{% for %}", "{{ x", "(" * 3 + "{{" + "(" * 5000 + "}}"], ids=["for", "open", "deep"]
)
def test_a_template_that_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        ChatTemplate(template, {}, Path("model"))
