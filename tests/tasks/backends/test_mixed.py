"""A type for each tensor of a GGUF file: the choice is the best there is, and the file has the chosen types."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.backends.gguf import mixed
from tasks.backends.gguf.mixed import Budget, Option, Seen, choose
from tasks.errors import UnsupportedError

OPTIONS = st.lists(
    st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1)), min_size=1, max_size=3), min_size=1, max_size=4
)


@settings(max_examples=60, deadline=None)
@given(OPTIONS, st.floats(0, 1))
def test_no_other_choice_within_the_budget_loses_less(drawn, share):
    found = {
        str(n): [Option(f"T{k}", size, loss) for k, (size, loss) in enumerate(some)] for n, some in enumerate(drawn)
    }
    least, most = (sum(pick(one.size for one in some) for some in found.values()) for pick in (min, max))
    budget = int(least + share * (most - least))
    chosen = choose(found, budget)
    own = [next(one for one in found[name] if one.kind == kind) for name, kind in chosen.items()]
    assert sum(one.size for one in own) <= budget
    best = min(sum(o.loss for o in some) for some in product(*found.values()) if sum(o.size for o in some) <= budget)
    assert sum(one.loss for one in own) <= best + 1e-3 * (1 + best)


def test_too_few_bytes_are_refused_with_the_fewest():
    with pytest.raises(UnsupportedError, match="ask for more bits"):
        choose({"a": [Option("Q4_0", 100, 0.1)]}, 99)


@settings(max_examples=40, deadline=None)
@given(OPTIONS, st.floats(0.05, 1), st.integers(0, 2**32 - 1))
def test_no_other_choice_that_is_as_fast_loses_less(drawn, share, seed):
    dice = np.random.default_rng(seed)
    found = {
        str(n): [Option(f"T{k}", size, loss, float(dice.uniform(0.1, 1))) for k, (size, loss) in enumerate(some)]
        for n, some in enumerate(drawn)
    }
    least, most = (sum(pick(one.time for one in some) for some in found.values()) for pick in (min, max))
    allowed = least + share * (most - least) + 1e-6
    chosen = choose(found, None, pace=1 / allowed)
    own = [next(one for one in found[name] if one.kind == kind) for name, kind in chosen.items()]
    assert sum(one.time for one in own) <= allowed + 1e-6
    best = min(sum(o.loss for o in some) for some in product(*found.values()) if sum(o.time for o in some) <= allowed)
    assert sum(one.loss for one in own) <= best + 1e-3 * (1 + best)


def test_a_pace_that_no_type_has_is_refused_with_the_fastest():
    with pytest.raises(UnsupportedError, match=r"1\.25 times as fast as q8_0, and 2\.00 is asked for"):
        choose({"a": [Option("Q4_0", 100, 0.1, 0.8)]}, None, pace=2.0)


def test_a_loss_is_the_second_order_of_what_outputs_move():
    dice = np.random.default_rng(3)
    x, g, error = (dice.standard_normal(size).astype(np.float32) for size in ((40, 8), (40, 6), (6, 8)))
    by_hand = np.mean([(g[t] @ error @ x[t]) ** 2 / 2 for t in range(40)])
    assert Seen(x, g).loss(error) == pytest.approx(by_hand, rel=1e-4)
    assert Seen(x, g).loss(2 * error) == pytest.approx(4 * by_hand, rel=1e-4)
    assert Seen(x, g).importance.shape == (8,)


@pytest.mark.model
@pytest.mark.parametrize("method", sorted(mixed.TYPES))
def test_a_small_model_in_mixed_types_runs_and_keeps_its_bits(tiny_model: Path, tmp_path: Path, method: str) -> None:
    from tasks.backends.gguf.making import _to_f16

    model = tiny_model
    base, out = tmp_path / "f16.gguf", tmp_path / "mixed.gguf"
    _to_f16(model, base)
    texts = [f"the {n} of them came home and sat down by the fire" for n in range(8)]
    sizes = {}
    for bits in (5.0, 8.0):
        kinds = mixed.quantize(base, model, texts, out, method, Budget(bits), 2)
        stored = {one.name: one for one in mixed._matrices(out)}
        assert {name: stored[name].kind for name in kinds} == kinds
        sizes[bits] = sum(one.bytes for one in stored.values())
        weights = sum(one.values.size for one in stored.values())
        assert sizes[bits] <= weights * bits / 8 * 1.01
        if method == "mixed-fast":
            assert not set(mixed.SLOW) & set(kinds.values())
    assert sizes[5.0] < sizes[8.0]
    assert not list(tmp_path.glob("whole-*"))
    import llama_cpp

    llama = llama_cpp.Llama(str(out), n_ctx=64, logits_all=True, verbose=False)
    llama.eval([1, 2, 3])
    assert np.isfinite(llama.scores[:3]).all()


@pytest.mark.model
def test_what_types_cost_in_time_is_timed(tiny_model: Path, tmp_path: Path) -> None:
    from tasks.backends.gguf.making import _to_f16

    base = tmp_path / "f16.gguf"
    _to_f16(tiny_model, base)
    exact = {one.name: one.values for one in mixed._matrices(base)}
    found = mixed.options(base, exact, {}, tmp_path, "mixed-fast", 2, timed=True)
    shares = [one.time for some in found.values() for one in some]
    assert len(found) == len(exact)
    assert all(0 < share < 3 for share in shares)
    assert not list(tmp_path.glob("whole-*"))
