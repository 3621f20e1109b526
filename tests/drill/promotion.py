"""Drills: promotions under traffic, versions that turn bad, processes that are killed, in every state of a rollout.

Router, logs, protocols and rollout are the real ones; the models are echoes, so that hundreds of requests a second fit
on two cores.
"""

from __future__ import annotations

import random
import signal
import string
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from tasks.promotion.rollout import SHARES, State
from tasks.serve.log.prediction_log import NAME
from tests.bench.harness import Figures, Limit
from tests.drill.echo_server import Faults
from tests.drill.rig import BROKEN, LONG_S, REFUSED, Rig, Traffic, idle, rig, tell

REQUESTS, MALFORMED, FULL = 10_000, 500, 300
FAULTS = {
    "slow": Faults(slow=60.0),
    "wrong": Faults(wrong=True),
    "crash": Faults(crash_after=5),
    "leak": Faults(leak_mb=2.0),
}
VICTIMS = ("router", "champion", "challenger")
KILLS = len(VICTIMS) * (len(SHARES) + 2)  # staging and shadow, too
CALLERS = 4  # while processes are killed

LIMITS = {
    "promotion_requests": Limit(least=REQUESTS),
    "promotion_failed": Limit(most=0),
    "faults": Limit(least=len(SHARES) * len(FAULTS) + 1),  # and one that is never ready
    "faults_not_rolled_back": Limit(most=0),
    "fault_longest_s": Limit(most=20),
    "kills": Limit(least=KILLS),
    "kills_left_half_done": Limit(most=0),
    "kills_requests_failed": Limit(most=0),
    "kills_connections_refused": Limit(most=0),
    "kills_answers_broken": Limit(most=KILLS * CALLERS),  # one of each caller, in the process that was killed
    "flow_kills_left_half_done": Limit(most=0),
    "steps_taken_without_traffic": Limit(most=0),
    "failed_with_a_full_disk": Limit(most=0),
    "malformed_not_refused": Limit(most=0),
}


def at(phase: str) -> Callable[[State], bool]:
    """Whether that very phase is under way: what comes after it is another drill."""
    return lambda state: state.phase == phase


def whole(one: Rig) -> bool:
    """Whether a rollout that is over left registry, traffic and state as one."""
    state = one.state()
    champion = state.slot(state.champion).version
    answers = {answered(one) for _ in range(5)}
    return idle(state) and one.alias() == champion and answers == {champion}


def answered(one: Rig) -> str:
    """Which version answers."""
    body = {"model": one.model, "prompt": "who answers?", "max_tokens": 2}
    found = httpx.post(f"{one.base}/v1/completions", json=body, timeout=10)
    return found.headers.get("x-edgewright-version", "none") if found.status_code == 200 else str(found.status_code)


# -- drills ------------------------------------------------------------------------------------------------------------


def promotion(folder: Path, requests: int = REQUESTS, shares: Sequence[float] = SHARES) -> dict[str, float]:
    """A whole promotion under traffic: how many requests, how many failed, how long it took."""
    with rig(folder, shares=list(shares)) as one, Traffic(one.base, one.model, most=requests) as traffic:
        began, slot = time.monotonic(), one.deploy()
        one.until(idle, LONG_S, "the end of the promotion")
        took = time.monotonic() - began
        state = one.state()
        if state.slot(state.champion).version != slot.version:
            raise RuntimeError(f"the promotion was rolled back: {state.reason}")
        while not traffic.done:
            time.sleep(0.05)
        if not whole(one):
            raise RuntimeError(f"registry, traffic and state disagree: {one.alias()}, {answered(one)}, {state}")
    sent = f"{traffic.sent} requests by {dict(traffic.versions)}, failed {dict(traffic.failed)}"
    tell(f"promotion in {took:.0f} s; {sent}")
    return {
        "promotion_requests": traffic.sent,
        "promotion_failed": sum(traffic.failed.values()),
        "promotion_s": round(took, 1),
    }


