"""iOS: a Swift package with the model in mlx-swift's layout, a loader that maps its weights, what the stores ask for.

Layout of `Model/`: what mlx-swift-lm reads (config.json with `quantization`, model.safetensors, tokenizer, template),
the weights in one file whose data begins on a page of 16 KiB, so that it can be mapped. Stock MLX reads the same files
instead of mapping them. Options (`targets.NAME.options`): `bundle_id`, `asset_pack`, `download` (essential, prefetch,
onDemand).
"""

from __future__ import annotations

import json
import plistlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError, UnsupportedError
from tasks.records.base import Support, write_text
from tasks.records.bundles import Check, Compared, Component, Part
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.run.disk import size_bytes
from tasks.targets import answers, bundled, grammar
from tasks.targets.base import Defaults, Shipped
from tasks.targets.ios import safetensors

DEFAULTS = Defaults(device="iphone", budget_mb=50.0)
OPTIONS = {"bundle_id": "org.example.edgewright", "asset_pack": "model", "download": "prefetch"}
DOWNLOADS = ("essential", "prefetch", "onDemand")
MODEL, WEIGHTS, ASSETS = "Model", "model.safetensors", "BackgroundAssets/manifest.json"
PAGE = 16384
BITS, GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)  # that MLX has kernels for
# What mlx-swift-lm's LLMModelFactory registers, as of August 2026.
MODEL_TYPES = (
    "acereason", "baichuan_m1", "bitnet", "cohere", "deepseek_v3", "ernie4_5", "exaone4", "falcon_h1",
    "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "glm4", "gpt_oss", "granite", "granitemoehybrid",
    "internlm2", "lfm2", "lfm2_moe", "lille-130m", "llama", "mimo", "minicpm", "mistral", "nanochat", "olmo2",
    "olmo3", "olmoe", "openelm", "phi", "phi3", "phimoe", "qwen2", "qwen3", "qwen3_moe", "smollm3",
    "starcoder2",
)  # fmt: skip
INFO: dict[str, Any] = {
    "CFBundleName": "Edgewright",
    "CFBundlePackageType": "APPL",
    "CFBundleShortVersionString": "1.0",
    "CFBundleVersion": "1",
    "LSRequiresIPhoneOS": True,
    "MinimumOSVersion": "17.0",
    "UIRequiredDeviceCapabilities": ["arm64", "metal"],
    "UILaunchScreen": {},
}
# The model reads the time of files when it maps them, and nothing leaves the device.
PRIVACY: dict[str, Any] = {
    "NSPrivacyTracking": False,
    "NSPrivacyTrackingDomains": [],
    "NSPrivacyCollectedDataTypes": [],
    "NSPrivacyAccessedAPITypes": [
        {
            "NSPrivacyAccessedAPIType": "NSPrivacyAccessedAPICategoryFileTimestamp",
            "NSPrivacyAccessedAPITypeReasons": ["C617.1"],
        }
    ],
}
ENTITLEMENTS: dict[str, Any] = {"com.apple.developer.kernel.increased-memory-limit": True}


@dataclass(frozen=True)
class Ios:
    """An app's bundle for one phone."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether mlx-swift reads the artifact."""
        if recipe.backend != "mlx":
            return Support(ok=False, reason=f"an app maps MLX's files, not those of {recipe.backend}")
        if model.model_type and model.model_type not in MODEL_TYPES:
            return Support(ok=False, reason=f"mlx-swift-lm registers no model of type {model.model_type!r}")
        return Support(ok=True, reason="mlx-swift-lm registers its type")

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        """Write the bundle; raises ConfigError for options that are not known."""
        told = bundled.options(self.name, shipped.options, OPTIONS)
        if told["download"] not in DOWNLOADS:
            where = f"targets.{self.name}.options.download"
            raise ConfigError(f"{where}: {told['download']!r} is not known; allowed: {', '.join(DOWNLOADS)}")
        _model(shipped, out / MODEL)
        bundled.from_templates("ios", out, {"PRODUCT": "EdgewrightModel"})
        lists = {"Info.plist": INFO | {"CFBundleIdentifier": told["bundle_id"]}}
        lists |= {"PrivacyInfo.xcprivacy": PRIVACY, "App.entitlements": ENTITLEMENTS}
        (out / "App").mkdir()
        for name, content in lists.items():
            (out / "App" / name).write_bytes(plistlib.dumps(content, sort_keys=True))
        write_text(out / ASSETS, json.dumps(_assets(told), indent=2) + "\n")
        bundled.sign_off(shipped, self.name, out)
        return ledger(out)

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        """Layout of the weights, settings, property lists, the asset manifest, and the syntax of Swift."""
        return (
            bundled.check("weights in mlx-swift's layout", lambda: _weights_fault(bundle / MODEL)),
            bundled.check("config.json against mlx-swift-lm's registry", lambda: _config_fault(bundle / MODEL)),
            bundled.check("property lists", lambda: _plist_fault(bundle / "App")),
            bundled.check(
                "Background Assets manifest", lambda: _assets_fault(bundle / "BackgroundAssets/manifest.json")
            ),
            grammar.syntax("Swift", sorted(bundle.rglob("*.swift"))),
            bundled.manifest_check(bundle),
            Check(
                name="swiftc", state="not-measured", reason="Swift's compiler does not run here; build it with Xcode"
            ),
        )

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        """Logits of the bundled files by MLX on this machine's processor, beside the package's."""
        return answers.logits("MLX on this processor (not Metal)", shipped, bundle / MODEL, "mlx")


