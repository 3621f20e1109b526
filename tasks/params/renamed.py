"""Keys of params.yaml that have another name now, or none: an old one is refused, and told why."""

from __future__ import annotations

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "data.more": "data.extra_share",
    "benchmark.apart": "benchmark.reference_every",
    "benchmark.energy_s": "benchmark.energy",
    "benchmark.precision": "benchmark.max_speedup_margin",
    "promotion.fewest": "promotion.min_requests",
    "promotion.real": "promotion.min_caller_share",
    "promotion.looks": "promotion.max_looks",
    "promotion.mirror": "promotion.mirror_share",
    "promotion.latency": "promotion.max_latency_ratio",
    "promotion.confidence": "promotion.max_confidence_drop",
    "promotion.agreement": "promotion.min_agreement",
    "promotion.most_memory": "promotion.max_memory_ratio",
    "promotion.start_s": "promotion.max_start_s",
    "promotion.unready_s": "promotion.max_unready_s",
    "promotion.hold_s": "promotion.max_hold_s",
    "monitor.most_rows": "monitor.max_rows",
    "monitor.shadow_rows": "monitor.reference_rows",
    "monitor.notices_per_hour": "monitor.max_notices_per_hour",
    "monitor.drift.fewest": "monitor.drift.min_requests",
    "monitor.drift.most": "monitor.drift.max_requests",
    "monitor.drift.reference": "monitor.drift.reference_requests",
    "monitor.drift.effect": "monitor.drift.min_distance",
    "monitor.drift.share": "monitor.drift.min_category_distance",
    "monitor.drift.accuracy": "monitor.drift.max_accuracy_drop",
    "monitor.drift.certainty": "monitor.drift.confidence",
    "monitor.repair.better": "monitor.repair.min_improvement",
    "monitor.repair.per_day": "monitor.repair.max_steps_per_day",
}

REMOVED: Mapping[str, str] = {
    "fetch.trust_remote_code": "code that came with a model ran in one framework of four, and was no reference for "
    "the others; architectures that transformers has are taken without it",
}
