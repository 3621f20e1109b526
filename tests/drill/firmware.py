"""Drill of a board's update: SWUpdate installs into two slots here, and whatever goes wrong, one slot is good.

SWUpdate, the slot script, the C program that asks, signatures, links and locks are the real ones, as is the server but
for its model, which is an echo. The process that holds the socket stands for systemd: it runs `recover` before each
start, as the unit does. Slots are folders here, the full disk is a small tmpfs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tasks.targets.embedded import firmware
from tests.bench import harness
from tests.bench.harness import Figures, Limit
from tests.drill.board import LIMIT_S, WEIGHTS, Board, board
from tests.drill.rig import tell

STEPS = ("ln", "mv", "sync", "find", "flock", "sha256sum")  # what the script calls where it changes or judges something

LIMITS = {
    "kills": Limit(least=12),
    "kills_without_a_good_slot": Limit(most=0),
    "kills_not_updated_afterwards": Limit(most=0),
    "refused": Limit(least=5),  # signatures, hardware, a changed byte
    "refused_installed_all_the_same": Limit(most=0),
    "unhealthy": Limit(least=2),
    "unhealthy_committed": Limit(most=0),
    "full_disk_moved": Limit(most=0),
    "connections_refused": Limit(most=0),
}

SHIM = """#!/bin/sh
# Counts what the slot script calls; ends the script at one of these calls, before it or after it.
real={real}
case $(tr '\\0' ' ' </proc/$PPID/cmdline) in *edgewright-slot*) ;; *) exec "$real" "$@" ;; esac
echo x >>{count}
if [ "$(wc -l <{count})" -ne "$(cat {at})" ]; then exec "$real" "$@"; fi
[ "$(cat {when})" = before ] || "$real" "$@" || true
kill -9 $PPID
echo {name} >{killed}
"""


def shims(one: Board, at: int, when: str) -> Path:
    """A folder for PATH whose tools end the script at its call of that number."""
    folder = one.folder / "shims"
    folder.mkdir(exist_ok=True)
    places = {name: folder / f".{name}" for name in ("count", "at", "when", "killed")}
    places["count"].write_text("")
    places["killed"].unlink(missing_ok=True)
    places["at"].write_text(str(at))
    places["when"].write_text(when)
    for name in STEPS:
        file = folder / name
        file.write_text(SHIM.format(real=shutil.which(name), name=name, **{k: str(v) for k, v in places.items()}))
        file.chmod(0o755)
    return folder


def kills(one: Board, updates: Sequence[Path], most: int = 99) -> tuple[int, int, int]:
    """End the script at every call it makes: kills, those without a good slot, and those after which none installs."""
    count = bad = stuck = 0
    for when in ("before", "after"):
        for at in range(1, most + 1):
            update = updates[count % 2]  # not what was committed last, so that both slots differ
            path = shims(one, at, when)
            one.install(update, path=path)
            killed = path / ".killed"
            if not killed.exists():
                break  # it came to its end: there are no more calls
            count += 1
            one.power_cut()
            well = one.good()
            said = "good" if well else f"NO good slot ({one.why})"
            bad += not well
            before = one.link("committed")
            again = one.install(update) == 0 and one.good() and one.link("committed") != before
            stuck += not again
            then = "updated" if again else "STUCK"
            tell(f"killed {when} call {at} ({killed.read_text().strip()}): {said}; afterwards {then}")
    return count, bad, stuck


def cut_off(one: Board, update: Path) -> tuple[int, int, int]:
    """kill -9 of SWUpdate in the middle of its copy: as `kills`."""
    before = one.link("committed")
    other = one.state / ("b" if before == "a" else "a") / "model" / "model.gguf"
    with (one.folder / "install.log").open("ab") as log:
        process = subprocess.Popen(
            [str(one.script), "update", str(update)],
            env=one.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if other.exists() and 0 < other.stat().st_size < WEIGHTS:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    size = other.stat().st_size if other.exists() else 0
    one.power_cut()
    well = one.good() and one.link("committed") == before
    again = one.install(update) == 0 and one.good() and one.link("committed") != before
    of = f"{size / 1e6:.1f} of {WEIGHTS / 1e6:g} MB"
    tell(f"SWUpdate killed with {of} written: good {well}, updated afterwards {again}")
    return 1, int(not well), int(not again)


def refusals(one: Board) -> tuple[int, int]:
    """Updates that must not be installed: how many, and how many were."""
    (one.folder / "other").mkdir()
    stranger = firmware.passing_key(one.folder / "other")
    good = one.update(60)
    cases = {"another signer": one.update(61, key=stranger), "other hardware": one.update(62, board="another")}
    raw = good.read_bytes()
    flipped, unsigned, cut = (one.folder / "updates" / name for name in ("flipped.swu", "unsigned.swu", "cut.swu"))
    flipped.write_bytes(raw[: -WEIGHTS // 2] + bytes([raw[-WEIGHTS // 2] ^ 1]) + raw[1 - WEIGHTS // 2 :])
    unsigned.write_bytes(raw.replace(b"sw-description.sig", b"sw-description.nil"))
    cut.write_bytes(raw[: len(raw) // 2])
    cases |= {"a changed bit": flipped, "no signature": unsigned, "half of it": cut}
    installed = 0
    for name, update in cases.items():
        before = one.link("committed")
        code = one.install(update)
        well = code != 0 and one.good() and one.link("committed") == before
        installed += not well
        tell(f"{name}: exit code {code}, {'refused' if well else 'INSTALLED'}")
    return len(cases), installed


def unhealthy(one: Board, update: Path) -> tuple[int, int]:
    """New models that do not answer: how many, and how many were committed; the old slot answers afterwards."""
    bad, committed = one.update(70, healthy=False), 0
    cases = (("its files are not those of its manifest", bad, False), ("it never becomes ready", update, True))
    for name, told, never in cases:
        before = one.link("committed")
        fault = one.address.parent / "faults.json"
        waits = threading.Thread(target=_until_tried, args=(one, before, fault))
        if never:
            waits.start()
        code = one.install(told)
        if never:
            waits.join()
        well = code != 0 and one.link("committed") == before and one.good()
        committed += not well
        tell(f"{name}: exit code {code}, {'went back' if well else 'COMMITTED'}")
    return len(cases), committed


def _until_tried(one: Board, before: str, fault: Path) -> None:
    """Make whatever is served on trial never ready, and what was there before ready again."""
    until = time.monotonic() + LIMIT_S
    while one.link("current") == before and time.monotonic() < until:
        time.sleep(0.005)
    fault.write_text('{"never_ready": true}')
    while one.link("current") != before and time.monotonic() < until:
        time.sleep(0.01)
    fault.unlink(missing_ok=True)


def full_disk(one: Board, update: Path) -> int | None:
    """A slot without room: 1 if the board moved or has no good slot; None where no tmpfs can be mounted."""
    before = one.link("committed")
    slot = one.state / ("b" if before == "a" else "a")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(slot)], capture_output=True, check=False
    )
    if mounted.returncode:
        tell(f"full disk: not drilled: {mounted.stderr.decode().strip()}")
        return None
    try:
        code = one.install(update)
        well = code != 0 and one.good() and one.link("committed") == before
        tell(f"full disk: exit code {code}, {'nothing moved' if well else 'MOVED'}")
        return int(not well)
    finally:
        subprocess.run(["umount", str(slot)], check=False)


def drill(folder: Path) -> Figures:
    """All of them."""
    with board(folder / "board") as one:
        updates = [one.update(number) for number in (2, 3)]
        counts = [cut_off(one, updates[0]), kills(one, updates[::-1])]
        figures: Figures = {
            "kills": sum(count for count, _, _ in counts),
            "kills_without_a_good_slot": sum(bad for _, bad, _ in counts),
            "kills_not_updated_afterwards": sum(stuck for _, _, stuck in counts),
        }
        figures["refused"], figures["refused_installed_all_the_same"] = refusals(one)
        figures["unhealthy"], figures["unhealthy_committed"] = unhealthy(one, updates[0])
        figures["full_disk_moved"] = full_disk(one, updates[0])
        figures["questions"], figures["connections_refused"] = one.asked, one.refused
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drill; exit code 1 when a limit is not kept, 2 where a tool is not installed."""
    harness.parser("drill.firmware", __doc__).parse_args(argv)
    return harness.main("drill-firmware", drill, LIMITS)


if __name__ == "__main__":
    raise SystemExit(main())
