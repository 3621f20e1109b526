"""Drill: an image of each framework, built and started for real, asked, stopped under load, and with a changed byte.

Bases are made from Debian's packages, wheels fetched once; buildah and Podman (runc) do the rest, as root. The packages
are those of this checkout's variants, and of a tiny model where it has none.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tasks.errors import UnsupportedError
from tasks.kinds.table import packing
from tasks.packaging.manifest import CONTENTS, Contents, write_manifest
from tasks.records.artifact import Artifact
from tasks.records.model import ModelProfile
from tasks.run.workspace import Workspace
from tasks.targets import answers, container, over_http
from tasks.targets.base import Shipped
from tasks.targets.container import checks, pins
from tasks.targets.container.images import Images, home, lacking
from tasks.targets.container.services import USER
from tests import ROOT, serving, tiny
from tests import factories as make
from tests.bench import harness
from tests.bench.harness import Figures, Limit, tell

NAME = "edgewright-drill"
VARIANTS = {"openvino": "openvino-int8", "onnx": "onnx-int8", "gguf": "gguf-q4_k_m", "mlx": "mlx-int4"}
TEXTS = ("What is the capital of France?", "A train leaves at nine and", "One, two, three,")
READY_S = 180.0
STREAMS, STREAMED = 4, 32  # tokens: what a busy machine writes within the time that a stop leaves (serve.drain_s)
EACH = {
    "validators_failed": Limit(most=0),
    "texts_compared": Limit(least=len(TEXTS)),
    "texts_apart": Limit(most=0),
    "chat_answered": Limit(least=1),
    "not_its_user": Limit(most=0),
    "places_written": Limit(most=0),  # of the root, which is read only
    "compilers_inside": Limit(most=0),
    "set_user_files": Limit(most=0),
    "health_check_kept": Limit(least=1),
    "lost_when_stopped": Limit(most=0),
    "stop_exit_code": Limit(most=0),
    "changed_byte_refused": Limit(least=1),  # with exit code 2 and the name of the file
}
LOOKED_FOR = ("g++", "gcc", "cc", "clang", "cmake", "pip", "apt-get")  # that no server needs
TRAINING = ("torch", "mlflow", "nncf", "onnx")


def limits(frameworks: Sequence[str]) -> dict[str, Limit]:
    """Bounds on the figures of each framework."""
    return {f"{framework}_{name}": limit for framework in frameworks for name, limit in EACH.items()}


# -- packages ----------------------------------------------------------------------------------------------------------


def shipped(framework: str, folder: Path, given: Path | None = None) -> Shipped:
    """What goes into the image: a package that is given, one of this checkout's variants, or a tiny model's."""
    workspace = Workspace(ROOT / "artifacts")
    package = folder / "package"
    if given is not None:
        shutil.copytree(given, package)
    elif workspace.artifact_record(VARIANTS[framework]).is_file() and workspace.profile.is_file():
        _packed(workspace, VARIANTS[framework], package)
    else:
        tell(f"{framework}: this checkout has no {VARIANTS[framework]}; a tiny model takes its place")
        serving.package(package, tiny.model(folder / "tiny", tiny.tokenizer(folder / "tokenizer")), framework)
    contents = Contents.read(package / CONTENTS)
    profile = ModelProfile.read(workspace.profile) if workspace.profile.is_file() else make.profile()
    return Shipped(package=package, contents=contents, profile=profile, name=NAME, probes=TEXTS)


def _packed(workspace: Workspace, variant: str, out: Path) -> None:
    """A variant as a package; no verdict was asked for, which the bundle says."""
    artifact = Artifact.read(workspace.artifact_record(variant))
    shutil.copytree(workspace.artifact_files(variant), out / "model")
    packing("causal-lm").companions(workspace.model, out)
    Contents(
        model="SmolLM2-135M-Instruct", origin="this checkout's sample", source_sha256="0" * 64, variant=variant,
        backend=artifact.recipe.backend, recipe=artifact.recipe, tensor_share={}, versions={}, runtime={}, settings={},
        requirements=(), chat=True, verdict="inconclusive", results_digest="0" * 64,
    ).write(out / CONTENTS)  # fmt: skip
    write_manifest(out)


# -- drills ------------------------------------------------------------------------------------------------------------


def drill(folder: Path, framework: str, given: Path | None = None) -> Figures:
    """All figures of one framework's image."""
    images = Images(home(), tell)
    images.prepare()
    what = shipped(framework, folder, given)
    wheels = images.fetch(pins.pins())
    target = container.target("container", "host")
    context = folder / "context"
    context.mkdir()
    hashed = Shipped(**{**vars(what), "options": {"wheels": str(wheels)}, "anyway": "for the drill"})
    target.build(hashed, context)
    said = target.validate(context)
    for one in said:
        tell(f"{framework}: {one.name}: {one.state}: {one.reason}")
    tag = f"localhost/edgewright-drill:{framework}"
    figures: Figures = {
        "validators_failed": sum(one.state == "failed" for one in said),
        "validators_not_measured": sum(one.state == "not-measured" for one in said),
        "build_s": images.build(context, framework, tag),
        "image_mb": images.size_mb(tag),
    }
    figures |= inside(images, tag)
    figures |= rights(images, tag)
    figures |= healthy(images, tag)
    figures |= answering(images, tag, what)
    figures |= stopping(images, tag)
    figures |= tampered(images, tag, context / checks.INSIDE, folder / "changed")
    return {f"{framework}_{name}": value for name, value in figures.items()}