def faults(folder: Path, share: float, names: Sequence[str] = tuple(FAULTS)) -> list[tuple[str, float | None, int]]:
    """A version that turns bad at a share of the traffic: name, seconds until no caller met it, failed requests."""
    found: list[tuple[str, float | None, int]] = []
    with rig(folder, shares=_from(share)) as one:
        for name in names:
            with Traffic(one.base, one.model) as traffic:
                before = one.state()
                champion = before.slot(before.champion).version
                one.deploy()
                one.until(at("ramp"), LONG_S, f"the ramp before it turns {name}")
                color = one.state().challenger
                one.fault(color, FAULTS[name])
                took = one.until(lambda state: state.phase in ("rollback", "idle"), LONG_S, f"an end of {name}")
                one.until(idle, LONG_S, "the end of the rollback")
                one.fault(color, None)
                after = one.state()
                back = after.slot(after.champion).version == champion
            found.append((name, took if back else None, sum(traffic.failed.values())))
            end = f"rolled back after {took:.1f} s" if back else "NOT rolled back"
            tell(f"{name} at {share:g}%: {end}; {after.reason}")
            if not back:
                break
    return found


def never_ready(folder: Path) -> bool:
    """A version that never becomes ready: whether it is rolled back."""
    with rig(folder, max_start_s=15.0) as one:
        state = one.state()
        one.fault(state.challenger, Faults(never_ready=True))
        one.deploy()
        one.until(idle, LONG_S, "an end of a version that is never ready")
        after = one.state()
        tell(f"never ready: {after.reason}")
        return after.slot(after.champion) == state.slot(state.champion) and whole(one)


def kills(folder: Path, share: float, phases: Sequence[str], victims: Sequence[str] = VICTIMS) -> dict[str, int]:
    """kill -9 of each in each phase: those left half done, connections refused, answers broken, other failures."""
    half, count, lost = 0, 0, Counter[str]()
    with rig(folder, shares=_from(share)) as one:
        for phase in phases:
            for victim in victims:
                count += 1
                try:
                    lost += _killed(one, phase, victim, share)
                except RuntimeError as problem:
                    tell(f"kill -9 of the {victim} in {phase} at {share:g}%: NOT at one end: {problem}")
                    half += 1
                    break
            if half:
                break
    others = lost.total() - lost[REFUSED] - lost[BROKEN]
    return {"kills": count, "half": half, "failed": others, "refused": lost[REFUSED], "broken": lost[BROKEN]}


def _killed(one: Rig, phase: str, victim: str, share: float) -> Counter[str]:
    """One kill in one phase; how requests failed. Raises RuntimeError without an end."""
    with Traffic(one.base, one.model, callers=CALLERS) as traffic:
        one.deploy()
        one.until(at(phase), LONG_S, phase)
        state = one.state()
        color = {"champion": state.champion, "challenger": state.challenger}.get(victim, "router")
        one.kill(color)
        one.until(idle, LONG_S, "an end")
        one.until(lambda _: whole(one), 20.0, "one champion in registry, traffic and state")
    after = one.state()
    tell(f"kill -9 of the {victim} in {phase} at {share:g}%: {after.reason[:90]}; failed {dict(traffic.failed)}")
    return traffic.failed


def flow_kills(folder: Path, phases: Sequence[str] = ("staging", "shadow", "ramp")) -> int:
    """kill -9 of the flow that drives a promotion, and again from the start: how many did not come to their end."""
    lost = 0
    with rig(folder, shares=_from(25.0)) as one:
        for phase in phases:
            with Traffic(one.base, one.model, callers=4):
                slot = one.other()
                first = _flow(one, slot.package)
                one.until(at(phase), LONG_S, f"{phase} by the flow")
                first.send_signal(signal.SIGKILL)
                first.wait()
                again = _flow(one, slot.package)
                code = again.wait(LONG_S)
                state = one.state()
                well = code == 0 and whole(one) and state.slot(state.champion).version == slot.version
                lost += not well
                tell(f"kill -9 of the flow in {phase}: the next one ends with {code}, {state.reason[:90]}")
    return lost


