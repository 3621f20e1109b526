"""What is asked of an APK or an AI pack before it is shipped: by arithmetic of our own, and by Android's tools."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.errors import ModelError
from tasks.packaging.manifest import sha256
from tasks.records.bundles import Check
from tasks.sources import gguf
from tasks.targets import bundled, crossbuilt, elf, grammar
from tasks.targets.android import apk, tools

MODEL, TOLD, RUNTIME = "assets/model.gguf", "assets/model.json", "runtime.json"
ABI = "arm64-v8a"
LIBRARIES = "lib/"
# What has to be so for a model to be mapped, and for the APK to install as it is: it holds no code of its own.
MANIFEST = {"apk": {"hasCode": "false", "extractNativeLibs": "false"}, "ai-pack": {"type": "ai-pack"}}


def packed(bundle: Path) -> Path:
    """The APK or the module of a bundle; raises ModelError where there is not exactly one."""
    found = sorted((*bundle.glob("*.apk"), *bundle.glob("*.zip")))
    if len(found) != 1:
        raise ModelError(f"{bundle} holds {len(found)} archives, not one")
    return found[0]


def form(file: Path) -> str:
    """`apk`, or `ai-pack`."""
    return "apk" if file.suffix == ".apk" else "ai-pack"


def checks(bundle: Path) -> tuple[Check, ...]:
    """Everything that can be asked of it here."""

    def of(fault: Callable[[Path], str]) -> Callable[[], str]:
        return lambda: fault(packed(bundle))

    return (
        bundled.check("pages of 16 KiB in the archive", of(apk.fault)),
        bundled.check("GGUF inside the archive", of(model_fault)),
        _native(bundle),
        _tool("zipalign", "zipalign -c -p 4 (pages of 4 KiB: it knows no others)", of(zipalign_fault)),
        _contents(bundle),
        _tool("aapt2", "aapt2 dump xmltree", of(manifest_fault)),
        _signature(bundle),
        grammar.syntax("Kotlin", sorted(bundle.rglob("*.kt"))),
        _glue(bundle),
        bundled.manifest_check(bundle),
        Check(name="Gradle and bundletool", state="not-measured", reason="Android's SDK and NDK do not run here"),
    )


def model_fault(file: Path) -> str:
    """Whether the model is the one that the archive tells of, whole, with each tensor where it can be mapped."""
    place, told = apk.one_of(file, MODEL), apk.one_of(file, TOLD)
    with TemporaryDirectory(prefix="edgewright-apk-") as scratch:
        model, about = Path(scratch) / "model.gguf", Path(scratch) / "model.json"
        apk.extract(file, place, model)
        apk.extract(file, told, about)
        gguf.check(model)
        if fault := tensor_fault(model, place.offset):
            return fault
        said = json.loads(about.read_text(encoding="utf-8"))["sha256"]
        return "" if sha256(model) == said else "the model is not the one that assets/model.json tells of"


def tensor_fault(model: Path, offset: int) -> str:
    """The first tensor that would not lie at a multiple of the file's alignment when mapped from `offset`, in words."""
    reader = gguf.read(model)
    unit = int(gguf.metadata(reader, "general.alignment", 32))
    end = 0
    for tensor in sorted(reader.tensors, key=lambda one: int(one.data_offset)):
        begins = int(tensor.data_offset)
        if (offset + begins) % unit:
            return f"tensor {tensor.name} begins at byte {offset + begins}, which is no multiple of {unit}"
        if begins < end:
            return f"tensor {tensor.name} begins at byte {begins} of the model, inside the one before it"
        end = begins + int(tensor.n_bytes)
    return ""


def libraries_fault(file: Path) -> str:
    """The first library that Android cannot map, or has no loader for, in words."""
    with zipfile.ZipFile(file) as archive:
        for name in (one for one in archive.namelist() if one.startswith(LIBRARIES)):
            abi = name.split("/")[1]
            if abi not in elf.MACHINES:
                return f"{name}: libraries are those of {', '.join(elf.MACHINES)}, not of {abi}"
            data = archive.read(name)
            if fault := elf.fault(data, abi):
                return f"{name}: {fault}"
            if elf.read(data).for_glibc:
                return f"{name} needs glibc, which Android does not have; build it with an NDK"
    return ""


