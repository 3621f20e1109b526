"""llama.cpp's libraries for arm64, cross-built here with Debian's compiler: what a phone's share of them weighs.

They need glibc, which Android does not have: their size and alignment are real, and a phone cannot load them. For that
they are built once more with an NDK. Usage: python -m tasks.targets.crossbuilt (some minutes; prints the folder).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.errors import EXIT_OK, UnsupportedError
from tasks.run.disk import replace_folder
from tasks.targets import elf
from tasks.targets.bundled import TEMPLATES

ABI = "arm64-v8a"
PACKAGE = "llama-cpp-python"  # its source distribution carries llama.cpp of the version that is run here
TOOLS = {"aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu", "cmake": "cmake", "ninja": "ninja-build"}
GLUE = TEMPLATES / "android" / "both" / "loader" / "src" / "main" / "cpp" / "edgewright_jni.cpp"
CACHE = Path("~/.cache/edgewright/android")
TIMEOUT_S = 3600.0
SETTINGS = {
    "CMAKE_SYSTEM_NAME": "Linux",
    "CMAKE_SYSTEM_PROCESSOR": "aarch64",
    "CMAKE_C_COMPILER": "aarch64-linux-gnu-gcc",
    "CMAKE_CXX_COMPILER": "aarch64-linux-gnu-g++",
    "CMAKE_BUILD_TYPE": "Release",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_SHARED_LINKER_FLAGS": f"-Wl,-z,max-page-size={elf.PAGE}",
    "BUILD_SHARED_LIBS": "ON",
    "GGML_NATIVE": "OFF",
    "GGML_CPU_ARM_ARCH": "armv8-a",
    "GGML_OPENMP": "OFF",
    **{f"LLAMA_{part}": "OFF" for part in ("CURL", "OPENSSL")},
    **{f"LLAMA_BUILD_{part}": "OFF" for part in ("COMMON", "TOOLS", "EXAMPLES", "TESTS", "SERVER")},
}


def kept() -> Path:
    """Where the libraries of the installed version are kept, whether they are there or not."""
    return CACHE.expanduser() / f"{PACKAGE}-{version(PACKAGE)}" / ABI


def build(jobs: int = 2) -> Path:
    """Cross-build the libraries and the loader's glue, unless they are kept; UnsupportedError for missing tools."""
    folder = kept()
    if folder.is_dir() and elf.libraries(folder):
        return folder
    jni_folder = _tools()
    with TemporaryDirectory(prefix="edgewright-crossbuilt-") as scratch:
        work = Path(scratch)
        source = _source(work)
        settings = [f"-D{name}={value}" for name, value in SETTINGS.items()]
        made = work / "made"
        _run("configure llama.cpp", ["cmake", "-S", str(source), "-B", str(made), "-G", "Ninja", *settings])
        _run("compile llama.cpp", ["ninja", "-C", str(made), "-j", str(jobs), "llama"])
        fresh = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for library in sorted(made.rglob("lib*.so*")):
            if not library.is_symlink():
                shutil.copy2(library, fresh / library.name)
        _glue(source, made, jni_folder, fresh)
        _headers(source, folder.with_name("include"))
    _run("strip", ["aarch64-linux-gnu-strip", "--strip-unneeded", *map(str, elf.libraries(fresh))])
    replace_folder(fresh, folder)
    return folder


def _tools() -> Path:
    """The folder of JNI's headers; raises UnsupportedError where something is missing."""
    absent = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    found = jni()
    if found is None:
        absent.append("default-jdk-headless")
    if absent or found is None:
        raise UnsupportedError(f"to cross-build for arm64, install {', '.join(absent)}: apt-get install does on Debian")
    return found


def jni() -> Path | None:
    """The folder of jni.h of a JDK; None where there is none."""
    found = sorted(Path("/usr/lib/jvm").glob("*/include/jni.h"))
    return found[0].parent if found else None


def headers() -> Path | None:
    """The folder of llama.cpp's headers that a cross-build kept; None before one was made."""
    folder = kept().with_name("include")
    return folder if folder.is_dir() else None


def _source(work: Path) -> Path:
    """llama.cpp's source, of the version that is installed here."""
    name = f"{PACKAGE}=={version(PACKAGE)}"
    command = ["pip", "download", "--no-deps", "--no-binary", PACKAGE, "--dest", str(work), name]
    _run(f"fetch the source of {name}", [sys.executable, "-m", *command])
    [archive] = work.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(work / "source", filter="data")
    [found] = (work / "source").glob("*/vendor/llama.cpp")
    return found


def _headers(source: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    for folder in ("include", "ggml/include"):
        shutil.copytree(source / folder, out, dirs_exist_ok=True)


def _glue(source: Path, made: Path, jni_folder: Path, out: Path) -> None:
    """Compile the loader's C++ part, which is what the app itself loads."""
    places = [source / "include", source / "ggml" / "include", jni_folder, jni_folder / "linux"]
    found = {one.parent for one in made.rglob("lib*.so")}
    links = [f"-L{folder}" for folder in sorted(found)] + [f"-Wl,-rpath-link,{folder}" for folder in sorted(found)]
    page = f"-Wl,-z,max-page-size={elf.PAGE}"
    compiler = ["aarch64-linux-gnu-g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    includes = [f"-I{folder}" for folder in places]
    ends = ["-lllama", "-Wl,-rpath,$ORIGIN", page, "-o", str(out / "libedgewright.so")]
    _run("compile the loader's glue", [*compiler, *includes, str(GLUE), *links, *ends])


def _run(what: str, command: Sequence[str]) -> None:
    print(f"  {what} ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        tail = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise UnsupportedError(f"could not {what}: {' / '.join(tail)}")


if __name__ == "__main__":
    print(build())
    raise SystemExit(EXIT_OK)
