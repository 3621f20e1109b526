"""Container: a build context of one image that answers over HTTP from its package, whichever framework that needs.

One Dockerfile has a stage for each framework; production holds Python, the server's sources, pinned packages and the
package, and runs as a number with a read-only root. Compose file and quadlet are written from the same record, and the
list of what is inside from the same pins. Options (`targets.NAME.options`): `base`, `compiler`, `runtime` (images with
Python 3.11 in the same place), `wheels` (a folder with all files that are installed: pins then carry their digests),
`image` (its name and tag), `memory` (a limit, as in 2g).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tasks.backends.table import MODULES, backend
from tasks.errors import ConfigError, EdgewrightError, ResourceError, UnsupportedError
from tasks.kinds.table import place_of
from tasks.packaging.closure import PACKAGE, files, graph_of
from tasks.packaging.manifest import NAME, Contents, sha256
from tasks.params.whole import load_whole
from tasks.records.base import Support, write_text
from tasks.records.bundles import Check, Compared, Component, Part
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe
from tasks.run.disk import size_bytes
from tasks.targets import answers, bundled, over_http, served
from tasks.targets.base import Defaults, Shipped
from tasks.targets.container import checks, dockerfile, images, pins, sbom, services
from tasks.targets.container.checks import APP, COMPOSE, INSIDE, REQUIREMENTS, SBOM, inside, pins_of
from tasks.targets.container.services import PORT, USER, Service

DEFAULTS = Defaults(device="host")
OPTIONS = {
    "base": "docker.io/library/python:3.11-slim-bookworm",
    "compiler": "docker.io/library/python:3.11-bookworm",
    "runtime": "docker.io/library/python:3.11-slim-bookworm",
    "wheels": "",
    "image": "",
    "memory": "",
}
ROOT = Path(__file__).parents[3]
SERVER = "tasks.serve.__main__"
START_S = 60
WITHIN_S = 420.0  # for a build beside other stages; a first image of llama.cpp, which is compiled, takes longer
# llama.cpp of the image is compiled for more processors than this one, and its kernels round otherwise: in nats, more
# than twice as far apart as two tokens were whose order that changed.
COMPILES = "gguf"
# Of a runtime that is slow without an accelerator, which no container has (MLX without Metal): it is not to be started
# again while it works.
SLOW = {"probe_s": 30.0, "hang_s": 120.0, "deadline_s": 600.0}
# llama.cpp for processors of its kind, without tools, tests and server; one that its makers ship nothing else with.
CMAKE_ARGS = " ".join(
    [
        "-DGGML_NATIVE=OFF",
        *(f"-D{one}=OFF" for one in ("LLAVA_BUILD", "MTMD_BUILD", "LLAMA_CURL")),
        *(f"-DLLAMA_BUILD_{one}=OFF" for one in ("TOOLS", "EXAMPLES", "TESTS", "SERVER")),
    ]
)


@dataclass(frozen=True)
class Image:
    """An image for a machine that runs containers."""

    name: str
    device: str

    def accepts(self, model: ModelProfile, recipe: Recipe) -> Support:
        """Whether the server answers from the artifact, by a framework that has a stage."""
        if recipe.backend not in pins.FRAMEWORKS:
            return Support(ok=False, reason=f"the image has no stage of {recipe.backend}")
        if model.family != "tokens":
            reason = f"its stages hold what serves models of tokens, not of {model.family}"
            return Support(ok=False, reason=reason)
        return served.Served(self.name, self.device).accepts(model, recipe)

    def build(self, shipped: Shipped, out: Path) -> tuple[Part, ...]:
        """Write the context; raises ConfigError for options, UnsupportedError for a package that needs other code."""
        told = bundled.options(self.name, shipped.options, OPTIONS)
        _pinned(self.name, told)
        framework = shipped.contents.backend
        if framework not in pins.FRAMEWORKS:
            raise UnsupportedError(f"{shipped.contents.variant}: the image has no stage of {framework}")
        found = pins.pins()
        if told["wheels"]:
            found = pins.hashed(found, Path(told["wheels"]))
        for name, pinned in found.items():
            write_text(out / REQUIREMENTS / f"{name}.txt", "".join(f"{one.line}\n" for one in pinned))
        shutil.copytree(shipped.package, out / INSIDE)
        sources(shipped.contents, out / APP)
        write_text(out / APP / "params.yaml", _params(shipped))
        service = _service(shipped, told)
        bundled.from_templates("container", out, _words(shipped, told, service))
        write_text(out / COMPOSE, yaml.safe_dump(services.compose(service), sort_keys=False))
        write_text(out / f"{service.name}.container", services.quadlet(service))
        digest = sha256(shipped.package / NAME)
        listed = sbom.sbom(service.name, shipped.contents, inside(found, framework), digest)
        write_text(out / SBOM, json.dumps(listed, indent=2) + "\n")
        bundled.sign_off(shipped, self.name, out)
        _readable(out)
        return ledger(out, inside(found, framework))

    def validate(self, bundle: Path) -> tuple[Check, ...]:
        """The Dockerfile by own rules and hadolint, pins, compose file, quadlet, what is inside, both manifests."""
        return checks.checks(bundle)

    def compare(self, shipped: Shipped, bundle: Path) -> Compared:
        """Build the image, start it as its user with a read-only root, and compare its texts with the package's."""
        engine = f"{shipped.contents.backend} in its image, over /v1"
        mine = images.Images(images.home())
        why = images.lacking()
        if not why and not mine.ready:
            why = "the bases of images are not in the cache; `python -m tests.drill.containers` makes them"
        if why:
            return Compared(engine=engine, state="not-measured", reason=why)
        tag = f"localhost/edgewright-bundle:{shipped.contents.backend}"
        try:
            mine.fetch(pins_of(bundle))
            mine.build(bundle, shipped.contents.backend, tag, WITHIN_S)
        except ResourceError as error:
            return Compared(engine=engine, state="not-measured", reason=str(error))
        except EdgewrightError as error:
            return Compared(engine=engine, state="failed", reason=str(error))
        try:
            with mine.started(tag, shipped.name) as running:
                took = running.until_ready(2 * START_S)
                found = over_http.compared(engine, shipped, running, answers.encoded(shipped), near(shipped))
            return found.model_copy(update={"reason": f"{found.reason}; ready {took:.1f} s after its start"})
        except EdgewrightError as error:
            return Compared(engine=engine, state="failed", reason=str(error))


