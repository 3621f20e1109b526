"""Android: an APK, or an AI pack, with the model stored where it is mapped from, and a loader in Kotlin and C++.

The APK is a split of the user's app: `assets/model.gguf` begins at a multiple of 16 KiB, and so do native libraries,
where they were built with an NDK. Options (`targets.NAME.options`): `form` (apk, ai-pack), `package`, `split`,
`version_code`, `delivery` of an AI pack (install-time, fast-follow, on-demand), `libraries` (a folder of libraries for
arm64-v8a, or `cross-build`: made here for glibc, which counts them and packs none), to sign `keystore`, `key_alias`,
`password_env` (the environment variable that has the password).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.errors import ConfigError, EdgewrightError, ModelError, UnsupportedError
from tasks.packaging.manifest import sha256
from tasks.records.base import Support, write_text
from tasks.records.bundles import Check, Compared, Component, Part
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.sources import gguf
from tasks.targets import answers, bundled, crossbuilt, elf, gguf_run
from tasks.targets.android import apk, checks, tools
from tasks.targets.android.checks import ABI, LIBRARIES, MODEL, RUNTIME, TOLD
from tasks.targets.base import Defaults, Shipped

DEFAULTS = Defaults(device="android-phone", budget_mb=100.0)
OPTIONS = {
    "form": "apk", "package": "org.example.edgewright", "split": "model", "version_code": 1, "delivery": "install-time",
    "libraries": "", "keystore": "", "key_alias": "edgewright", "password_env": "EDGEWRIGHT_KEYSTORE_PASSWORD",
}  # fmt: skip
CHOICES = {"form": ("apk", "ai-pack"), "delivery": ("install-time", "fast-follow", "on-demand")}
PATTERNS = {"package": r"[a-zA-Z]\w*(\.[a-zA-Z]\w*)+", "split": r"[a-z]\w*"}
CROSS_BUILD = "cross-build"
NDK = "an NDK builds them, and this machine has none"
ENGINE = "llama.cpp by its file-pointer call, out of the archive, on this processor"


@dataclass(frozen=True)
class Native:
    """The libraries that run the model on the phone."""

    files: tuple[Path, ...]
    packed: bool  # else they are counted, and another build of them takes their place
    reason: str  # why they are not packed


@dataclass(frozen=True)
class Android:
    """A split of an app, or a pack of it, for one phone."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether llama.cpp maps the artifact out of an APK, and writes by it."""
        if recipe.backend != "gguf":
            return Support(ok=False, reason=f"an APK's loader maps GGUF files, not those of {recipe.backend}")
        if model.family != "tokens":
            return Support(ok=False, reason="the loader writes by a language model, and this is a model of arrays")
        return Support(ok=True, reason="llama.cpp maps a GGUF file out of an APK")

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        """Write the bundle; raises ConfigError for options, UnsupportedError for missing tools and unfit libraries."""
        told = self._told(shipped)
        model = shipped.model / "model.gguf"
        if not model.is_file():
            raise UnsupportedError(
                f"{shipped.contents.variant} has no model.gguf: only llama.cpp's file goes into an APK"
            )
        native = _native(str(told["libraries"]), str(told["form"]))
        words = {"PACKAGE": told["package"], "SPLIT": told["split"], "CODE": str(told["version_code"]),
                 "DELIVERY": told["delivery"], "RUNTIME": _runtime_words(native)}  # fmt: skip
        for folder in ("both", told["form"]):
            bundled.from_templates(f"android/{folder}", out, words)
        file = out / f"{told['split']}{'.apk' if told['form'] == 'apk' else '.zip'}"
        apk.write(_entries(shipped, model, native, out / "model" / "AndroidManifest.xml", told["form"]), file)
        if told["keystore"]:
            keystore = Path(told["keystore"]).expanduser()
            tools.sign(file, tools.Key(keystore, told["key_alias"], told["password_env"]))
        runtime = _runtime(native) | {"signed": bool(told["keystore"])}
        write_text(out / RUNTIME, json.dumps(runtime, indent=2) + "\n")
        bundled.sign_off(shipped, self.name, out)
        return ledger(file, model, native)

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        """Places in the archive, the model inside, native libraries, manifest, signature, the loader's sources."""
        return checks.checks(bundle)

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        """Logits of the model out of the archive, beside those of the package's file: not a bit may differ."""
        rows = answers.encoded(shipped)
        if not rows:
            return Compared(engine=ENGINE, state="not-measured", reason="there are no texts to compare answers on")
        try:
            file = checks.packed(bundle)
            place = apk.one_of(file, MODEL)
            inside, how = gguf_run.logits(file, place.offset, rows)
            package, _ = gguf_run.logits(shipped.model / "model.gguf", None, rows)
        except (EdgewrightError, OSError) as error:
            return Compared(engine=ENGINE, state="failed", reason=f"it does not open: {error}")
        memory = {"rss_anon_mb": round(how.rss_anon_mb, 1), "rss_file_mb": round(how.rss_file_mb, 1)}
        found = answers.judged(ENGINE, package, inside)
        if not how.mapped:
            reason = f"{file.name} is not mapped: its model was read into memory; {found.reason}"
            return found.model_copy(update={**memory, "state": "failed", "reason": reason})
        return found.model_copy(update={**memory, "reason": f"{found.reason}; mapped from byte {place.offset}"})

    def _told(self, shipped: Shipped) -> dict[str, Any]:
        told = bundled.options(self.name, shipped.options, OPTIONS)
        for name, allowed in CHOICES.items():
            if told[name] not in allowed:
                where = f"targets.{self.name}.options.{name}"
                raise ConfigError(f"{where}: {told[name]!r} is not known; allowed: {', '.join(allowed)}")
        for name, pattern in PATTERNS.items():
            if not re.fullmatch(pattern, told[name]):
                where = f"targets.{self.name}.options.{name}"
                raise ConfigError(f"{where}: {told[name]!r} is no name that Android takes, as {OPTIONS[name]!r} is")
        if told["keystore"] and told["form"] == "ai-pack":
            where = f"targets.{self.name}.options.keystore"
            raise ConfigError(f"{where}: Play signs the APKs that it makes of an AI pack; leave it out")
        return told