def inside(images: Images, tag: str) -> Figures:
    """How many compilers, installers and torch are in the image, and files that run as another user."""
    script = (
        "import os, shutil, importlib.util as u\n"
        f"print(' '.join([n for n in {LOOKED_FOR!r} if shutil.which(n)] + [n for n in {TRAINING!r} if u.find_spec(n)]))"
        "\nw = [os.path.join(d, f) for d, _, fs in os.walk('/usr') for f in fs]"
        "\nprint(sum(1 for f in w if not os.path.islink(f) and os.stat(f).st_mode & 0o6000))"
    )
    found = images.said(tag, script).splitlines()
    if found[0]:
        tell(f"{tag}: inside are {found[0]}")
    return {"compilers_inside": len(found[0].split()), "set_user_files": int(found[1])}


def healthy(images: Images, tag: str) -> Figures:
    """Start it as it is, by its own command, and ask by its own health check until that says it is well."""
    test = images.config(tag)["Healthcheck"]["Test"][1:]
    began = time.monotonic()
    with images.started(tag) as running:
        well = 0.0
        while not well and time.monotonic() - began < READY_S:
            try:
                running.run(*test)
                well = 1.0
            except UnsupportedError:
                time.sleep(0.5)
    tell(f"{tag}: its health check says {'well' if well else 'nothing'} after {time.monotonic() - began:.1f} s")
    return {"health_check_kept": well}


def answering(images: Images, tag: str, what: Shipped) -> Figures:
    """Start it, compare its texts with the package's, and talk with it."""
    began = time.monotonic()
    with images.started(tag, NAME) as running:
        running.until_ready(READY_S)
        cold = time.monotonic() - began
        found = over_http.compared(what.contents.backend, what, running, answers.encoded(what), container.near(what))
        tell(f"{tag}: ready after {cold:.1f} s; {found.reason}")
        chat = {"model": NAME, "messages": [{"role": "user", "content": TEXTS[0]}], "max_tokens": 8, "temperature": 0}
        status, said = running.ask("/v1/chat/completions", chat)
        ready, _ = running.ask(f"/v2/models/{NAME}/ready")
        figures = {"chat_answered": float(status == 200 and ready == 200 and bool(text_of(said)))}
        return {
            "cold_start_s": cold,
            "texts_compared": found.answers,
            "texts_apart": found.difference,
            **figures,
        }


