"""How close each variant comes to the machine's limits, what holds it back, and what would help (S15). Pure.

Writing one token reads every weight once, so memory bandwidth bounds decode; reading a prompt multiplies every weight
of the body once per token, so arithmetic bounds prefill (2 operations per weight: Kaplan et al. 2020, section 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.kinds.catalogue import Catalogue
from tasks.kinds.stored import BITS
from tasks.records.artifact import Artifact
from tasks.records.base import Quantity
from tasks.records.model import ModelProfile
from tasks.records.scores import Bound, RooflinePosition, ScoreRow
from tasks.records.speed import Benchmark, Ceiling

MEMORY_BOUND, COMPUTE_BOUND, INCONSISTENT = 0.90, 0.80, 0.20


def closeness(
    artifact: Artifact, benchmark: Benchmark, model: ModelProfile, ceiling: Ceiling
) -> RooflinePosition | None:
    """Shares of the ceilings that one measured variant reaches; None when it has no speeds."""
    decode, prefill = (benchmark.phases.get(name) for name in ("decode_tokens_per_s", "prefill_tokens_per_s"))
    if decode is None or prefill is None or artifact.check is None:
        return None
    kind = arithmetic(artifact.recipe.precision, benchmark.runtime.get("execution", ""))
    read_gb_s = bytes_per_token(model, artifact.check.tensor_share, kind) * decode.p50 / 1e9
    gflop_s = operations_per_token(model) * prefill.p50 / 1e9
    peak = _peak(ceiling, kind)
    read_share = read_gb_s / ceiling.memory_gb_s.p50
    flop_share = gflop_s / peak.p50 if peak else None
    return RooflinePosition(
        variant=artifact.variant,
        decode_gb_s=round(read_gb_s, 3),
        decode_share=round(read_share, 4),
        decode_bound=bound(decode, read_share, MEMORY_BOUND, "memory-bound"),
        prefill_gflop_s=round(gflop_s, 1),
        prefill_share=None if flop_share is None else round(flop_share, 4),
        prefill_bound=bound(prefill, flop_share, COMPUTE_BOUND, "compute-bound"),
        arithmetic=kind,
    )


def bounded(known: Catalogue, rows: Sequence[ScoreRow], found: Sequence[RooflinePosition]) -> tuple[ScoreRow, ...]:
    """The rows, whose speedups against the reference say how large they could be at most on this device.

    At a share s of a ceiling nothing of the same bytes and operations can be more than 1 / s times as fast. A share
    above 1 bounds nothing: then caches serve what the ceiling was measured without.
    """
    near = {one.variant: one for one in found}
    timed = [(ratio, phase) for phase in known.deciding if (ratio := known.ratio_of(phase)) is not None]

    def limited(row: ScoreRow) -> ScoreRow:
        one = near.get(row.variant)
        if one is None or row.role == "reference":
            return row
        of = {
            "bandwidth": (one.decode_share, "at the memory's bandwidth"),
            "arithmetic": (one.prefill_share, f"at the machine's {one.arithmetic} matrix throughput"),
        }
        why = {ratio.name: of[known[phase].bound_by] for ratio, phase in timed if known[phase].bound_by}
        cells = {
            name: cell.model_copy(update={"bound": cell.value / share, "bound_reason": reason})
            for name, (share, reason) in why.items()
            if share is not None and 0 < share < 1 and (cell := row.metrics.get(name)) is not None and cell.value
        }
        return row.model_copy(update={"metrics": row.metrics | cells})

    return tuple(limited(row) for row in rows)


def mean_bits(share: Mapping[str, float]) -> float:
    """Bits per stored weight over all types, scales and zero points among them.

    >>> mean_bits({"u4": 0.5, "u8": 0.5})
    6.0
    """
    return sum(part * BITS.get(kind, 32) for kind, part in share.items()) / (sum(share.values()) or 1.0)


def bytes_per_token(model: ModelProfile, share: Mapping[str, float], kind: str) -> float:
    """Bytes of weights read to write one token: all but an embedding that is not the head as well.

    `kind` is the arithmetic: a runtime that computes in bf16 keeps what is stored in fp32 in bf16 as well.
    """
    table = model.vocabulary * model.hidden_size
    weights = model.parameters if model.tied_embeddings else model.parameters - table
    bits = mean_bits(share)
    return weights * (min(bits, 16.0) if kind == "bf16" else bits) / 8


def operations_per_token(model: ModelProfile) -> float:
    """Multiplications and additions a prompt token needs; the head is needed for the last token alone."""
    tables = (1 if model.tied_embeddings else 2) * model.vocabulary * model.hidden_size
    return 2.0 * (model.parameters - tables)


def arithmetic(precision: str, execution: str) -> str:
    """The type whose matrix throughput bounds a variant: integers where weights are quantized, else as executed.

    >>> arithmetic("int4", "bf16"), arithmetic("fp32", "bf16"), arithmetic("fp32", "float32")
    ('int8', 'bf16', 'fp32')
    """
    if precision in ("int8", "int4"):
        return "int8"
    return "bf16" if execution.startswith(("bf16", "bfloat16")) else "fp32"


def _peak(ceiling: Ceiling, kind: str) -> Quantity | None:
    """Matrix throughput of a type; where the machine has no fast kernel for it a runtime can widen to fp32."""
    known = [ceiling.gflop_s[name] for name in (kind, "fp32") if name in ceiling.gflop_s]
    return max(known, key=lambda speed: speed.p50) if kind in ceiling.gflop_s else None


def bound(speed: Quantity, share: float | None, limit: float, name: Bound) -> Bound:
    """Tell what holds a phase back: its physical limit when it comes near that, else overhead."""
    if share is None:
        return "unknown"
    if speed.unsteadiness > INCONSISTENT or share > 1 + INCONSISTENT:
        return "inconsistent"
    return name if share >= limit else "overhead-bound"
