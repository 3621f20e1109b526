"""The contract every backend keeps, on a tiny random model: what a new backend has to pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tasks.backends.base import Made, TokensBackend, Work
from tasks.backends.endings import endings_apart
from tasks.backends.sampling import Sampler, Sampling
from tasks.backends.table import MODULES, backend, tokens
from tasks.errors import UnsupportedError
from tasks.kinds.causal_lm.quality import kl_divergence, log_softmax, score_row
from tasks.kinds.stored import BITS, precision_problem, weight_share
from tests.factories import hardware, profile, recipe

IDS = [1, 19556, 905, 216, 33, 34, 35, 827, 5600, 198, 3546, 1232, 77, 4093, 6004, 25, 900, 31, 2222, 8]
TEXTS = tuple(
    f"Question: what is {i} plus {i}?\nAnswer: {i} plus {i} makes {2 * i}, as anyone can count." for i in range(8)
)

AT_ONCE = 0.05  # nats, where activations share a scale with what is processed at the same time
SAME = 0.01  # nats by which two ways to process the same tokens may differ, as kernels choose other blocks
NEAR_TIE = 0.1  # of the logits' standard deviation
MIXED = 0.7  # share of the linear weights that an int4 recipe holds in 4 bits; the rest may be kept at 8

# backend, precision, further recipe fields, largest mean KL against PyTorch fp32 on this model (nats)
CASES = [
    ("torch", "fp32", {}, 1e-9),
    ("torch", "bf16", {}, 0.02),
    ("openvino", "fp32", {}, 0.02),
    ("openvino", "int8", {}, 0.05),
    ("openvino", "int4", {"method": "default", "group_size": 32}, 1.5),
    ("onnx", "fp32", {}, 1e-5),
    ("onnx", "int8", {"group_size": 32, "symmetric": True}, 0.05),
    ("onnx", "int8", {"method": "w8a8-unsigned"}, 0.05),
    ("onnx", "int4", {"method": "gptq", "group_size": 32}, 1.5),
    ("gguf", "fp16", {}, 0.01),
    ("gguf", "int8", {"method": "q8_0"}, 0.05),
    ("mlx", "fp16", {}, 0.01),
    ("mlx", "int8", {"group_size": 64}, 0.05),
    ("mlx", "int4", {"group_size": 64}, 1.5),
]


@pytest.fixture(scope="module")
def expected(tiny_model):
    return log_softmax(tokens("torch").scorer(tiny_model, 2).score(IDS)[:-1])


@dataclass(frozen=True)
class Case:
    """One artifact, and the largest mean KL that its precision may have."""

    backend: TokensBackend
    precision: str
    limit: float  # nats
    files: Path
    shares: bool  # its activations share a scale with what is processed at the same time


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join([*case[:2], case[2].get("method", "default")]))
def made(request, tiny_model, tmp_path_factory) -> Case:
    name, precision, fields, limit = request.param
    out: Path = tmp_path_factory.mktemp("artifact") / "model"
    out.mkdir()
    wanted = recipe(backend=name, precision=precision, **{"method": "default", "group_size": 0} | fields)
    backend(name).convert(Work(model=tiny_model, calibration=TEXTS, threads=2), wanted, out)
    return Case(tokens(name), precision, limit, out, "w8a8" in wanted.method)


@pytest.fixture(scope="module")
def logits(made):
    """What the artifact scores after each token."""
    scorer = made.backend.scorer(made.files, 2)
    found = scorer.score(IDS)
    scorer.close()
    return found


def mean_kl(logits, others):
    return float(kl_divergence(log_softmax(logits), log_softmax(others)).mean())


def test_every_backend_is_covered():
    assert {case[0] for case in CASES} == set(MODULES)


def linear_share(model: Path) -> float:
    """Share of the weights that lie in linear layers."""
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", "np") as file:
        sizes = {name: file.get_tensor(name).size for name in file.keys()}  # noqa: SIM118 - no mapping
    return sum(size for name, size in sizes.items() if "_proj" in name) / sum(sizes.values())


def test_its_weights_have_the_precision_it_claims(made, tiny_model):
    assert made.backend.probe(hardware(), profile()).ok
    assert all(version and version != "not installed" for version in made.backend.versions().values())
    share = weight_share(made.backend.tensor_bytes(made.files))
    if made.precision == "int4":  # nearly all of this model is its embedding, which some frameworks keep at 8 bits
        low = sum(part for kind, part in share.items() if 3.9 <= BITS.get(kind, 32) <= 6)
        assert low >= MIXED * linear_share(tiny_model)
    else:
        assert precision_problem(share, made.precision) == ""


def test_it_scores_as_the_reference_does(made, logits, expected):
    assert logits.shape == (len(IDS), 49152)
    assert logits.dtype == np.float32
    assert score_row(logits, np.array(IDS), expected).kl.mean() <= made.limit


def test_endings_are_scored_together_as_they_are_alone_and_leave_no_state(made, logits):
    scorer = made.backend.scorer(made.files, 2)
    prompts = (IDS[:12], IDS[7:19])  # a prompt processed once for endings of unequal lengths, and beside another one
    endings = ((IDS[12:], IDS[5:8], IDS[3:4]), (IDS[:2], IDS[4:5], IDS[6:]))
    together, apart = scorer.score_after(prompts, endings), endings_apart(scorer, prompts, endings)
    for of_one, of_other, own in zip(together, apart, endings, strict=True):
        assert [len(one) for one in of_one] == [len(ending) for ending in own]
        same = AT_ONCE if made.shares else SAME
        assert all(mean_kl(b, a) <= max(made.limit / 10, same) for a, b in zip(of_one, of_other, strict=True))
    np.testing.assert_allclose(scorer.score(IDS), logits, atol=1e-3)
    scorer.close()


def test_what_it_writes_is_what_was_scored_alone_and_in_a_batch(made, logits):
    """Up to near-ties, which two kernels may order differently."""
    speaker = made.backend.speaker(made.files, 2)
    seen: list[int] = []
    tokens = speaker.generate(IDS, 5, seen.append)
    assert tokens == seen
    assert len(tokens) == 5
    assert near(logits[-1], tokens[0])
    assert speaker.generate(IDS, 5) == tokens
    speaker.prefill(IDS)
    pair = speaker.generate_batch([IDS, IDS[::-1]], 5)
    assert [len(row) for row in pair] == [5, 5]
    assert near(logits[-1], pair[0][0])
    assert speaker.generate(IDS, 5) == tokens
    if hasattr(speaker, "generate_by_lookup"):
        looked: list[int] = []
        again = [*IDS, *IDS]
        assert speaker.generate_by_lookup(again, 8, looked.append) == looked
        scorer = made.backend.scorer(made.files, 2)
        rows = scorer.score([*again, *looked[:-1]])[len(again) - 1 :]
        scorer.close()
        assert all(near(row, token) for row, token in zip(rows, looked, strict=True))
    assert {"execution", "kv_cache", "threads"} <= set(speaker.runtime())
    speaker.close()


@pytest.fixture
def engine(made):
    """The artifact as it is served: three requests at once."""
    opened = made.backend.engine(made.files, 2, 3, 64)
    yield opened
    opened.close()


def test_requests_come_and_go_while_others_are_answered(made, logits, engine):
    engine.add(1, IDS, 5, Sampling())
    first = _some(engine, 2)
    engine.add(2, IDS[::-1], 5, Sampling())  # joins while the first writes
    engine.add(3, IDS[3:9], 30, Sampling(temperature=1.0, seed=1))
    made_by = first + _some(engine, 6)
    engine.drop(3)  # leaves before its end
    engine.drop(3)
    made_by += _rest(engine, {1, 2} - {one.key for one in made_by if one.last})
    own = [one for one in made_by if one.key == 1]
    assert len(own) == len([one for one in made_by if one.key == 2]) == 5
    assert [one.last for one in own] == [False] * 4 + [True]
    assert near(logits[-1], own[0].token)
    told = log_softmax(logits[-1:])[0][own[0].token]
    assert own[0].logprob == pytest.approx(told, abs=max(0.1, 10 * made.limit))
    engine.add(4, IDS, 1, Sampling())  # the place of one that left is free
    assert [one.key for one in _rest(engine, {4})] == [4]
    assert engine.step() == []


def test_a_seed_repeats_what_is_drawn(made, engine):
    drawn = Sampling(temperature=1.0)
    assert _tokens(engine, 5, drawn) != _tokens(engine, 6, drawn)  # without a seed each answer is its own
    seeded = Sampling(temperature=1.0, seed=7)
    assert _tokens(engine, 7, seeded) == _tokens(engine, 8, seeded)
    assert engine.step() == []


class Only:
    """Lets one token through, then any."""

    def __init__(self, token: int) -> None:
        self.left = [token]

    def allowed(self):
        return np.arange(49152) == self.left[0] if self.left else np.ones(49152, dtype=bool)

    def took(self, token: int) -> None:
        self.left = self.left[1:]


def test_what_a_request_asks_of_its_tokens_is_done(made, logits, engine):
    """Also after others that asked for nothing, and beside one."""
    _tokens(engine, 1, Sampling())
    likely = np.argsort(-logits[-1])
    guided = Sampling(guide=Only(int(likely[500])), top=3)
    engine.add(2, IDS, 4, Sampling())
    engine.add(3, IDS, 4, guided)
    made_by = _rest(engine, {2, 3})
    first = next(one for one in made_by if one.key == 3)
    assert first.token == likely[500] and [logprob for _, logprob in first.top] == sorted(
        (logprob for _, logprob in first.top), reverse=True
    )
    assert len(first.top) == 3 and near(logits[-1], first.top[0][0]) and first.logprob < first.top[-1][1]
    assert near(logits[-1], next(one for one in made_by if one.key == 2).token)
    banned = tuple((int(token), -100.0) for token in likely[:20])
    assert _tokens(engine, 4, Sampling(bias=banned))[0] not in likely[:20]
    plain, unlike = (
        _tokens(engine, 5, Sampling()),
        _tokens(engine, 6, Sampling(frequency_penalty=2, presence_penalty=2)),
    )
    assert near(logits[-1], plain[0]) and near(logits[-1], unlike[0]) and len(set(unlike)) >= len(set(plain)) - 1
    assert near(logits[-1], _tokens(engine, 7, Sampling(temperature=1.5, top_k=1))[0])
    assert near(logits[-1], _tokens(engine, 8, Sampling(temperature=1, min_p=1))[0])  # drawn among equals, as bf16 has
    assert engine.step() == []


def test_a_repetition_penalty_is_of_logits_and_not_of_probabilities(made, logits, engine):
    """What a runtime gives its sampler differs; a likely token's logit is above 0, a log-probability never is."""
    wanted = Sampler(Sampling(repetition_penalty=5.0), IDS).next(logits[-1])
    found = _tokens(engine, 1, Sampling(repetition_penalty=5.0))[0]
    shaped = logits[-1].copy()
    shaped[IDS] = np.where(shaped[IDS] > 0, shaped[IDS] / 5, shaped[IDS] * 5)
    assert near(shaped, found) and near(shaped, wanted.token)


