"""Statistics of quality: known values, properties, and what happens with too little."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.kinds.causal_lm.quality import Tokens, join, kl_divergence, log_softmax, ratio_with_se, score_row, summarise
from tasks.measure.results import spread_of
from tasks.measure.timing import quantity


def tokens(nll, correct, rows, agree=None, kl=None):
    n = len(nll)
    return Tokens(
        row=np.array(rows, dtype=np.int32),
        nll=np.array(nll, dtype=float),
        correct=np.array(correct, dtype=bool),
        agree=np.array(agree if agree is not None else [True] * n),
        kl=np.array(kl if kl is not None else [0.0] * n),
    )


def test_known_values():
    reference = tokens([1.0, 1.0, 2.0, 2.0], [1, 1, 1, 0], [0, 0, 1, 1])
    variant = tokens([1.1, 1.1, 2.1, 2.1], [1, 1, 0, 0], [0, 0, 1, 1], kl=[0.1, 0.1, 0.2, 0.2])
    q = summarise(variant, reference)
    assert q.perplexity == pytest.approx(np.exp(1.6))
    assert q.perplexity_ratio == pytest.approx(np.exp(0.1))
    assert q.perplexity_ratio_se == pytest.approx(0.0, abs=1e-9)  # the same shift in every row
    assert q.retention == pytest.approx(2 / 3)
    assert q.mean_kl == pytest.approx(0.15)
    assert (q.rows, q.predictions) == (2, 4)


def test_the_reference_against_itself_keeps_everything():
    reference = tokens([0.5, 1.5, 2.5], [1, 0, 1], [0, 1, 2])
    q = summarise(reference, reference)
    assert (q.perplexity_ratio, q.retention, q.top_agreement, q.mean_kl) == (1.0, 1.0, 1.0, 0.0)
    assert q.retention_se == 0.0


def test_one_row_has_no_standard_error():
    one = tokens([1.0, 2.0], [1, 0], [0, 0])
    q = summarise(one, one)
    assert q.perplexity_se is None
    assert q.retention_se is None


def test_a_reference_that_is_never_right_gives_no_retention():
    none = tokens([1.0, 2.0], [0, 0], [0, 1])
    assert np.isnan(summarise(none, none).retention)


def test_other_tokens_are_refused():
    with pytest.raises(ValueError, match="same tokens"):
        summarise(tokens([1.0], [1], [0]), tokens([1.0, 1.0], [1, 1], [0, 0]))


def test_standard_error_matches_the_spread_of_repeated_samples():
    rng = np.random.default_rng(3)
    found, claimed = [], []
    for _ in range(400):
        sizes = rng.integers(20, 40, size=30)
        level = rng.normal(1.0, 0.3, size=30)  # rows differ, tokens of a row share their row's level
        row = np.repeat(np.arange(30, dtype=np.int32), sizes)
        value = np.repeat(level, sizes) + rng.normal(0, 0.5, size=sizes.sum())
        ratio, se = ratio_with_se(value, np.ones(len(value)), row)
        found.append(ratio)
        claimed.append(se)
    assert np.mean(claimed) == pytest.approx(np.std(found), rel=0.1)


logits = st.lists(st.floats(-30, 30), min_size=4, max_size=4)


@given(logits, logits)
def test_kl_divergence_is_never_negative_and_zero_only_for_the_same(a, b):
    p, q = (log_softmax(np.array([x], dtype=np.float32)) for x in (a, b))
    assert kl_divergence(p, p)[0] == pytest.approx(0.0, abs=1e-5)
    assert kl_divergence(p, q)[0] >= -1e-5


@given(logits)
def test_log_softmax_sums_to_one_whatever_the_scale(a):
    assert np.exp(log_softmax(np.array([a], dtype=np.float32))).sum() == pytest.approx(1.0, rel=1e-4)


def test_half_precision_reference_changes_kl_by_less_than_its_noise():
    rng = np.random.default_rng(0)
    a = log_softmax(rng.normal(0, 3, (200, 5000)).astype(np.float32))
    b = log_softmax((a + rng.normal(0, 0.1, a.shape)).astype(np.float32))
    exact, stored = kl_divergence(a, b).mean(), kl_divergence(a.astype(np.float16), b).mean()
    assert stored == pytest.approx(exact, rel=0.02)


def test_score_row_reads_the_next_token():
    made = np.full((3, 4), -5.0, dtype=np.float32)
    made[0, 2] = made[1, 3] = 5.0
    scored = score_row(made, np.array([0, 2, 1]), None)
    assert scored.correct.tolist() == [True, False]
    assert scored.nll[0] < 0.001 < scored.nll[1]


def test_saved_tokens_come_back(tmp_path):
    joined = join([tokens([1.0], [1], [0]), tokens([2.0, 3.0], [0, 1], [0, 0])])
    joined.save(tmp_path / "t.npz")
    back = Tokens.load(tmp_path / "t.npz")
    assert back.row.tolist() == [0, 1, 1]
    assert back.like(tokens([9.0], [0], [0])).nll.tolist() == [1.0]


def test_a_reference_is_cut_to_what_was_scored():
    joined = join([tokens([v, v + 1, v + 2], [1] * 3, [0] * 3) for v in (1.0, 4.0, 7.0)])
    whole, short, few = (
        join([tokens([0.0] * length, [0] * length, [0] * length) for _ in range(rows)])
        for rows, length in ((2, 3), (2, 2), (3, 1))
    )
    assert joined.like(whole).nll.tolist() == [1, 2, 3, 4, 5, 6]
    assert joined.like(short).nll.tolist() == [1, 2, 4, 5]
    assert joined.like(few).row.tolist() == [0, 1, 2]
    assert joined.like(joined).nll.tolist() == joined.nll.tolist()


@given(st.lists(st.floats(0.1, 1e6), min_size=1))
def test_quantity_lies_between_its_extremes(samples):
    q = quantity(samples)
    assert q.low <= q.p50 <= q.high
    assert q.n == len(samples)
    assert (q.q25 is None) == (q.n < 4) or q.low <= q.q25 <= q.p50 <= q.q75 <= q.high
    assert q.spread >= 0


def test_times_between_tokens_carry_only_the_percentiles_they_can():
    few = spread_of("inter_token_ms", [10.0] * 57 + [30.0])
    assert set(few) == {"inter_token_cv"}
    many = spread_of("inter_token_ms", [10.0] * 290 + [30.0] * 10)
    assert (many["inter_token_p95_ms"], many["inter_token_p99_ms"]) == (10.0, 30.0)
    assert spread_of("inter_token_ms", [10.0, 10.0]) == {"inter_token_cv": 0.0}
    assert many["inter_token_cv"] == pytest.approx(20 * (1 / 30 * 29 / 30) ** 0.5 / (10 + 20 / 30))


def test_quantity_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no samples"):
        quantity([])
