"""Say of any checkpoint folder which frameworks could carry it on a device, in their order, without making anything.

That is for models of which no kind is made here yet: those that read pictures or sound beside text. What each framework
would need is told; nothing of them is measured on this device. Of all others `make run DRY=1` tells more.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from tasks.assess import show
from tasks.detect import detect
from tasks.errors import EXIT_OK, ModelError
from tasks.kinds.causal_lm.describing import describe
from tasks.kinds.table import KINDS
from tasks.params.pipeline import HOST, Assess
from tasks.planning.compatibility import compatibility
from tasks.planning.selection import select
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Selection
from tasks.run.stage import run_stage


def advise(folder: Path, hardware: Hardware, wishes: Assess) -> tuple[ModelProfile, Selection]:
    """Profile the checkpoint in `folder` and rank the frameworks for it; raises ModelError for what is none."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json; give the folder of a Hugging Face checkpoint (*.safetensors)")
    model = describe(folder)
    outer = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model_type = str(outer.get("model_type", "")) if model.modality not in KINDS else model.model_type
    known = compatibility(model.architecture, model_type, model.modality)
    model = model.model_copy(update={"compatibility": known, "model_type": model_type})
    return model, select(hardware, model, wishes)


def in_words(model: ModelProfile, selection: Selection) -> str:
    """What follows from it, in a sentence or two."""
    if model.modality in KINDS:
        return f"Models of the kind {model.modality} are made and measured here: make run MODEL={model.source}"
    able = [f"{choice.framework} ({choice.support.reason})" for choice in selection.ranking if choice.support.ok]
    if not able:
        return f"No framework here carries a {model.modality} model of type {model.model_type!r}; not measured."
    alone = "Its language model saved alone (model.language_model, then save_pretrained) is made and measured."
    said = f"Not made here yet, so not measured on this device. In this order it would be taken to: {'; '.join(able)}."
    return f"{said} {alone}" if model.modality == "vision-language" else said


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    made = argparse.ArgumentParser(prog="python -m tasks.advise", description=__doc__)
    made.add_argument("model", help="folder of a checkpoint: config.json and *.safetensors")
    made.add_argument("--target", default=HOST, help="host, or a device profile")
    told = made.parse_args(argv)

    def work() -> int:
        model, selection = advise(Path(told.model).expanduser(), detect(told.target), Assess())
        console = Console()
        console = console if console.is_terminal else Console(width=140)
        show(model, selection, [], console)
        console.print(in_words(model, selection), highlight=False)
        return EXIT_OK

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
