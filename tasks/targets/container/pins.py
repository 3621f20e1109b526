"""What an image installs: each package by the version of the lock, with digests of its files where they are at hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from tasks.errors import ConfigError, UnsupportedError
from tasks.packaging.manifest import sha256

LOCK = Path(__file__).parents[3] / "requirements.lock"
PYTHON = "3.11"  # of the images
# What `python -m tasks.serve --package` imports; a registry, a reference and a converter are not among it.
SERVE = (
    "fastapi", "fastapi-offline", "filelock", "httptools", "jinja2", "llguidance", "numpy", "prometheus-client",
    "psutil", "pydantic", "pyyaml", "starlette", "tokenizers", "uvicorn", "uvloop",
)  # fmt: skip
UNASKED = {"tokenizers": ("huggingface-hub",)}  # asked only for models by the name they have on a hub
FRAMEWORKS: Mapping[str, tuple[str, ...]] = {
    "openvino": ("openvino", "openvino-genai", "openvino-tokenizers"),
    "onnx": ("onnxruntime", "onnxruntime-genai"),
    "gguf": ("llama-cpp-python",),
    "mlx": ("mlx[cpu]", "mlx-lm"),
}
COMPILED = "llama-cpp-python"  # its wheels are made for one processor; an image compiles its own
# What that is compiled with. The lock has what runs, and pip gets these two by itself where it compiles.
BUILDERS = {"cmake": "4.4.5", "scikit-build-core": "1.1.2"}
BUILDING = ("cmake", "ninja", "packaging", "pathspec", "scikit-build-core")
LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s;\\]+)(?P<hashes>( --hash=sha256:[0-9a-f]{64})*)")


@dataclass(frozen=True)
class Pin:
    """One package by its version; `hashes` of all its files that may be installed, none where they are not known."""

    name: str
    version: str
    hashes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The line of a requirements file.

        >>> Pin("click", "8.5.1").line
        'click==8.5.1'
        """
        return " ".join((f"{self.name}=={self.version}", *(f"--hash=sha256:{one}" for one in self.hashes)))


def pins(lock: Path = LOCK) -> dict[str, list[Pin]]:
    """Requirement files of an image by their names, each stage's own: what the server has is not in another's.

    Raises UnsupportedError for a package that the lock does not have, or that this environment has in another version.
    """
    locked = versions(lock.read_text(encoding="utf-8"))
    serve = closure(SERVE)
    found = {"serve": serve}
    found |= {name: closure(roots) - serve - {COMPILED} for name, roots in FRAMEWORKS.items()}
    named = {name: [_pin(one, locked) for one in sorted(names)] for name, names in found.items()}
    compiling = locked | BUILDERS
    return named | {"compile": [_pin(one, compiling) for one in BUILDING], "llama": [_pin(COMPILED, locked)]}


def versions(lock: str) -> dict[str, str]:
    """Versions in a lock that hold for the images' Python on Linux.

    >>> versions("a==1\\nb==2 ; python_version < '3.12'\\nb==3 ; python_version >= '3.12'\\nc==4 ; os_name == 'nt'\\n")
    {'a': '1', 'b': '2'}
    """
    found: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in lock.splitlines())):
        pinned, _, marker = line.partition(" ; ")
        if not marker or Marker(marker).evaluate(_environment("")):
            name, _, version = pinned.partition("==")
            found[canonicalize_name(name.partition("[")[0])] = version
    return found


def closure(roots: Iterable[str]) -> set[str]:
    """Names of packages and all that they ask for, by what this environment's packages say of themselves."""
    waiting = [(one.name, extra) for one in map(Requirement, roots) for extra in ("", *one.extras)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = str(canonicalize_name(waiting[-1][0])), waiting.pop()[1]
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for one in map(Requirement, _asked(name)):
            wanted = one.marker is None or one.marker.evaluate(_environment(extra))
            if wanted and canonicalize_name(one.name) not in UNASKED.get(name, ()):
                waiting += [(one.name, other) for other in ("", *one.extras)]
    return {name for name, _ in seen}


def hashed(found: Mapping[str, Sequence[Pin]], folder: Path) -> dict[str, list[Pin]]:
    """The pins with the digests of their files in `folder`; raises ConfigError for one that is not there."""
    files = _files(folder)
    if absent := [one.line for one in missing([one for pinned in found.values() for one in pinned], folder)]:
        raise ConfigError(
            f"wheels: {folder} lacks {', '.join(absent[:5])}{' and others' if len(absent) > 5 else ''}; fill it by "
            "`pip download --no-deps` with the bundle's requirement files, or leave the option out"
        )
    return {
        name: [replace(one, hashes=tuple(map(sha256, files[one.name, one.version]))) for one in pinned]
        for name, pinned in found.items()
    }


def missing(pinned: Iterable[Pin], folder: Path) -> list[Pin]:
    """Pins whose files are not in a folder, by name; what is compiled has to be there as its source."""
    files = _files(folder)
    return sorted({one for one in pinned if (one.name, one.version) not in files}, key=lambda one: one.name)


def known(framework: str) -> str:
    """A framework's name; raises ConfigError for one that has no stage."""
    if framework not in FRAMEWORKS:
        raise ConfigError(f"there is no image of {framework!r}; allowed: {', '.join(FRAMEWORKS)}")
    return framework


def read(text: str) -> list[Pin]:
    """The pins of a requirements file; raises ValueError for a line that is none."""
    made = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{line[:80]!r} is no pin, such as click==8.5.1")
        made.append(Pin(match["name"], match["version"], tuple(re.findall(r"[0-9a-f]{64}", match["hashes"]))))
    return made


def installed_bytes(pinned: Iterable[Pin]) -> int:
    """What packages take where they are installed, as this environment has them, without compiled bytecode."""
    return sum(
        place.stat().st_size
        for one in pinned
        if (found := _installed(one.name)) is not None
        for file in found.files or ()
        if file.suffix != ".pyc" and (place := Path(str(file.locate()))).is_file()
    )


def _pin(name: str, locked: Mapping[str, str]) -> Pin:
    version, found = locked.get(name), _installed(name)
    if version is None:
        raise UnsupportedError(f"{LOCK.name} has no {name}, which an image installs; run `make lock`")
    if found is not None and name not in BUILDERS and found.version.split("+")[0] != version:
        raise UnsupportedError(
            f"{name} is installed in version {found.version}, {LOCK.name} says {version}: what an image needs cannot "
            "be told from another version; run `make env`"
        )
    return Pin(name, version)


def _environment(extra: str) -> dict[str, str]:
    """What markers of requirements are asked about: the images, not this machine."""
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    python = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.2", "implementation_name": "cpython"}
    mine = {key: str(value) for key, value in default_environment().items()}
    return mine | linux | python | {"extra": extra}


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _asked(name: str) -> list[str]:
    found = _installed(name)
    return list(found.requires or ()) if found is not None else []


def _files(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """Wheels and source archives of a folder by name and version; of what is compiled, its source alone."""
    found: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(folder.iterdir()):
        key = _named(file)
        if key and (key[0] != COMPILED or file.suffix == ".gz"):
            found.setdefault(key, []).append(file)
    return found


def _named(file: Path) -> tuple[str, str] | None:
    """Name and version of a wheel or a source archive."""
    if file.suffix == ".whl":
        name, version, *_ = parse_wheel_filename(file.name)
    elif file.name.endswith(".tar.gz"):
        name, version = parse_sdist_filename(file.name)
    else:
        return None
    return str(name), str(version)
