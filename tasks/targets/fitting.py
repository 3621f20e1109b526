"""What would keep a budget that a bundle exceeds: the smallest changes, each measured here or planned. Pure.

Planned ones are sized from the bundle's own ledger. Fewer bits are predicted by the noise of rounding, whose power is
divided by four with each bit (Widrow 1956), so that a divergence, which grows with the power, is multiplied by four for
each bit less. What fewer layers or words cost cannot be predicted: it is said so, with how many there would be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.records.bundles import Change, Part
from tasks.records.model import ModelProfile

SHOWN = 3
LEAST_BITS = 2.0  # below, weights are of another art
PLANNED_SHARE = 0.25  # of layers or words at least stay in a plan


@dataclass(frozen=True)
class Candidate:
    """A variant that the target takes and that was made and scored here."""

    variant: str
    size_mb: float
    outcome: str  # of the target's gates
    quality: str  # in words


@dataclass(frozen=True)
class Exceeding:
    """A bundle that is too large."""

    parts: Sequence[Part]
    budget_mb: float
    bits: float  # per weight of what is in it
    divergence: float | None  # mean KL in nats, or None where it is not known
    profile: ModelProfile

    @property
    def weights_mb(self) -> float:
        """Its weights, embedding included."""
        return self._of("weights", "embedding")

    @property
    def rest_mb(self) -> float:
        """What stays whatever becomes of the weights."""
        return sum(one.installed_bytes for one in self.parts) / 1e6 - self.weights_mb

    @property
    def embedding_mb(self) -> float:
        """The embedding alone; 0 where the ledger does not tell it apart."""
        return self._of("embedding")

    def _of(self, *components: str) -> float:
        return sum(one.installed_bytes for one in self.parts if one.component in components) / 1e6


def changes(found: Exceeding, candidates: Iterable[Candidate]) -> tuple[Change, ...]:
    """The smallest changes that keep the budget: those measured first, those that keep most of the model before others.

    Empty where the parts beside the weights exceed it alone.
    """
    if found.rest_mb >= found.budget_mb:
        return ()
    fits = [one for one in candidates if one.size_mb + found.rest_mb <= found.budget_mb]
    passed_first = sorted(fits, key=lambda one: (one.outcome != "pass", -one.size_mb))
    measured = [
        Change(
            what=f"the variant {one.variant} ({one.outcome})",
            size_mb=round(one.size_mb + found.rest_mb, 1),
            measured=True,
            quality=one.quality,
        )
        for one in passed_first
    ]
    planned = [one for one in (fewer_bits(found), fewer_layers(found), fewer_words(found)) if one is not None]
    return tuple([*measured, *planned][:SHOWN])


def fewer_bits(found: Exceeding) -> Change | None:
    """As many bits a weight as fit."""
    bits = _bits(found, found.weights_mb)
    if bits < LEAST_BITS:
        return None
    return Change(
        what=f"{bits:.1f} bits a weight on average, scales included, in place of {found.bits:.1f}",
        size_mb=round(found.rest_mb + found.weights_mb * bits / found.bits, 1),
        measured=False,
        quality=_of_bits(found, bits),
    )


def _bits(found: Exceeding, weights_mb: float) -> float:
    """Bits a weight, on average, that so much of weights may have within the budget; to a tenth, rounded down."""
    return math.floor(found.bits * (found.budget_mb - found.rest_mb) / weights_mb * 10) / 10


def _of_bits(found: Exceeding, bits: float) -> str:
    if found.divergence is None:
        return "quality is not predicted: that of the bundle is not known"
    predicted = found.divergence * 4 ** (found.bits - bits)
    return f"mean KL about {predicted:.2g} nats, predicted from {found.divergence:.2g}"


def _and_bits(found: Exceeding, what: str, weights_mb: float, cost: str) -> Change | None:
    """A change that does not fit alone, together with fewer bits; `weights_mb` are left by it at the bits of now."""
    bits = _bits(found, weights_mb)
    if not LEAST_BITS <= bits < found.bits:
        return None
    return Change(
        what=f"{what} and {bits:.1f} bits a weight in place of {found.bits:.1f}",
        size_mb=round(found.rest_mb + weights_mb * bits / found.bits, 1),
        measured=False,
        quality=f"of the bits: {_of_bits(found, bits)}; of the rest: {cost}",
    )


def fewer_layers(found: Exceeding) -> Change | None:
    """As many layers as fit; half of them and fewer bits, where too few would be left."""
    layers, body = found.profile.layers, found.weights_mb - found.embedding_mb
    if not layers or body <= 0:
        return None
    cost = "not predicted: it has to be trained again without them, and measured"
    room = found.budget_mb - found.rest_mb - found.embedding_mb
    kept = math.floor(room / (body / layers))
    if kept < layers * PLANNED_SHARE:
        half = math.ceil(layers / 2)
        return _and_bits(found, f"{half} of {layers} layers", found.embedding_mb + body * half / layers, cost)
    return Change(
        what=f"{kept} of {layers} layers",
        size_mb=round(found.rest_mb + found.embedding_mb + body * kept / layers, 1),
        measured=False,
        quality=cost,
    )


def fewer_words(found: Exceeding) -> Change | None:
    """As many entries of the vocabulary as fit; half of them and fewer bits, where too few would be left."""
    words = found.profile.vocabulary
    if not words or not found.embedding_mb:
        return None
    cost = "not predicted: texts take more tokens, and it has to be trained again on them, and measured"
    body = found.weights_mb - found.embedding_mb
    kept = math.floor(words * (found.budget_mb - found.rest_mb - body) / found.embedding_mb)
    if kept < words * PLANNED_SHARE:
        half = words // 2
        what = f"a vocabulary of {half:,} of {words:,} pieces"
        return _and_bits(found, what, body + found.embedding_mb * half / words, cost)
    return Change(
        what=f"a vocabulary of {kept:,} of {words:,} pieces",
        size_mb=round(found.rest_mb + found.weights_mb - found.embedding_mb * (1 - kept / words), 1),
        measured=False,
        quality=cost,
    )