def target(name: str, device: str) -> Ios:
    """The target called `name`."""
    return Ios(name, device)


def ledger(bundle: Path) -> tuple[Part, ...]:
    """Sizes by component; an app's store compresses a download, which is not counted on."""
    header = safetensors.header(bundle / MODEL / WEIGHTS)
    embedding = sum(one.size for name, one in header.tensors.items() if "embed_tokens" in name)
    weights = (bundle / MODEL / WEIGHTS).stat().st_size - embedding
    tokenizer = sum((bundle / MODEL / name).stat().st_size for name in bundled.tokenizer_files(bundle / MODEL))
    swift_code = sum(file.stat().st_size for file in bundle.rglob("*.swift"))
    rest = size_bytes(bundle) - weights - embedding - tokenizer - swift_code
    told: tuple[tuple[Component, str, int], ...] = (
        ("weights", f"{MODEL}/{WEIGHTS}", weights),
        ("embedding", "its embedding", embedding),
        ("tokenizer", "tokenizer and template", tokenizer),
        ("code", "Swift sources; MLX itself comes with the app", swift_code),
        ("metadata", "settings, property lists, manifests", rest),
    )
    return tuple(Part(component=c, name=n, download_bytes=s, installed_bytes=s) for c, n, s in told)


def _model(shipped: Shipped, out: Path) -> None:
    files = sorted(shipped.model.glob("*.safetensors"))
    if not files:
        raise UnsupportedError(f"{shipped.contents.variant} has no safetensors: only MLX's files go into an iOS bundle")
    out.mkdir()
    safetensors.merge(files, out / WEIGHTS, PAGE)
    shutil.copy2(shipped.model / "config.json", out / "config.json")
    for name in (*bundled.TOKENIZER, "generation_config.json"):
        source = shipped.package / "tokenizer" / name
        if source.is_file():
            shutil.copy2(source, out / name)
    bundled.minified(out / "tokenizer.json")


def _assets(told: Mapping[str, str]) -> dict[str, Any]:
    policy: dict[str, Any] = {told["download"]: {}}
    if told["download"] != "onDemand":
        policy = {told["download"]: {"installationEventTypes": ["firstInstallation", "subsequentUpdate"]}}
    selectors = [{"directory": MODEL}]
    return {
        "assetPackID": told["asset_pack"], "downloadPolicy": policy, "fileSelectors": selectors, "platforms": ["iOS"]
    }  # fmt: skip


def _weights_fault(model: Path) -> str:
    found = safetensors.header(model / WEIGHTS)
    if found.begins % PAGE:
        return f"the data begins at byte {found.begins}, which is no multiple of {PAGE}: it cannot be mapped as it is"
    if gap := found.gap():
        return gap
    wide = [name for name, one in found.tensors.items() if one.dtype in ("F32", "F64")]
    return f"{wide[0]} is kept in 32 bits or more: {len(wide)} tensors were not quantized" if wide else ""


def _config_fault(model: Path) -> str:
    raw = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if raw.get("model_type") not in MODEL_TYPES:
        return f"mlx-swift-lm registers no model of type {raw.get('model_type')!r}"
    told = raw.get("quantization")
    if (
        not isinstance(told, dict)
        or told.get("bits") not in (2, 3, 4, 5, 6, 8)
        or told.get("group_size") not in (32, 64, 128)
    ):
        return f"`quantization` does not say bits and group size as MLX has them: {told!r}"
    absent = [name for name in ("tokenizer.json", "tokenizer_config.json") if not (model / name).is_file()]
    return f"{', '.join(absent)} is missing" if absent else ""


def _plist_fault(app: Path) -> str:
    info = plistlib.loads((app / "Info.plist").read_bytes())
    absent = [name for name in (*INFO, "CFBundleIdentifier") if name not in info]
    if absent:
        return f"Info.plist lacks {', '.join(absent)}"
    privacy = plistlib.loads((app / "PrivacyInfo.xcprivacy").read_bytes())
    if absent := [name for name in PRIVACY if name not in privacy]:
        return f"PrivacyInfo.xcprivacy lacks {', '.join(absent)}"
    rights = plistlib.loads((app / "App.entitlements").read_bytes())
    return "" if all(rights.get(name) is True for name in ENTITLEMENTS) else "the memory entitlement is missing"


def _assets_fault(file: Path) -> str:
    raw = json.loads(file.read_text(encoding="utf-8"))
    known = {"assetPackID", "downloadPolicy", "fileSelectors", "platforms"}
    if raw.keys() != known:
        return f"its keys are {', '.join(sorted(raw))}, not {', '.join(sorted(known))}"
    if len(raw["downloadPolicy"]) != 1 or not set(raw["downloadPolicy"]) <= set(DOWNLOADS):
        return f"downloadPolicy is one of {', '.join(DOWNLOADS)}, not {raw['downloadPolicy']!r}"
    folder = file.parent.parent
    gone = [one["directory"] for one in raw["fileSelectors"] if not (folder / str(one.get("directory"))).is_dir()]
    return f"it selects {gone[0]}, which is not there" if gone else ""