def near(logits, token: int) -> bool:
    """Whether a token is the likeliest, or nearly."""
    return bool(logits.max() - logits[token] <= NEAR_TIE * logits.std())


def _some(engine, count: int) -> list[Made]:
    """Steps until there are at least so many tokens."""
    made: list[Made] = []
    while len(made) < count:
        made += engine.step()
    return made


def _rest(engine, keys: set[int]) -> list[Made]:
    """Steps until these requests have ended."""
    made: list[Made] = []
    for _ in range(200):
        if not keys:
            return made
        new = engine.step()
        made += new
        keys = keys - {one.key for one in new if one.last}
    raise AssertionError(f"{keys} did not end")


def _tokens(engine, key: int, sampling: Sampling) -> list[int]:
    """An answer of eight tokens, made alone."""
    engine.add(key, IDS, 8, sampling)
    return [one.token for one in _rest(engine, {key})]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_precision_it_cannot_make_is_refused_in_words(name, tiny_model, tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    precision, method = (
        ("int4", "nonsense") if name in ("gguf", "onnx") else ("int8" if name == "torch" else "bf16", "x")
    )
    with pytest.raises(UnsupportedError, match=r"are|has no|not"):
        backend(name).convert(
            Work(model=tiny_model, calibration=TEXTS, threads=2),
            recipe(backend=name, precision=precision, method=method, group_size=32),
            out,
        )


def test_mlx_with_the_wrong_rope_base_is_caught_by_the_probe(tiny_model, tmp_path, expected):
    """mlx-lm alone takes theta 10000 for this checkpoint; the artifact must not."""
    import json

    out = tmp_path / "model"
    out.mkdir()
    backend("mlx").convert(
        Work(model=tiny_model, calibration=(), threads=2), recipe(backend="mlx", precision="fp16", group_size=0), out
    )
    config = json.loads((out / "config.json").read_text())
    assert config["rope_theta"] == 100000.0
    config["rope_theta"] = 10000.0
    (out / "config.json").write_text(json.dumps(config))
    wrong = score_row(tokens("mlx").scorer(out, 2).score(IDS), np.array(IDS), expected)
    assert wrong.kl.mean() > 0.05
