"""Answers held to a form, token by token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.backends.sampling import Sampler, Sampling
from tasks.errors import DataError
from tasks.kinds.causal_lm.chat import Text
from tasks.kinds.causal_lm.grammar import Grammars, whole

END = 2
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def grammars(tokenizer_dir: Path) -> Grammars:
    return Grammars(tokenizer_dir, [END])


def taken(grammars: Grammars, text: Text, grammar: str, said: str) -> bool:
    """Whether a text, ended there, is what the grammar allows."""
    guide = grammars.guide(grammar)
    for token in [*text.encode(said), END]:
        if not guide.allowed()[token]:
            return False
        guide.took(token)
    return True


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ('{"name": "Ann", "age": 3}', True),
        ('{"name": "漢字 é", "age": -3}', True),
        ('{"name": "Ann"}', False),
        ('{"name": "Ann", "age": 3.5}', False),
        ('{"name": "Ann", "age": 3, "more": 1}', False),
        ('{"name": "Ann", "age": 3} and', False),
        ('{"name":   "Ann", "age": 3}', False),  # white space has one place
        ("Sure! {", False),
        ("", False),
    ],
)
def test_json_of_a_schema(grammars: Grammars, tokenizer_dir: Path, said: str, fits: bool) -> None:
    assert taken(grammars, Text(tokenizer_dir, False), whole(PERSON), said) == fits


def test_any_draw_is_json_of_the_schema(grammars: Grammars, tokenizer_dir: Path) -> None:
    """Whatever a model thinks: logits are noise here."""
    text, noise = Text(tokenizer_dir, False), np.random.default_rng(0)
    for seed in range(5):
        sampler = Sampler(Sampling(temperature=1.0, seed=seed, guide=grammars.guide(whole(PERSON))))
        tokens: list[int] = []
        while END not in tokens and len(tokens) < 400:
            tokens.append(sampler.next(noise.normal(size=49152).astype(np.float32)).token)
        if tokens[-1] == END:
            found = json.loads(text.decode(tokens[:-1]))
            assert set(found) == {"name", "age"} and isinstance(found["age"], int) and len(found["name"]) <= 12
        else:  # a number has no end that must come
            assert text.decode(tokens).startswith('{"name": "')


def test_after_its_end_only_an_end_of_text_may_come(grammars: Grammars) -> None:
    guide = grammars.guide('start: "a"\n')
    for _ in range(4):
        (place,) = np.flatnonzero(guide.allowed())
        guide.took(int(place))
    assert np.flatnonzero(guide.allowed()).tolist() == [END]
    guide.took(7)  # what may not come, after the end, is no error
    assert np.flatnonzero(guide.allowed()).tolist() == [END]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "nope"}, "nope"),
        ({"type": "object", "not": {}}, "not"),
        ({"$ref": "http://example.org/schema"}, "example.org"),
        ({"$ref": "#/$defs/absent"}, "absent"),
        ({"type": "string", "pattern": "("}, "held to this form"),
        ({"enum": ["x" * 200_000]}, "at most 100000"),
        ({"type": "object", "properties": 3}, "held to this form"),
        ({"minimum": 5, "maximum": 1, "type": "integer"}, "held to this form"),
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_held_to_is_refused_in_words(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        whole(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array", "items": {"type": "number"}, "minItems": 2},
        {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
        {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
        {"type": "string", "pattern": "^[a-z]{3}$"},
        {"type": "string", "format": "date"},
        {"const": "x"},
        {"title": "P", "type": "object", "properties": {"a": {"type": "string", "description": "d"}}},
    ],
    ids=str,
)  # fmt: skip
def test_schemas_that_are_taken(schema: dict[str, Any]) -> None:
    assert whole(schema).startswith("start: %json ")
