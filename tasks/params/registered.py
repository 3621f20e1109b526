"""The name under which a model's versions are registered: its own, so that none takes another's champion."""

from __future__ import annotations

import hashlib
import re

AUTO = "auto"
PREFIX = "edgewright-"
FILE = re.compile(r"\.(gguf|npz|onnx|safetensors|xml)$")  # a file of weights; a version number is none
SAMPLE = "sample"  # the model that comes with the project


def registered_name(asked: str, model: str) -> str:
    """Name of the registered model: as asked, or with `auto` after the model of `fetch.model`.

    A directory, a file and a hub id give their last part. One that would be taken for the sample is told apart from it.

    >>> registered_name("auto", "sample"), registered_name("auto", "HuggingFaceTB/SmolLM2-360M-Instruct")
    ('edgewright-sample', 'edgewright-smollm2-360m-instruct')
    >>> registered_name("mine", "sample")
    'mine'
    """
    if asked != AUTO:
        return asked
    last = FILE.sub("", re.split(r"[/\\]", model.rstrip("/\\"))[-1])
    slug = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "model"
    if slug == SAMPLE and model != SAMPLE:
        slug = f"{slug}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"
    return PREFIX + slug
