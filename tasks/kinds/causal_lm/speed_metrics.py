"""Rows of the metric catalogue of causal language models: phases of reading and writing, and energy of a token."""

from __future__ import annotations

from tasks.kinds.catalogue import NEVER, Axis, CardLine, Column, Gate, MetricSpec, Place, speedup

NO_PROMPT = "the data gives no prompt that long"
NO_LOOKUP = "the runtime has no prompt lookup"
NO_BATCH = "the data gives too few prompts of one length"

PHASES = (
    MetricSpec(
        name="load_s",
        title="load",
        group="speed",
        better="lower",
        unit="s",
        source="phase",
        card=CardLine("load, s", "{:.2f}", order=7),
    ),
    MetricSpec(
        name="first_call_ms",
        title="first call",
        group="speed",
        better="lower",
        form="whole",
        unit="ms",
        source="unscored",
    ),
    MetricSpec(
        name="time_to_first_token_ms",
        title="time to first token",
        group="speed",
        better="lower",
        form="whole",
        unit="ms",
        source="phase",
        column=Column("TTFT", "time to first token of a short prompt, median", order=7, drop=1),
        card=CardLine("time to first token, ms", "{:.1f}", order=8),
        watch=Place(3, "time to first token"),
    ),
    MetricSpec(
        name="prefill_tokens_per_s",
        title="prefill",
        group="speed",
        better="higher",
        unit="tok/s",
        source="phase",
        bound_by="arithmetic",
        column=Column(
            "prefill", "speed of reading a long prompt, median", order=8, extras=("×",), drop=10, drop_extras=7
        ),
        card=CardLine("prefill, tokens/s", "{:.0f}", order=9),
        axis=Axis("prefill", 0.3, "log", "tok/s", order=3),
        headline=Place(2, "prefill"),
        watch=Place(2, "prefill speed"),
        slower=Place(1, "reading prompts"),
    ),
    MetricSpec(
        name="decode_tokens_per_s",
        title="decode",
        group="speed",
        better="higher",
        unit="tok/s",
        source="phase",
        bound_by="bandwidth",
        column=Column("decode", "speed of writing, median", order=9, extras=("×", "spread"), drop=NEVER, drop_extras=9),
        card=CardLine("decode, tokens/s", "{:.1f}", order=10),
        axis=Axis("decode", 0.3, "log", "tok/s", order=2),
        headline=Place(1, "decode"),
        watch=Place(1, "decode speed"),
        plane=Place(1, "Quality and decode speed"),
        slower=Place(3, "writing"),
    ),
    MetricSpec(
        name="prefill_longest_tokens_per_s",
        title="prefill of the longest prompt",
        group="speed",
        better="higher",
        unit="tok/s",
        source="optional",
        bound_by="arithmetic",
        absent=NO_PROMPT,
        slower=Place(2, "reading the longest prompt"),
    ),
    MetricSpec(
        name="decode_long_tokens_per_s",
        title="decode after a long prompt",
        group="speed",
        better="higher",
        unit="tok/s",
        source="optional",
        bound_by="bandwidth",
        absent=NO_PROMPT,
        slower=Place(4, "writing after a long prompt"),
    ),
    MetricSpec(
        name="batch_tokens_per_s",
        title="prompts at once",
        group="speed",
        better="higher",
        unit="tok/s",
        source="optional",
        bound_by="arithmetic",
        absent=NO_BATCH,
        slower=Place(5, "prompts at once"),
    ),
    # A property of what is written, not of the artifact alone: a column of its own, and never the decode speed.
    MetricSpec(
        name="lookup_tokens_per_s",
        title="decode by prompt lookup",
        group="speed",
        better="higher",
        unit="tok/s",
        source="optional",
        absent=NO_LOOKUP,
        column=Column("copying", "speed of writing what copies its prompt, by prompt lookup", order=10, drop=1),
        card=CardLine("decode by prompt lookup where the prompt is copied, tokens/s", "{:.1f}", order=18),
    ),
    MetricSpec(
        name="lookup_gain",
        title="prompt lookup over plain decode",
        group="speed",
        better="higher",
        form="ratio",
        source="optional",
        absent=NO_LOOKUP,
        card=CardLine("prompt lookup over plain decode of the same, times", "{:.2f}", order=19),
    ),
)
CONSISTENCY = (
    MetricSpec(
        name="inter_token_p95_ms",
        title="95th percentile of the time between tokens",
        group="stability",
        better="lower",
        form="whole",
        unit="ms",
    ),
)
EVENNESS = (
    MetricSpec(name="tail_ratio", title="slowest tokens", group="stability", better="lower", gate=Gate("tail", 3.0)),
    MetricSpec(
        name="inter_token_cv", title="variation between tokens", group="stability", better="lower", gate=Gate("CV")
    ),
)
ENERGY = (MetricSpec(name="joules_per_token", title="energy of a token", group="energy", better="lower", unit="J"),)
ENERGY_SHARE = (
    MetricSpec(
        name="energy_share",
        title="energy per token",
        group="energy",
        better="lower",
        form="share",
        of="joules_per_token",
        against="share",
        gate=Gate("energy"),  # on by choice: no gate passes on an estimate
    ),
)
SPEEDUPS = (
    speedup(
        "decode_speedup",
        "decode_tokens_per_s",
        "decode speed",
        Gate("decode", 2.0),
        step=Place(1, "decode"),
        claim="writes {}",
        versus="decode {}",
    ),
    speedup(
        "prefill_speedup",
        "prefill_tokens_per_s",
        "prefill speed",
        Gate("prefill", 1.0),
        step=Place(2, "prefill"),
        claim="reads prompts {}",
        versus="prefill {}",
    ),
    speedup("decode_long_speedup", "decode_long_tokens_per_s", "decode after a long prompt", Gate("long", 1.0)),
    speedup(
        "prefill_longest_speedup", "prefill_longest_tokens_per_s", "prefill of the longest prompt", Gate("longest")
    ),
    speedup("ttft_speedup", "time_to_first_token_ms", "time to first token", Gate("TTFT")),
    speedup("batch_speedup", "batch_tokens_per_s", "prompts at once", Gate("batch")),
)