def text_of(said: Any) -> str:
    """The words of a chat's answer."""
    return str(said["choices"][0]["message"]["content"]) if said else ""


def rights(images: Images, tag: str) -> Figures:
    """Whether it runs as its user, and how many places outside of its log it could write to."""
    script = (
        "import os; u = os.getuid(); w = 0\n"
        "for p in ('/', '/app', '/app/tasks', '/package', '/package/model', '/opt/venv', '/etc', '/usr'):\n"
        "    try:\n"
        "        open(p + '/x', 'w').close(); w += 1\n"
        "    except OSError: pass\n"
        "print(u, w)"
    )
    user, written = map(int, images.said(tag, script).split())
    return {"not_its_user": float(user != USER), "places_written": written}


def stopping(images: Images, tag: str) -> Figures:
    """Stop it while it streams: every answer that began comes to its end, and it ends with 0."""
    with images.started(tag, NAME) as running:
        running.until_ready(READY_S)
        begun, ends = threading.Barrier(STREAMS + 1, timeout=READY_S), list[bool]()
        callers = [threading.Thread(target=stream, args=(running.base, begun, ends)) for _ in range(STREAMS)]
        for one in callers:
            one.start()
        begun.wait()
        told = time.monotonic()
        running.stop()
        for one in callers:
            one.join(READY_S)
        code = running.exit_code()
        took = time.monotonic() - told
    tell(f"{tag}: {sum(ends)} of {STREAMS} answers came to their end, exit code {code} after {took:.1f} s")
    return {"lost_when_stopped": STREAMS - sum(ends), "stop_exit_code": code, "stop_s": took}


def stream(base: str, begun: threading.Barrier, ends: list[bool]) -> None:
    """One answer as it is written, told when its first piece is there; whether all of it came."""
    body = {
        "model": NAME, "prompt": TEXTS[1], "max_tokens": STREAMED, "stream": True, "temperature": 0, "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    tokens, done, waited = 0, False, False
    try:
        with httpx.stream("POST", f"{base}/v1/completions", json=body, timeout=READY_S) as response:
            for line in response.iter_lines():
                if line.startswith("data: ") and not waited:
                    waited = bool(begun.wait() + 1)
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    tokens = (json.loads(line[6:]).get("usage") or {}).get("completion_tokens", tokens)
    except (httpx.HTTPError, threading.BrokenBarrierError) as error:
        tell(f"a stream was cut: {type(error).__name__}: {error}")
    ends.append(done and tokens == STREAMED)


def tampered(images: Images, tag: str, package: Path, out: Path) -> Figures:
    """One byte of the model is another: it is refused at the start."""
    shutil.copytree(package, out)
    out.chmod(0o755)
    largest = max((file for file in (out / "model").rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    with images.started(tag, NAME, out) as running:
        code = running.exit_code()
        printed = running.printed()
    tell(f"{tag}: a changed byte: exit code {code}: {printed.splitlines()[-1] if printed else 'nothing printed'}")
    return {"changed_byte_refused": float(code == 2 and largest.name in printed)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; exit code 1 when a limit is not kept."""
    made = harness.parser("drill.containers", __doc__)
    made.add_argument("--framework", action="append", choices=tuple(VARIANTS), help="one of the images (all four)")
    made.add_argument("--package", type=Path, help="a package folder of that framework (this checkout's variant)")
    told = made.parse_args(argv)
    frameworks = tuple(told.framework or VARIANTS)
    if told.package is not None and len(frameworks) != 1:
        made.error("--package goes with one --framework")
    if why := lacking():
        made.error(f"no image can be built here: {why}")

    def all_of(scratch: Path) -> Figures:
        figures: Figures = {}
        for framework in frameworks:
            folder = scratch / framework
            folder.mkdir()
            figures |= drill(folder, framework, told.package)
        return figures

    return harness.main("containers", all_of, limits(frameworks))


if __name__ == "__main__":
    raise SystemExit(main())
