"""The fixed words that records and parameters are made of."""

from __future__ import annotations

from typing import Literal

Status = Literal["ok", "skipped", "failed"]
Backend = str  # a name of tasks/backends/table.py, or the module of one that is not there
Framework = str  # what a backend says it is ranked as
Precision = Literal["fp32", "bf16", "fp16", "int8", "int4"]
FEW_BITS: tuple[Precision, ...] = ("int8", "int4")  # that weights are quantized to
TRAINED_ROUNDING = "qat"  # the method of a variant whose rounding to 8 bits is learnt in training
ExpertsBy = Literal["reap", "ean", "frequency"]  # how experts are judged: tasks/kinds/causal_lm/experts.py
Role = Literal["reference", "rival", "candidate"]
# unreachable: failed, and a physical limit of this device proves that nothing of the kind could pass on it
Outcome = Literal["pass", "fail", "inconclusive", "unreachable"]
