"""mlx-lm folders: the checkpoint in half precision, in affine groups, or on the grid that it came on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tasks.backends.base import Work
from tasks.backends.files import with_config
from tasks.backends.mlx.affine import GROUP, Grid, grids_of, put
from tasks.backends.traits import AS_STORED
from tasks.errors import UnsupportedError
from tasks.records.plan import Recipe

BITS = {"int8": 8, "int4": 4}


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write an mlx-lm folder: fp16, or group-quantized to 8 or 4 bits (affine, one scale and bias a group)."""
    from mlx_lm import convert as mlx_convert

    source = _with_rope_theta(work.model, out.with_name(f"{out.name}.source"))
    out.rmdir()  # mlx-lm wants to make the folder itself
    options: dict[str, Any] = {"dtype": "float16"}
    grids: dict[str, Grid] = {}  # layers that are kept on the grid that they came on
    if recipe.method == AS_STORED:
        grids = grids_of(work.model)
        if not grids:
            raise UnsupportedError(
                "no weights of this model lie on a grid that MLX has; nothing can be kept as it came"
            )
        options |= {"quantize": True, "q_bits": BITS[recipe.precision], "q_group_size": GROUP}
        options["quant_predicate"] = lambda layer, _: (
            {"group_size": GROUP, "bits": grids[layer].bits, "mode": "affine"} if layer in grids else False
        )
    elif recipe.precision in BITS:
        options |= {"quantize": True, "q_bits": BITS[recipe.precision], "q_group_size": recipe.group_size or 64}
    elif recipe.precision != "fp16":
        raise UnsupportedError(f"MLX variants are fp16, int8 or int4, not {recipe.precision}")
    try:
        mlx_convert(hf_path=str(source), mlx_path=str(out), **options)
    except (ValueError, ModuleNotFoundError) as error:
        raise UnsupportedError(f"mlx-lm refused this model: {error}") from error
    finally:
        shutil.rmtree(source)
    if grids:
        put(grids, out)


def _with_rope_theta(model: Path, out: Path) -> Path:
    """Link the checkpoint with `rope_theta` and `rope_scaling` at the top of its configuration.

    mlx-lm 0.31 ignores the `rope_parameters` that transformers 5 writes, and silently takes theta 10000, not scaled.
    """
    settings = json.loads((model / "config.json").read_text())
    rope = settings.get("rope_parameters") or {}
    if "rope_theta" in rope:
        settings.setdefault("rope_theta", rope["rope_theta"])
    if rope.get("rope_type", "default") != "default":
        settings.setdefault("rope_scaling", {name: value for name, value in rope.items() if name != "rope_theta"})
    return with_config(model, settings, out)
