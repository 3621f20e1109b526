"""Detection of the host, limits of containers, accelerators with reasons, device profiles, and the detect stage."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import ConfigError
from tasks.hardware import accelerators, cpu, host, profiles
from tasks.hardware.conditions import conditions, network, temperature
from tasks.records.hardware import Accelerator, Cache, Hardware

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni avx512_bf16 amx_int8 amx_bf16

processor\t: 1
model name\t: another
"""
RASPBERRY = """processor\t: 0
Features\t: fp asimd evtstrm asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
ARM_SERVER = "Features : asimd asimddp sve i8mm bf16\nCPU implementer : 0x41\nCPU part : 0xd40\n"
APPLE = """hw.physicalcpu: 8
hw.optional.AdvSIMD: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
hw.perflevel0.l1dcachesize: 131072
hw.l1dcachesize: 65536
hw.perflevel0.l2cachesize: 16777216
machdep.cpu.brand_string: Apple M2
"""
INTEL_MAC = """hw.l3cachesize: 12582912
machdep.cpu.vendor: GenuineIntel
machdep.cpu.brand_string: Intel(R) Core(TM) i7
machdep.cpu.features: FPU SSE4.2 AVX1.0 FMA
machdep.cpu.leaf7_features: AVX2 AVX512F AVX512VNNI
"""


@pytest.mark.parametrize(
    ("text", "vendor", "model", "isa"),
    [
        (
            X86,
            "GenuineIntel",
            "Intel(R) Xeon(R) Processor",
            ("sse4_2", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
        ),
        (RASPBERRY, "", "Raspberry Pi 5 Model B Rev 1.0", ("asimd", "asimdhp", "asimddp")),
        (ARM_SERVER, "", "Arm implementer 0x41 part 0xd40", ("asimd", "asimddp", "i8mm", "bf16", "sve")),
        ("", "", "", ()),
    ],
)
def test_cpuinfo(text: str, vendor: str, model: str, isa: tuple[str, ...]) -> None:
    found = cpu.parse_cpuinfo(text)
    assert (found.vendor, found.model, found.isa) == (vendor, model, isa)


def test_sysctl_of_both_kinds_of_mac() -> None:
    apple, intel = cpu.parse_sysctl(APPLE), cpu.parse_sysctl(INTEL_MAC)
    assert (apple.vendor, apple.model, apple.isa) == ("Apple", "Apple M2", ("asimd", "asimddp", "i8mm"))
    assert apple.caches == (
        Cache(level=1, kind="data", size_kb=128),
        Cache(level=2, kind="unified", size_kb=16384),
    ), "the fast cores' caches"
    assert intel.isa == ("sse4_2", "avx", "fma", "avx2", "avx512f", "avx512_vnni")
    assert intel.caches == (Cache(level=3, kind="unified", size_kb=12288),)


@given(st.text(max_size=300))
def test_parsers_take_any_text(text: str) -> None:
    assert set(cpu.parse_cpuinfo(text).isa) <= set(cpu.ISA)
    accelerators.from_openvino(None, text or "reason")
    found = accelerators.from_nvidia(text, "")
    assert all(a.available or a.reason for a in found)


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_caches_from_sysfs_leave_out_half_described_ones(tmp_path: Path) -> None:
    base = "sys/devices/system/cpu/cpu0/cache"
    for index, (level, kind, size) in enumerate([("1", "Data", "48K"), ("3", "Unified", "32M"), ("2", "Odd", "1K")]):
        put(tmp_path, f"{base}/index{index}/level", level)
        put(tmp_path, f"{base}/index{index}/type", kind + "\n")
        put(tmp_path, f"{base}/index{index}/size", size + "\n")
    assert cpu.sysfs_caches(tmp_path) == (
        Cache(level=1, kind="data", size_kb=48),
        Cache(level=3, kind="unified", size_kb=32768),
    )


def gpu(runtime: str, available: bool = True) -> tuple[Accelerator, ...]:
    reason = "" if available else "absent"
    return (Accelerator(kind="gpu", name="GPU", runtime=runtime, available=available, reason=reason),)


@pytest.mark.parametrize(
    ("vendor", "architecture", "board", "found", "family"),
    [
        ("GenuineIntel", "x86_64", "", (), "intel"),
        ("AuthenticAMD", "x86_64", "", gpu("cuda", available=False), "amd"),
        ("AuthenticAMD", "x86_64", "", gpu("cuda"), "nvidia"),
        ("Apple", "arm64", "", gpu("metal"), "apple-silicon"),
        ("", "arm64", "Raspberry Pi 5", (), "arm-embedded"),
        ("", "arm64", "", (), "generic"),
        ("HygonGenuine", "x86_64", "", (), "generic"),
    ],
)
def test_family(vendor: str, architecture: str, board: str, found: tuple[Accelerator, ...], family: str) -> None:
    assert host.family(vendor, architecture, board, found) == family


def test_android_is_told_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ROOT", "/system")
    assert host.family("", "arm64", "", ()) == "arm-mobile"
    assert host.operating_system() == "android"


def test_machine_id_is_a_digest_and_depends_on_the_processor(tmp_path: Path) -> None:
    put(tmp_path, "etc/machine-id", "3d1219c7\n")
    one, other = host.machine_id("Xeon", tmp_path), host.machine_id("EPYC", tmp_path)
    assert len(one.value or "") == 16
    assert "3d1219c7" not in (one.value or "")
    assert one.value != other.value, "images share the id, timings do not carry over"
    assert one == host.machine_id("Xeon", tmp_path)
    assert host.machine_id("Xeon", tmp_path / "none").reason.startswith("from host name and processor")


def test_power_budget(tmp_path: Path) -> None:
    assert "no readable RAPL" in host.power_budget(tmp_path).reason
    put(tmp_path, "sys/class/powercap/intel-rapl:0/constraint_0_name", "long_term\n")
    put(tmp_path, "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw", "28000000\n")
    assert host.power_budget(tmp_path).value == 28.0


def test_board_name(tmp_path: Path) -> None:
    assert host.board_name(tmp_path) == ""
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B\0")
    assert host.board_name(tmp_path) == "Raspberry Pi 5 Model B"


def test_conditions_are_read_without_waiting() -> None:
    now = conditions()
    assert now.when.endswith("+00:00")
    assert (now.memory_free_mb.value or 0) > 0
    assert (now.disk_free_mb.value or 0) > 0
    assert now.network.value is not None


def test_temperature_takes_the_hottest_processor_sensor() -> None:
    sensors = {"nvme": [SimpleNamespace(current=90)], "coretemp": [SimpleNamespace(current=c) for c in (41, 55, None)]}
    assert temperature(sensors).value == 55.0
    assert "no processor temperature sensor" in temperature({"nvme": sensors["nvme"]}).reason
    assert "no processor temperature sensor" in temperature(None).reason


def test_network_ignores_the_loopback() -> None:
    up, down = SimpleNamespace(isup=True), SimpleNamespace(isup=False)
    assert network({"lo": up, "eth0": up}).value is True
    alone = network({"lo": up, "eth0": down})
    assert (alone.value, alone.reason) == (False, "no interface but the loopback is up")


REQUIRED = (
    "intel-box", "nvidia-server", "apple-silicon-mac", "iphone", "android-phone", "raspberry-pi", "raspberry-pi-4",
    "edge-tpu", "cloud-edge",
)  # fmt: skip


@pytest.mark.parametrize("device", REQUIRED)
def test_every_named_profile_is_a_full_record(device: str) -> None:
    hardware = profiles.named(device)
    assert (hardware.device, hardware.origin, hardware.is_host) == (device, "profile", False)
    assert hardware.machine_id.value is None
    assert (hardware.memory_mb.value or 0) > 0
    assert set(hardware.isa.value or ()) <= set(cpu.ISA)
    assert Hardware.model_validate_json(hardware.model_dump_json()) == hardware


def test_unknown_device_names_the_nearest_and_all() -> None:
    with pytest.raises(
        ConfigError, match=r"'rasberry-pi' is not known; did you mean 'raspberry-pi'\? allowed: host, "
    ) as e:
        profiles.named("rasberry-pi")
    assert all(device in str(e.value) for device in REQUIRED)
    assert "tasks/hardware/devices.yaml" in str(e.value)


def test_a_profile_is_added_as_data_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "devices.yaml"
    file.write_text("jetson: {family: nvidia, description: Jetson Orin, memory_mb: 8000}\n")
    hardware = profiles.as_hardware("jetson", profiles.profiles(file)["jetson"])
    assert hardware.memory_mb.value == 8000
    assert hardware.isa.reason == "profile jetson does not give it"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("jetson: {family: nvidia, description: x, memory: 8000}\n")
    with pytest.raises(ConfigError, match=r"wrong\.yaml: jetson\.memory: Extra inputs .*memory_mb"):
        profiles.profiles(wrong)
