"""make drill-cores: what runs on which core of a board: runtimes for arm64 on emulated Cortex-A53, A72, A76.

QEMU runs Debian's Python for arm64 with the wheels of the locked versions, and llama.cpp cross-built; nothing is
started as root and nothing of the system is changed. Each runtime reads the same prompt with the sample on each core,
and the likeliest next token must be that of this machine; so must be what the server's own engine writes by OpenVINO,
which without SVE cannot batch and takes turns. A program with dot products of 8-bit numbers must end
on the cores that lack them, so that a core is more than a name. Emulated times say nothing and are not shown.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tasks.backends.sampling import Sampling
from tasks.backends.table import tokens
from tasks.errors import ResourceError, UnsupportedError
from tasks.hardware import profiles
from tasks.records.artifact import Artifact
from tasks.run.workspace import Workspace
from tasks.targets import crossbuilt
from tests import ROOT
from tests.bench import harness
from tests.bench.harness import Figures, Limit, tell

CACHE = Path("~/.cache/edgewright/arm64")
# Device profiles, their cores, and parts and features as a kernel would tell of them: ONNX Runtime reads those, where
# QEMU would show this machine's.
CORES: Mapping[str, tuple[str, str, str]] = {
    "edge-tpu": ("cortex-a53", "0xd03", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
    "raspberry-pi-4": ("cortex-a72", "0xd08", "fp asimd evtstrm crc32 cpuid"),
    "raspberry-pi": (
        "cortex-a76", "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}  # fmt: skip
VARIANTS = {"openvino": "openvino-int8", "onnx": "onnx-int8", "gguf": "gguf-q4_k_m"}
WHEELS = (
    "numpy", "openvino", "openvino-genai", "openvino-tokenizers", "openvino-telemetry", "onnxruntime", "flatbuffers",
    "protobuf", "packaging", "typing-extensions", "diskcache", "jinja2", "markupsafe", "pydantic", "pydantic-core",
    "annotated-types", "typing-inspection", "psutil", "pyyaml",
)  # fmt: skip
PLATFORMS = ("manylinux_2_28", "manylinux_2_31", "manylinux_2_34", "manylinux_2_35", "manylinux2014")
DEBS = "python3-minimal,libpython3.11-stdlib,python3.11,libstdc++6,libgomp1,zlib1g,libffi8,ca-certificates"
TOOLS = {"mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static"} | crossbuilt.TOOLS
IDS = (504, 3575, 282, 4649, 314)  # "The capital of France is", as the sample's tokenizer has it
SIGILL = -4
TIMEOUT_S = 900.0
DOT = """
#include <arm_neon.h>
int main(void) { int32x4_t a = {0}; int8x16_t b = {1}; a = vdotq_s32(a, b, b); return a[0] == 1 ? 0 : 1; }
"""
FORWARD = {
    "openvino": """
import sys, numpy as np, openvino as ov
model = ov.Core().compile_model(sys.argv[1] + "/openvino_model.xml", "CPU", {"INFERENCE_NUM_THREADS": 1})
ids = np.array([IDS]); rows, n = ids.shape; request = model.create_infer_request()
feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(n)[None],
         "beam_idx": np.zeros(rows, np.int32)}
names = {name for port in model.inputs for name in port.names}
request.infer({name: value for name, value in feeds.items() if name in names})
logits = request.get_tensor("logits").data[0, -1]
""",
    "onnx": """
import sys, json, numpy as np, onnxruntime as ort
options = ort.SessionOptions(); options.intra_op_num_threads = 1
model = ort.InferenceSession(sys.argv[1] + "/model.onnx", options, providers=["CPUExecutionProvider"])
ids = np.array([IDS]); feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
for port in model.get_inputs():
    if port.name.startswith("past"):
        kind = np.float16 if "float16" in port.type else np.float32
        feeds[port.name] = np.zeros((1, port.shape[1], 0, port.shape[3]), kind)
    elif port.name == "position_ids":
        feeds[port.name] = np.arange(ids.shape[1])[None]
logits = model.run(["logits"], feeds)[0][0, -1]
""",
    "gguf": """