def _native(bundle: Path) -> Check:
    name = "native libraries (machine, segments of 16 KiB, no glibc)"
    try:
        names = [one.name for one in apk.placed(packed(bundle)) if one.name.startswith(LIBRARIES)]
        told = json.loads((bundle / RUNTIME).read_text(encoding="utf-8"))
    except (ModelError, OSError, ValueError) as error:
        return Check(name=name, state="failed", reason=f"they cannot be read: {error}")
    if not names:
        return Check(name=name, state="not-measured", reason=str(told["reason"]))
    return bundled.check(name, lambda: libraries_fault(packed(bundle)))


def zipalign_fault(file: Path) -> str:
    """What zipalign says against it."""
    code, said = tools.run(["zipalign", "-c", "-v", "-p", "4", str(file)])
    bad = [line.strip() for line in said.splitlines() if "BAD" in line]
    return "" if code == 0 else (bad[0] if bad else tools.first(said))


def badging_fault(file: Path) -> str:
    """What aapt2 cannot read of an APK."""
    code, said = tools.run(["aapt2", "dump", "badging", str(file)])
    return "" if code == 0 and "package: name='" in said else tools.first(said)


def code_fault(file: Path) -> str:
    """The first file that is code, which an AI pack may not hold, in words."""
    names = [one.name for one in apk.placed(file)]
    code = [one for one in names if one.startswith((LIBRARIES, "dex/")) or one.endswith((".dex", ".so"))]
    return f"an AI pack may hold models only, and has {code[0]}" if code else ""


def _contents(bundle: Path) -> Check:
    """An APK as aapt2 reads it; a module of an app bundle has no badging, and no code."""
    if list(bundle.glob("*.zip")):
        return bundled.check("AI pack without code", lambda: code_fault(packed(bundle)))
    return _tool("aapt2", "aapt2 dump badging", lambda: badging_fault(packed(bundle)))


def manifest_fault(file: Path) -> str:
    """What its manifest, read back, says otherwise than it has to."""
    with TemporaryDirectory(prefix="edgewright-apk-") as scratch:
        found = tools.attributes(file, Path(scratch))
    if not found.get("package"):
        return "the manifest names no package"
    for name, value in MANIFEST[form(file)].items():
        if found.get(name) != value:
            return f"the manifest says {name}={found.get(name)}, and has to say {value}"
    return "" if found.get("split") == file.stem else f"its split is {found.get('split')!r}, not {file.stem!r}"


def _signature(bundle: Path) -> Check:
    name = "apksigner verify"
    try:
        file = packed(bundle)
    except ModelError as error:
        return Check(name=name, state="failed", reason=str(error))
    if form(file) == "ai-pack":
        return Check(name=name, state="not-measured", reason="a module is not signed: Play signs the APKs it makes")
    told = json.loads((bundle / RUNTIME).read_text(encoding="utf-8"))
    if not told["signed"]:
        return Check(name=name, state="not-measured", reason="unsigned: options.keystore names no key to sign it by")
    return _tool("apksigner", name, lambda: signature_fault(file))


def signature_fault(file: Path) -> str:
    """What apksigner says against the signature."""
    code, said = tools.verified(file)
    found = tools.schemes(said)
    return "" if code == 0 and {"v2", "v3"} <= set(found) else tools.first(said)


def _tool(tool: str, name: str, fault: Callable[[], str]) -> Check:
    if shutil.which(tool) is None:
        reason = f"{tool} is not installed: apt-get install {tools.PACKAGES[tool]} does on Debian"
        return Check(name=name, state="not-measured", reason=reason)
    return bundled.check(name, fault)


def _glue(bundle: Path) -> Check:
    name = "C++ part of the loader, by a compiler"
    headers, llama = crossbuilt.jni(), crossbuilt.headers()
    if headers is None or llama is None or shutil.which("c++") is None:
        absent = "a C++ compiler, a JDK's jni.h and llama.h"
        reason = f"it needs {absent}; python -m tasks.targets.crossbuilt keeps the last"
        return Check(name=name, state="not-measured", reason=reason)
    places = [f"-I{one}" for one in (headers, headers / "linux", llama)]
    source = [str(one) for one in sorted(bundle.rglob("*.cpp"))]

    def fault() -> str:
        flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
        code, said = tools.run(["c++", *flags, *places, *source])
        return said.strip().split(os.linesep)[0] if code or not source else ""

    return bundled.check(name, fault)
