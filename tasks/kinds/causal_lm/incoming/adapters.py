"""Adapters: merged into their base where that is on this machine, else named with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.errors import ModelError
from tasks.sources import files as sources
from tasks.sources import safetensors

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MERGED = ("LORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "ADALORA", "VERA")  # kinds that are a change of the weights


def is_one(folder: Path) -> bool:
    """Tell whether a folder holds an adapter, be it beside its base."""
    whole = any(folder.glob("model*.safetensors"))  # settings alone stay behind where one was merged
    return (folder / SETTINGS).is_file() and ((folder / WEIGHTS).is_file() or not whole)


@contextmanager
def base_of(folder: Path) -> Iterator[Path]:
    """The folder of the base for as long as the block takes; raises ModelError where it is not on this machine.

    Looked for in the folder itself, where the settings point to, beside the folder by its name, and in the hub's cache.
    """
    settings = sources.read_object(folder / SETTINGS)
    stated = str(settings.get("base_model_name_or_path") or "")
    _check(folder, settings)
    if (folder / "config.json").is_file() and any(folder.glob("model*.safetensors")):
        with plain(folder) as base:
            yield base
        return
    named = Path(stated).name
    places = [Path(stated).expanduser(), folder / stated, folder.parent / named] if stated else []
    found = next((place for place in places if (place / "config.json").is_file()), None) or _cached(stated)
    if found is None:
        raise ModelError(
            f"{folder} is an adapter, and its base, {stated or 'which it does not name'}, is not on this machine; lay "
            f"the base's folder beside it{f' as {named}' if named else ''}, or merge it into its base (peft: "
            "merge_and_unload, then save_pretrained) and give that folder"
        )
    yield found


@contextmanager
def plain(folder: Path) -> Iterator[Path]:
    """The folder without what belongs to an adapter: libraries load one wherever they see its settings."""
    if not (folder / SETTINGS).is_file():
        yield folder
        return
    with TemporaryDirectory(prefix="edgewright-base-") as made:
        for file in folder.iterdir():
            if file.is_file() and not file.name.startswith("adapter_"):
                (Path(made) / file.name).symlink_to(file.resolve())
        yield Path(made)


def _check(folder: Path, settings: Mapping[str, Any]) -> None:
    kind = str(settings.get("peft_type", "")).upper()
    if kind not in MERGED:
        raise ModelError(
            f"{folder} is an adapter of the kind {kind or 'unknown'}, which is no change of the base's weights and "
            f"cannot be merged; allowed: {', '.join(MERGED)}"
        )
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder} is an adapter without {WEIGHTS}; fetch it again, or save it as safetensors")
    safetensors.tensors(folder / WEIGHTS)  # raises ModelError


def _cached(name: str) -> Path | None:
    """The base in the hub's cache, where it was downloaded before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True, allow_patterns=list(sources.KEEP)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        return None


def _short(error: Exception) -> str:
    """What a library says, in one line: the first of PyTorch's says nothing."""
    return " ".join(str(error).split())[:300]


def merge(model: Any, folder: Path, name: str) -> tuple[Any, str]:
    """The model with the adapter in its weights, and a note; raises ModelError where it does not fit in every part."""
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    state = load_file(folder / WEIGHTS)
    try:
        settings = PeftConfig.from_pretrained(str(folder))
        settings.inference_mode = False
        adapted = get_peft_model(model, settings)
        told: Any = set_peft_model_state_dict(adapted, dict(state))
        own = str(getattr(adapted.base_model, "prefix", "lora_"))  # in the names of the adapter's tensors
        missing = [key for key in told.missing_keys if own in key]
        if missing or told.unexpected_keys:
            what, keys = (
                ("does not have", missing) if missing else ("has, and the base has no place for,", told.unexpected_keys)
            )
            raise ModelError(f"{name}: the adapter {what} {', '.join(sorted(keys)[:3])}; it was made for another base")
        merged = adapted.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelError(f"{name}: the adapter cannot be merged into its base: {_short(error)}") from error
    return (
        merged,
        f"the adapter {folder.name} ({settings.peft_type.value}, {len(state)} tensors) is merged into its weights",
    )
