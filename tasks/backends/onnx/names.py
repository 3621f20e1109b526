"""Names of files that ONNX Runtime loads."""

from __future__ import annotations

FILE = "model.onnx"
SCORING = "scoring.onnx"  # of language models, the same weights with the logits of all positions
CONFIG = "genai_config.json"
