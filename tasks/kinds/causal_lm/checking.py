"""The check of a language model's fresh artifact: it is what it claims, agrees with the reference, and speaks."""

from __future__ import annotations

import numpy as np

from tasks.backends.table import tokens
from tasks.kinds.base import Checked, CheckRequest
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.describing import read_config
from tasks.kinds.causal_lm.quality import score_row
from tasks.kinds.causal_lm.rows import Probe
from tasks.kinds.causal_lm.tokens import decoder
from tasks.kinds.causal_lm.weights import count
from tasks.kinds.stored import describe, precision_problem, weight_share
from tasks.records.artifact import Check
from tasks.records.terms import FEW_BITS, Precision

CHARACTERS = 8  # a shorter answer is no text
NEW_TOKENS = 16


def check(request: CheckRequest) -> Checked:
    """Load the artifact in this fresh process, run one forward and one short answer."""
    opening, places = request.opening, request.places
    module = tokens(opening.backend)
    probe = Probe.read(places.data / files.PROBE)
    distance, agreement, units = _forward(request, probe)
    speaker = module.speaker(opening.artifact, opening.threads)
    text = decoder(places.model)(speaker.generate(probe.question_ids, NEW_TOKENS))
    speaker.close()
    share = weight_share(module.tensor_bytes(opening.artifact))
    limits = request.settings.max_kl
    weights = count(places.model, read_config(places.model))
    found = Check(
        distance=distance,
        distance_limit=max(limits.values()) if request.transformed else limits[request.precision],
        agreement=agreement,
        units=units,
        text=text,
        tensor_share=share,
        precision_found=describe(share),
    )
    return Checked(
        check=found,
        problem=problem(
            found,
            request.precision,
            weights.linear / weights.parameters if request.precision in FEW_BITS else 1.0,
            mixed=request.mixed,
        ),
        versions=module.versions(),
    )


def _forward(request: CheckRequest, probe: Probe) -> tuple[float, float, int]:
    """Mean KL divergence from the reference on the probe in nats, top-token agreement, and over how many tokens."""
    opening, kept = request.opening, request.places.reference / files.PROBE_LOGPROBS
    scorer = tokens(opening.backend).scorer(opening.artifact, opening.threads)
    ids = probe.ids[: request.units or None]
    scored = score_row(scorer.score(ids), np.array(ids), np.load(kept)[: len(ids) - 1])
    scorer.close()
    return float(scored.kl.mean()), float(scored.agree.mean()), len(ids)


def problem(check: Check, claimed: Precision, linear: float = 1.0, *, mixed: bool = False) -> str:
    """Say what is wrong with an artifact; empty when it may be measured. `linear`: linear layers' share of the weights.

    `mixed`: types were chosen by what they cost, so that any of at most 8 bits will do.

    The bound on the KL divergence is wide enough for honest quantization noise and catches a wrong configuration:
    another rope base, a transposed weight, a wrong tokenizer or a broken cache gives several times as much.
    """
    wrong_types = precision_problem(check.tensor_share, claimed, linear, mixed=mixed)
    if wrong_types:
        return wrong_types
    if not check.distance <= check.distance_limit:
        return (
            f"disagrees with the reference on the probe text: mean KL {check.distance:.3f} nats over "
            f"{check.units} tokens, limit {check.distance_limit} (top token agrees {check.agreement:.0%}); "
            "the conversion is misconfigured or the precision is too low for this model"
        )
    if len(check.text.strip()) < CHARACTERS or len(set(check.text.split())) < 3:
        return f"does not produce text: {check.text!r}"
    return ""
