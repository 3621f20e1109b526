"""Language models: exported by optimum-intel, weights compressed by NNCF."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.backends.base import Work
from tasks.errors import UnsupportedError
from tasks.records.plan import Recipe

FILE = "openvino_model.xml"
SAMPLES = 16  # of the calibration rows; AWQ and scale estimation run the model on each


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write OpenVINO IR with its tokenizer: fp32, int8 (per channel), or int4 with AWQ and scale estimation.

    From the fp32 IR, if there is one, else exported anew: the weights that are compressed are the same.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    from optimum.intel import OVModelForCausalLM

    base, compression = work.intermediate, _compression(work, recipe)
    try:
        with _any_transformers():
            model = OVModelForCausalLM.from_pretrained(
                base or work.model, export=base is None, compile=False, load_in_8bit=False,
                quantization_config=compression,
            )  # fmt: skip
    except MemoryError:  # that is no matter of the model's kind, and told apart
        raise
    except Exception as error:  # of any kind, where an architecture is newer or older than the export knows
        raise UnsupportedError(f"optimum-intel cannot export this model ({type(error).__name__}): {error}") from error
    model.save_pretrained(out)
    if base is None:
        _save_tokenizer(work.model, out)
    else:
        _take_tokenizer(base, out)


@contextmanager
def _any_transformers() -> Iterator[None]:
    """Lift the newest version of transformers that optimum-intel states for an architecture.

    Some bounds are older than what they bound: Gemma 3's is 5.0, and by 5.5 its export differs from the reference by
    less than .013 nats at every position, its window of 512 passed (n=700). Every artifact is compared with the
    reference before it is measured, so one that is wrong does not get past that.
    """
    from optimum.exporters.openvino import model_configs

    bound = "MAX_TRANSFORMERS_VERSION"
    bounded = [one for one in vars(model_configs).values() if isinstance(one, type) and bound in vars(one)]
    before = {one: getattr(one, bound) for one in bounded}
    for one in bounded:
        setattr(one, bound, None)
    try:
        yield
    finally:
        for one, version in before.items():
            setattr(one, bound, version)


def _compression(work: Work, recipe: Recipe) -> Any:
    from optimum.intel import OVWeightQuantizationConfig

    if recipe.precision == "fp32":
        return None
    if recipe.precision == "int8":
        return OVWeightQuantizationConfig(bits=8, sym=recipe.symmetric)
    if recipe.precision != "int4":
        raise UnsupportedError(f"OpenVINO variants are fp32, int8 or int4, not {recipe.precision}")
    options: dict[str, Any] = {
        "bits": 4, "sym": recipe.symmetric, "group_size": recipe.group_size or 64, "ratio": recipe.ratio,
    }  # fmt: skip
    if recipe.method == "awq":
        texts = list(work.calibration)[:SAMPLES]
        options |= {
            "quant_method": "awq", "scale_estimation": True, "dataset": texts, "num_samples": len(texts),
            "tokenizer": str(work.model),
        }  # fmt: skip
    return OVWeightQuantizationConfig(**options)


def _take_tokenizer(base: Path, out: Path) -> None:
    """The tokenizer as it lies beside the IR that this one is made from."""
    for file in base.iterdir():
        if file.is_file() and not file.name.startswith(Path(FILE).stem) and not (out / file.name).exists():
            shutil.copy2(file, out / file.name)


def _save_tokenizer(model: Path, out: Path) -> None:
    import openvino as ov
    from openvino_tokenizers import convert_tokenizer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.save_pretrained(out)
    encode, decode = convert_tokenizer(tokenizer, with_detokenizer=True)
    ov.save_model(encode, out / "openvino_tokenizer.xml")
    ov.save_model(decode, out / "openvino_detokenizer.xml")
