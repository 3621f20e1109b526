"""The loader itself, run here: its Kotlin on this machine's Java, its C++ part, and llama.cpp, out of an APK."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import llama_cpp
import pytest

from tasks.targets import bundled, crossbuilt
from tasks.targets.android import apk, checks
from tests.tasks.targets.android_bundle import built, needs_tools, shipped

SOURCES = bundled.TEMPLATES / "android" / "both" / "loader" / "src" / "main"
LLAMA = Path(llama_cpp.__file__).parent / "lib"
PROMPT, TOKENS = "paris is a town", 8
MAIN = """package edgewright

fun main(args: Array<String>) {
    val model = MappedModel(args[0].toInt(), args[1].toLong(), 96, 2, args[3] == "copy")
    System.out.write(model.generate(args[2], 8).toByteArray(Charsets.UTF_8))
    System.out.flush()
    model.close()
    System.err.println("mapped: " + model.mapped)
}
"""
NEEDED = ("kotlinc", "java", "c++")
absent = [name for name in NEEDED if shutil.which(name) is None]
absent += [what for what, place in (("jni.h", crossbuilt.jni()), ("llama.h", crossbuilt.headers())) if place is None]
pytestmark = [
    pytest.mark.slow,
    needs_tools,
    pytest.mark.skipif(
        bool(absent), reason=f"not here: {', '.join(absent)} (kotlin, a JDK, g++; tasks.targets.crossbuilt)"
    ),
]
OPENED = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "util", "io")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the loader as a program."""
    out = tmp_path_factory.mktemp("program")
    (out / "Main.kt").write_text(MAIN)
    jni, llama = crossbuilt.jni(), crossbuilt.headers()
    includes = [f"-I{one}" for one in (jni, f"{jni}/linux", llama)]
    links = [f"-L{LLAMA}", "-lllama", f"-Wl,-rpath,{LLAMA}", "-o", str(out / "libedgewright.so")]
    glue = str(SOURCES / "cpp" / "edgewright_jni.cpp")
    compiler = ["c++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*compiler, *includes, glue, *links], check=True, timeout=300)
    kotlin = [str(SOURCES / "kotlin" / "edgewright" / "MappedModel.kt"), str(out / "Main.kt")]
    command = ["kotlinc", *kotlin, "-include-runtime", "-d", str(out / "main.jar")]
    environment = {**os.environ, "JAVA_OPTS": " ".join(OPENED)}  # for a compiler that is older than Java 17
    subprocess.run(command, check=True, timeout=600, env=environment)
    return out


def asked(program: Path, file: Path, offset: int, how: str = "map") -> subprocess.CompletedProcess[bytes]:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        java = ["java", f"-Djava.library.path={program}", "-Dfile.encoding=UTF-8", "-cp", str(program / "main.jar")]
        command = [*java, "edgewright.MainKt", str(descriptor), str(offset), PROMPT, how]
        return subprocess.run(command, pass_fds=(descriptor,), capture_output=True, timeout=300, check=False)
    finally:
        os.close(descriptor)


def expected(model: Path) -> bytes:
    """What llama-cpp-python writes, greedily, by the model's path."""
    llama = llama_cpp.Llama(str(model), n_ctx=96, n_threads=2, verbose=False)
    ids = llama.tokenize(PROMPT.encode(), add_bos=True, special=True)
    made: list[int] = []
    for token in llama.generate(ids, temp=0.0, repeat_penalty=1.0):
        if token == llama.token_eos() or len(made) == TOKENS:
            break
        made.append(token)
    text = b"".join(bytes(llama.detokenize([token])) for token in made)
    llama.close()
    return text


def test_it_writes_out_of_an_apk_what_the_model_writes_by_its_path(program: Path, tmp_path: Path) -> None:
    given = shipped(tmp_path / "package")
    file = built(given, tmp_path / "bundle") / "model.apk"
    offset = apk.one_of(file, checks.MODEL).offset
    said = asked(program, file, offset)
    assert said.returncode == 0, said.stderr[-500:]
    text = expected(given.model / "model.gguf").decode(errors="replace")
    assert said.stdout.decode() == text and text
    assert b"mapped: true" in said.stderr
    refused = asked(program, file, offset + apk.PAGE)
    assert refused.returncode != 0 and b"llama.cpp does not load the model at this offset" in refused.stderr


def test_what_cannot_be_mapped_is_refused_or_copied(program: Path, tmp_path: Path) -> None:
    given = shipped(tmp_path / "package")
    moved = tmp_path / "moved.bin"
    moved.write_bytes(bytes(5) + (given.model / "model.gguf").read_bytes())
    refused = asked(program, moved, 5)
    assert refused.returncode != 0 and b"the model begins at byte 5, which is no multiple of 32" in refused.stderr
    copied = asked(program, moved, 5, "copy")
    assert copied.returncode == 0 and b"mapped: false" in copied.stderr
    assert copied.stdout.decode() == expected(given.model / "model.gguf").decode(errors="replace")