import sys, numpy as np, llama_cpp
model = llama_cpp.Llama(sys.argv[1] + "/model.gguf", n_ctx=64, n_threads=1, verbose=False)
model.eval(IDS); logits = np.array(llama_cpp.llama_get_logits(model.ctx)[: model.n_vocab()])
""",
}
# Our own server's engine: without SVE it may not batch, and takes turns.
SERVED = """
import sys
from pathlib import Path
from tasks.backends.openvino.device import takes_turns
from tasks.backends.sampling import Sampling
from tasks.backends.sampling import Sampling
from tasks.backends.table import tokens
engine = tokens("openvino").engine(Path(sys.argv[1]), 1, 2, 64, {})
engine.add(0, IDS, NEW, Sampling(temperature=0.0))
made = []
while len(made) < NEW:
    made += [one.token for one in engine.step()]
import json; print("SAID", json.dumps([made, takes_turns()]), flush=True)
"""
NEW = 3
SAID = 'import json; print("SAID", json.dumps([int(logits.argmax()), float(logits.max())]), flush=True)\n'

LIMITS = {
    "cores": Limit(least=len(CORES)),
    "answers": Limit(least=len(CORES) * len(VARIANTS)),
    "answers_apart": Limit(most=0),
    "engines_that_took_turns": Limit(least=len(CORES)),
    "texts_apart": Limit(most=0),
    "dot_products_ended_on_old_cores": Limit(least=2),
    "dot_products_ran_on_new_cores": Limit(least=1),
}


@dataclass(frozen=True)
class Emulated:
    """Debian for arm64 in a folder, and what runs in it."""

    root: Path
    wheels: Path
    llama: Path  # the folder of its libraries

    def run(self, core: str, cpuinfo: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A program of that folder on a core; its code is negative where a signal ended it."""
        environment = {
            "PATH": "/usr/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONPATH": f"{self.wheels}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1", "LLAMA_CPP_LIB_PATH": str(self.llama), "OPENVINO_LOG_LEVEL": "0",
            "LD_LIBRARY_PATH": f"{self.llama}:{self.wheels}/openvino/libs",
        }  # fmt: skip
        (self.root / "proc").mkdir(exist_ok=True)
        shutil.copyfile(cpuinfo, self.root / "proc/cpuinfo")
        command = ["qemu-aarch64-static", "-L", str(self.root), "-cpu", core, *words]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S, check=False
        )  # fmt: skip

    def python(self, core: str, cpuinfo: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A Python script on a core."""
        return self.run(core, cpuinfo, [str(self.root / "usr/bin/python3.11"), "-c", script, *words])


def emulated() -> Emulated:
    """Debian's Python, wheels and libraries for arm64, made once; raises UnsupportedError for tools that lack."""
    absent = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if absent:
        raise UnsupportedError(f"to emulate arm64, install {', '.join(absent)}: apt-get install does on Debian")
    cache = CACHE.expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    root, wheels = cache / "debian-12", cache / _digest()
    if not (root / "usr/bin/python3.11").exists():
        tell("Debian for arm64: its packages, unpacked and not configured")
        partial = cache / "debian-12.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _run(["mmdebstrap", "--arch=arm64", "--variant=extract", f"--include={DEBS}", "bookworm", str(partial)])
        partial.rename(root)
    if not wheels.is_dir():
        _wheels(wheels)
    tell("llama.cpp for arm64")
    return Emulated(root, wheels, _named(crossbuilt.build(), cache / "llama"))


def _named(libraries: Path, out: Path) -> Path:
    """Links to libraries under the names by which they are looked for: libllama.so and libllama.so.0."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for file in libraries.glob("lib*.so*"):
        stem = file.name.split(".so")[0]
        for name in {f"{stem}.so", f"{stem}.so.0"}:
            (out / name).symlink_to(file)
    return out


def _digest() -> str:
    wanted = [f"{name} {version(name)}" for name in (*WHEELS, crossbuilt.PACKAGE) if name != "openvino-telemetry"]
    return f"wheels-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"


def _wheels(out: Path) -> None:
    """Unpack the locked versions' wheels for arm64 into a folder, with llama-cpp-python's own Python files."""
    lock = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    partial, files = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.name}.files")
    for folder in (partial, files):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_aarch64")]
    kinds = ["--python-version", "311", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    wanted = [f"{name}=={lock[name]}" for name in WHEELS if name in lock]
    tell(f"wheels for arm64: {', '.join(wanted)}")
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(files),
    ]
    _run([*fetch, *platforms, *kinds, *wanted])
    for file in sorted(files.glob("*.whl")):
        _run([sys.executable, "-m", "zipfile", "-e", str(file), str(partial)])
    import llama_cpp

    own = Path(str(llama_cpp.__file__)).parent
    shutil.copytree(own, partial / "llama_cpp", ignore=shutil.ignore_patterns("lib", "__pycache__"))
    shutil.rmtree(files)
    partial.rename(out)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise ResourceError(f"{' '.join(command[:3])} ... failed: {tail}")


def cpuinfo(folder: Path, device: str) -> Path:
    """What a Linux kernel on that core says of it."""
    _, part, features = CORES[device]
    count = profiles.named(device).usable_cores.value or 1
    lines = "".join(
        f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
        for number in range(count)
    )
    file = folder / f"{device}.cpuinfo"
    file.write_text(lines)
    return file


def here(runtime: str, artifact: Path) -> int:
    """The likeliest token by the same runtime on this machine."""
    scorer = tokens(runtime).scorer(artifact, 1)
    try:
        return int(np.asarray(scorer.score(IDS))[-1].argmax())
    finally:
        scorer.close()


def written(artifact: Path) -> list[int]:
    """The first tokens that our engine writes on this machine."""
    engine = tokens("openvino").engine(artifact, 1, 2, 64, {})
    engine.add(0, IDS, NEW, Sampling(temperature=0.0))
    made = list[int]()
    while len(made) < NEW:
        made += [one.token for one in engine.step()]
    engine.close()
    return made


def _script(text: str) -> str:
    return text.replace("IDS", json.dumps(list(IDS))).replace("NEW", str(NEW))


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["nothing was said"])[-1][:90]


def drill(folder: Path) -> Figures:
    """Every runtime on every core."""
    workspace = Workspace(ROOT / "artifacts")
    made = {
        runtime: workspace.artifact_files(name).resolve()
        for runtime, name in VARIANTS.items()
        if workspace.artifact_record(name).exists() and Artifact.read(workspace.artifact_record(name)).status == "ok"
    }
    if absent := sorted(set(VARIANTS) - set(made)):
        raise ResourceError(f"artifacts/ has no variant of {', '.join(absent)}; `make run` makes them")
    arm = emulated()
    expected = {runtime: here(runtime, artifact) for runtime, artifact in made.items()}
    spoken = written(made["openvino"])
    program = folder / "dot"
    (folder / "dot.c").write_text(DOT)
    _run(["aarch64-linux-gnu-gcc", "-march=armv8.2-a+dotprod", "-static", "-o", str(program), str(folder / "dot.c")])
    found = Counter[str](dict.fromkeys(LIMITS, 0))
    print(f"{'profile':<16}{'core':<12}{'runtime':<10}{'answer':<10}what was said")
    for device, (core, _, features) in CORES.items():
        found["cores"] += 1
        info = cpuinfo(folder, device)
        ended = arm.run(core, info, [str(program)]).returncode
        has_dot = "asimddp" in features
        found["dot_products_ran_on_new_cores"] += has_dot and ended == 0
        found["dot_products_ended_on_old_cores"] += not has_dot and ended in (SIGILL, 128 - SIGILL)
        print(f"{device:<16}{core:<12}{'dot':<10}{'':<10}{'runs' if ended == 0 else f'ended with code {ended}'}")
        for runtime, artifact in made.items():
            done = arm.python(core, info, _script(FORWARD[runtime]) + SAID, str(artifact))
            said = re.search(r"^SAID (.*)$", done.stdout, re.MULTILINE)
            token, logit = json.loads(said[1]) if said else (None, None)
            found["answers"] += token is not None
            found["answers_apart"] += token is not None and token != expected[runtime]
            told = (
                f"token {token}, logit {logit:.4f}; here {expected[runtime]}"
                if said
                else f"code {done.returncode}: {_last(done.stderr)}"
            )
            answer = "none" if token is None else "equal" if token == expected[runtime] else "APART"
            print(f"{device:<16}{core:<12}{runtime:<10}{answer:<10}{told}", flush=True)
        done = arm.python(core, info, _script(SERVED), str(made["openvino"]))
        said = re.search(r"^SAID (.*)$", done.stdout, re.MULTILINE)
        text, turns = json.loads(said[1]) if said else ([], _last(done.stderr))
        found["engines_that_took_turns"] += said is not None and bool(turns)
        found["texts_apart"] += text != spoken
        answer = "equal" if text == spoken else "APART"
        print(f"{device:<16}{core:<12}{'served':<10}{answer:<10}{turns}", flush=True)
    return {name: float(count) for name, count in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drill; exit code 1 when a limit is not kept."""
    harness.parser("drill.cores", __doc__).parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return harness.main("drill-cores", drill, LIMITS)


if __name__ == "__main__":
    raise SystemExit(main())