def target(name: str, device: str) -> Android:
    """The target called `name`."""
    return Android(name, device)


def ledger(file: Path, model: Path, native: Native) -> tuple[Part, ...]:
    """Sizes by component; nothing is compressed, so a download takes what is installed."""
    reader = gguf.read(model)
    embedding = sum(int(one.n_bytes) for one in reader.tensors if one.name == "token_embd.weight")
    weights = sum(int(one.n_bytes) for one in reader.tensors) - embedding
    tokenizer = sum(
        sum(int(part.nbytes) for part in one.parts)
        for name, one in reader.fields.items()
        if name.startswith("tokenizer.")
    )
    inside = sum(one.size for one in apk.placed(file) if one.name.startswith(LIBRARIES))
    rest = file.stat().st_size - weights - embedding - tokenizer - inside
    told: list[tuple[Component, str, int, str]] = [
        ("weights", MODEL, weights, ""),
        ("embedding", "its token embedding", embedding, ""),
        ("tokenizer", "tokenizer and template, in the model's metadata", tokenizer, ""),
        ("runtime", *_runtime_part(native), ABI),
        ("metadata", "the model's header, manifest, padding, directory and signature", rest, ""),
    ]
    return tuple(Part(component=c, name=n, download_bytes=s, installed_bytes=s, abi=a) for c, n, s, a in told)


def _runtime_part(native: Native) -> tuple[str, int]:
    size = sum(one.stat().st_size for one in native.files)
    if native.packed:
        return "native libraries", size
    if native.files:
        return f"llama.cpp and the loader, as measured on a build for glibc: {NDK}", size
    return f"llama.cpp and the loader: planned, their size is not measured and not counted; {NDK}", 0


def _native(given: str, form: str) -> Native:
    """The libraries of a folder, each fit for the ABI; raises ConfigError and UnsupportedError."""
    if not given:
        return Native((), False, f"there are none in it: {NDK}; name their folder in options.libraries")
    folder = crossbuilt.build() if given == CROSS_BUILD else Path(given).expanduser()
    files = elf.libraries(folder)
    if not files:
        raise ConfigError(f"options.libraries: {given} holds no shared library; allowed: a folder, or {CROSS_BUILD!r}")
    glibc = False
    for one in files:
        data = one.read_bytes()
        if fault := _unfit(data):
            raise UnsupportedError(f"{one.name}: {fault}")
        glibc = glibc or elf.read(data).for_glibc
    if glibc:
        return Native(files, False, f"there are none in it: those that are counted need glibc, so {NDK}")
    if form == "ai-pack":
        return Native(files, False, "an AI pack may hold no code: they go into the app itself")
    odd = [one.name for one in files if not (one.name.startswith("lib") and one.suffix == ".so")]
    if odd:
        raise UnsupportedError(f"{odd[0]}: Android loads libraries that are called lib*.so only")
    return Native(files, True, "")


def _unfit(data: bytes) -> str:
    try:
        return elf.fault(data, ABI)
    except ModelError as error:
        return str(error)


def _entries(shipped: Shipped, model: Path, native: Native, manifest: Path, form: str) -> list[apk.Entry]:
    with TemporaryDirectory(prefix="edgewright-android-") as scratch:
        linked = tools.link(manifest, Path(scratch), proto=form == "ai-pack")
    if form == "ai-pack":
        entries = [apk.Entry("manifest/AndroidManifest.xml", linked["AndroidManifest.xml"])]
    else:
        entries = [apk.Entry(name, content) for name, content in linked.items()]
    entries += [apk.Entry(TOLD, _about(shipped, model)), apk.Entry(MODEL, model, apk.PAGE)]
    packed = native.files if native.packed else ()
    return entries + [apk.Entry(f"{LIBRARIES}{ABI}/{one.name}", one, apk.PAGE) for one in packed]


def _about(shipped: Shipped, model: Path) -> bytes:
    """What the archive itself says of the model."""
    contents = shipped.contents
    told = {
        "model": contents.model, "variant": contents.variant, "verdict": contents.verdict,
        "bundled_anyway": shipped.anyway, "sha256": sha256(model), "bytes": model.stat().st_size,
    }  # fmt: skip
    return (json.dumps(told, indent=2) + "\n").encode()


def _runtime(native: Native) -> dict[str, Any]:
    """What is known of the libraries, for machines."""
    listed = [
        {"name": one.name, "bytes": one.stat().st_size,
         "segments_aligned_to": min(part.align for part in elf.read(one.read_bytes()).loads)}
        for one in native.files
    ]  # fmt: skip
    return {"abi": ABI, "packed": native.packed, "reason": native.reason, "libraries": listed}


def _runtime_words(native: Native) -> str:
    if native.packed:
        return f"The native libraries are inside, for {ABI}."
    counted = " `runtime.json` lists what was counted in their place." if native.files else ""
    return f"Native libraries: {native.reason}.{counted}"
