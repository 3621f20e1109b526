"""Describe any ONNX file."""

from tasks.kinds.arrays.describing import describe as describe