def target(name: str, device: str) -> Image:
    """The target called `name`."""
    return Image(name, device)


def near(shipped: Shipped) -> float:
    """How close two tokens have to be (nats) to count as one: above 0 only where the image compiles its own kernels."""
    return answers.TIE if shipped.contents.backend == COMPILES else 0.0


def sources(contents: Contents, out: Path) -> None:
    """Copy what `python -m tasks.serve` runs for any framework and this kind of model, and nothing else of the project.

    Raises UnsupportedError for a kind of model that is a module of the user's own.
    """
    kind = place_of(contents.kind, "predicting")
    if kind.split(".")[0] != PACKAGE:
        raise UnsupportedError(f"{kind} is a module of your own, which the image does not carry; build it on top")
    graph = graph_of()
    modules = (SERVER, kind, *(MODULES[name] for name in pins.FRAMEWORKS))
    found = {file for module in modules for file in files(graph, module, ROOT)}
    found |= {above / "__init__.py" for file in found for above in file.parents if above.name}
    found |= {file for folder in {file.parent for file in found} for file in _pages(folder)}
    for file in sorted(found):
        if (ROOT / file).is_file():
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, out / file)


def ledger(bundle: Path, installed: list[pins.Pin]) -> tuple[Part, ...]:
    """Sizes by component; what the base takes is not among them, as a registry says that and no context."""
    runtime = pins.installed_bytes(installed)
    weights, tokenizer = (size_bytes(bundle / INSIDE / name) for name in ("model", "tokenizer"))
    code = size_bytes(bundle / APP)
    rest = size_bytes(bundle) - weights - tokenizer - code
    told: tuple[tuple[Component, str, int], ...] = (
        ("weights", f"{INSIDE}/model", weights),
        ("tokenizer", f"{INSIDE}/tokenizer", tokenizer),
        ("runtime", f"{len(installed)} packages as installed here; the base comes on top", runtime),
        ("code", "sources of the server", code),
        ("metadata", "Dockerfile, units, pins, cards, manifests", rest),
    )
    return tuple(Part(component=c, name=n, download_bytes=s, installed_bytes=s) for c, n, s in told)


