"""A language model's requests: what is timed of them, and how long the longest is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.kinds.causal_lm.rows import Prompts
from tasks.kinds.causal_lm.workload import SOAK_TOKENS, STRESS_TOKENS, TokensWorkload


class Noting:
    """A session that notes the lengths of what it reads."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: Callable[[int], None] | None = None) -> list[int]:
        self.read.append(len(ids))
        for token in range(new_tokens):
            if on_token:
                on_token(token)
        return [0] * new_tokens

    def prefill(self, ids: Sequence[int]) -> None:
        self.generate(ids, 1)

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        return [self.generate(ids, new_tokens) for ids in prompts]


def made(**changes: object) -> tuple[TokensWorkload, Noting]:
    session = Noting()
    prompts = Prompts(
        short=tuple((i, i) for i in range(8)), long=tuple((i, i, i) for i in range(8)), longest=((1, 2, 3, 4, 5),)
    )
    work = TokensWorkload(session=session, prompts=prompts, new_tokens=5, stress_tokens=17)  # type: ignore[arg-type]
    for name, value in changes.items():
        setattr(work, name, value)
    return work, session


def test_every_phase_has_its_samples() -> None:
    work, _ = made()
    found = work.samples()
    assert {phase: len(samples) for phase, samples in found.items()} == {
        "time_to_first_token_ms": 2, "prefill_tokens_per_s": 2, "decode_tokens_per_s": 1,
        "prefill_longest_tokens_per_s": 1, "decode_long_tokens_per_s": 1, "batch_tokens_per_s": 1, "inter_token_ms": 4,
    }  # fmt: skip
    assert all(sample > 0 for samples in found.values() for sample in samples)
    assert work.sizes() == {"prompt_tokens_short": 2, "prompt_tokens_long": 3, "new_tokens": 5}


def test_without_a_longer_prompt_and_with_few_prompts_there_is_less() -> None:
    few = Prompts(short=((1, 2),) * 3, long=((1, 2, 3),) * 3)
    for work, _ in (made(prompts=few), made(brief=True)):
        assert set(work.samples()) == {
            "time_to_first_token_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "inter_token_ms"
        }  # fmt: skip


def test_a_long_prompt_is_put_together_to_its_length() -> None:
    work, session = made()
    assert work.longest()
    assert session.read == [17]


def test_stress_and_soak_tell_what_was_written() -> None:
    work, _ = made()
    assert work.stress(3) == (0,) * STRESS_TOKENS
    assert work.soak(9) == SOAK_TOKENS


def test_a_runtime_that_looks_guesses_up_is_timed_where_the_prompt_begins_again() -> None:
    class Looking(Noting):
        generate_by_lookup = Noting.generate

    work, _ = made()
    session = Looking()
    work.session = session  # type: ignore[assignment]
    found = work.samples()
    assert len(found["lookup_tokens_per_s"]) == len(found["lookup_gain"]) == 1
    assert session.read[-2:] == [6, 6], "the same prompt both ways: three tokens, and the same three again"
    assert "lookup_gain" not in made()[0].samples()
