"""Drawing tokens from logits."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.backends.sampling import Sampler, Sampling


def test_sampling_follows_the_probabilities() -> None:
    logits = np.log(np.array([0.6, 0.3, 0.1], dtype=np.float32))
    draws = [Sampler(Sampling(temperature=1.0, seed=seed)).next(logits)[0] for seed in range(2000)]
    assert np.bincount(draws, minlength=3) / 2000 == pytest.approx([0.6, 0.3, 0.1], abs=0.04)
    nucleus = {Sampler(Sampling(temperature=1.0, top_p=0.5, seed=seed)).next(logits)[0] for seed in range(50)}
    assert nucleus == {0}
    token, logprob = Sampler(Sampling()).next(logits)
    assert (token, logprob) == (0, pytest.approx(np.log(0.6), abs=1e-5))