def _flow(one: Rig, package: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.promote", "--folder", str(one.store.folder), "--package", package]
    with (one.folder / "flow.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=one.folder, env=one.environment, stdout=log, stderr=log, start_new_session=True
        )


def traffic_stops(folder: Path, seconds: float = 8.0) -> int:
    """Callers fall silent in the middle of a ramp: steps that were taken all the same, probes or not."""
    with rig(folder, shares=_from(5.0)) as one, Traffic(one.base, one.model) as traffic:
        one.deploy()
        one.until(at("ramp"), LONG_S, "ramp")
        traffic.paused = True
        time.sleep(0.5)
        before = one.state()
        time.sleep(seconds)
        after = one.state()
        traffic.paused = False
        one.until(idle, LONG_S, "the end, with callers again")
        steps = 0 if after == before else 1
        end = "held" if not steps else "went on"
        tell(f"no callers for {seconds:g} s at {before.share:g}%: {end}; {one.state().reason[:80]}")
        return steps


def full_disk(folder: Path, requests: int = FULL) -> int:
    """Logs that find no room: requests that failed, or all when nothing tells that lines are lost."""
    made = Rig(folder)
    for color in ("blue", "green"):
        file = made.store.folder / color / NAME
        file.parent.mkdir(parents=True)
        file.symlink_to("/dev/full")
    (made.store.folder / "exchanges.jsonl").symlink_to("/dev/full")
    try:
        made.start()
        made.serving()
        with Traffic(made.base, made.model, most=requests) as traffic:
            while not traffic.done:
                time.sleep(0.05)
        told = [
            line
            for path in ("metrics", "metrics/blue")
            for line in httpx.get(f"{made.base}/{path}", timeout=10).text.splitlines()
            if "log_lines_lost" in line and not line.startswith("#") and float(line.split()[-1]) > 0
        ]
        tell(f"full disk: {traffic.sent} requests, failed {dict(traffic.failed)}, told by {told}")
        return sum(traffic.failed.values()) if len(told) == 2 else requests
    finally:
        made.end()


def malformed(folder: Path, requests: int = MALFORMED) -> int:
    """Bodies of noise: how many were not refused with 4xx, and all when the server does not answer afterwards."""
    dice, wrong = random.Random(11), 0
    with rig(folder) as one, httpx.Client(base_url=one.base, timeout=30) as client:
        paths = ("/v1/completions", "/v1/chat/completions", f"/v2/models/{one.model}/infer", "/v1/%2e%2e/x")
        for turn in range(requests):
            noise = "".join(dice.choices(string.printable, k=dice.randint(0, 400))).encode()
            head = dice.choice([b"", b"{", b'{"prompt": ', b'{"prompt": "x", "max_tokens": "', b"[[", b"\xff\xfe"])
            status = client.post(paths[turn % len(paths)], content=head + noise).status_code
            wrong += not 400 <= status < 500
        well = client.get("/v2/health/ready").status_code == 200 and answered(one) != "none"
        tell(f"{requests} malformed requests: {wrong} not refused, ready afterwards: {well}")
        return wrong if well else requests


def _from(share: float) -> list[float]:
    return [one for one in SHARES if one >= share]


def drill(folder: Path) -> Figures:
    """All of them."""
    figures: Figures = {**promotion(folder / "promotion")}
    ends = [(share, *one) for share in SHARES for one in faults(folder / f"faults-{share:g}", share)]
    ready = never_ready(folder / "never-ready")
    figures["faults"] = len(ends) + 1
    figures["faults_not_rolled_back"] = sum(took is None for _, _, took, _ in ends) + (not ready)
    figures["fault_longest_s"] = round(max((took for _, _, took, _ in ends if took is not None), default=0.0), 1)
    figures["fault_requests_failed"] = sum(failed for _, _, _, failed in ends)
    states = [(SHARES[-2], ("staging", "shadow")), *((share, ("ramp",)) for share in SHARES)]
    killed = [kills(folder / f"kills-{i}", share, phases) for i, (share, phases) in enumerate(states)]
    figures["kills"] = sum(one["kills"] for one in killed)
    figures["kills_left_half_done"] = sum(one["half"] for one in killed)
    figures["kills_requests_failed"] = sum(one["failed"] for one in killed)
    figures["kills_connections_refused"] = sum(one["refused"] for one in killed)
    figures["kills_answers_broken"] = sum(one["broken"] for one in killed)
    figures["flow_kills_left_half_done"] = flow_kills(folder / "flow")
    figures["steps_taken_without_traffic"] = traffic_stops(folder / "silence")
    figures["failed_with_a_full_disk"] = full_disk(folder / "full") if Path("/dev/full").exists() else None
    figures["malformed_not_refused"] = malformed(folder / "malformed")
    return figures