def _pinned(target: str, told: Mapping[str, str]) -> None:
    for option in ("base", "compiler", "runtime"):
        if dockerfile.unpinned(told[option]) or any(map(str.isspace, told[option])):
            raise ConfigError(
                f"targets.{target}.options.{option}: {told[option]!r} is no pinned image; allowed: NAME:VERSION or "
                "NAME@sha256:DIGEST"
            )


def _params(shipped: Shipped) -> str:
    """What the server is told, as this checkout's params.yaml has it; every way in is open inside of a container."""
    serve = load_whole().serve.model_dump(mode="json") | {"host": "0.0.0.0", "port": PORT}  # noqa: S104
    recipe = shipped.contents.recipe
    serve |= SLOW if backend(recipe.backend).SLOW_WITHOUT else {}
    variant = {"backend": recipe.backend, "precision": recipe.precision, "role": "reference"}
    return yaml.safe_dump({"variants": {shipped.contents.variant: variant}, "serve": serve}, sort_keys=True)


def _service(shipped: Shipped, told: Mapping[str, str]) -> Service:
    image = told["image"] or f"localhost/{shipped.name}:{shipped.contents.results_digest[:12]}"
    drain = round(load_whole().serve.drain_s)
    return Service(shipped.name, image, shipped.contents.backend, drain, START_S, memory=told["memory"])


def _words(shipped: Shipped, told: Mapping[str, str], service: Service) -> dict[str, str]:
    contents = shipped.contents
    hashes = "each with the digests of its files" if told["wheels"] else "without digests, as the lock has none"
    return {
        **{one.upper(): told[one] for one in ("base", "compiler", "runtime")},
        "PYTHON": pins.PYTHON,
        "FRAMEWORK": contents.backend,
        "CMAKE_ARGS": CMAKE_ARGS,
        "LLAMA": pins.pins()["llama"][0].line,
        "NAME": shipped.name,
        "IMAGE": service.image,
        "MODEL": _plain(contents.model),
        "VARIANT": contents.variant,
        "VERDICT": contents.verdict,
        "VERSION": contents.results_digest[:12],
        "PACKAGE": sha256(shipped.package / NAME),
        "USER": str(USER),
        "PORT": str(PORT),
        "START_S": f"{START_S}s",
        "DRAIN_S": str(service.drain_s),
        "HEALTH": services.HEALTH,
        "HASHED": hashes,
    }


def _plain(words: str) -> str:
    """A model's name as a label may hold it."""
    return "".join(one for one in words if one.isprintable() and one not in '"\\$`')


def _pages(folder: Path) -> Iterator[Path]:
    """Files of folders beside sources that hold no source at all, such as a server's page, relative to the root."""
    for beside in (ROOT / folder).iterdir():
        inside_it = [file for file in beside.rglob("*") if file.is_file()] if beside.is_dir() else []
        if beside.name != "__pycache__" and not any(file.suffix in (".py", ".pyc") for file in inside_it):
            yield from (file.relative_to(ROOT) for file in inside_it)


def _readable(out: Path) -> None:
    """Let the container's user read everything, whoever built it."""
    for place in (out, *out.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
