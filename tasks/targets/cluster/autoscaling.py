"""How many pods: the target of the autoscaler from what was measured, and a replay of a load through its formula. Pure.

The formula is that of Kubernetes' HorizontalPodAutoscaler, autoscaling/v2: every SYNC_S,
desired = ceil(pods * metric / target), nothing within the tolerance of the target. Pods without a metric count as idle
when it would scale up and as on target when it would scale down. Then stabilization windows, policies, the limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tasks.errors import ConfigError
from tasks.records.load import LoadStep

SYNC_S = 15.0  # of the controller; its default, as the tolerance is
TOLERANCE = 0.1
SCRAPE_S = 15.0  # of the ServiceMonitor: a metric is so old at most when it is read
FLAP_S = 600.0
MISSED = 0.01  # of the requests, at most
EPSILON = 1e-9  # what sums of floats may be off


@dataclass(frozen=True)
class Target:
    """What each pod should have under way, and how that was derived."""

    value: float  # requests
    why: str

    @property
    def quantity(self) -> str:
        """As Kubernetes writes it.

        >>> Target(3.25, "").quantity, Target(4.0, "").quantity
        ('3250m', '4')
        """
        milli = math.floor(1000 * self.value + EPSILON)
        return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def derived(knee: float, knee_from: str, start_s: float, start_from: str, growth_per_min: float) -> Target:
    """The target that still keeps the objective while a pod starts: knee x (1 - growth x startup).

    `knee`: requests under way in a pod at which it still keeps the objective. `growth_per_min`: by what share of what a
    pod does at the knee its load may rise in a minute. Startup is the pod's own start, a scrape and a look of the
    controller. Raises ConfigError where no target keeps up with that growth.
    """
    if knee <= 0 or start_s < 0 or growth_per_min < 0:
        raise ConfigError(f"a knee of {knee:g}, a start of {start_s:g} s, a growth of {growth_per_min:g}: none below 0")
    startup = start_s + SCRAPE_S + SYNC_S
    share = 1 - growth_per_min / 60 * startup
    value = math.floor(1000 * knee * share) / 1000
    if value < TOLERANCE:
        raise ConfigError(
            f"a load that grows by {growth_per_min:.0%} of a pod's knee a minute outruns pods that take {startup:.0f} "
            "s to help; allow less growth, make pods start faster, or keep more pods (min_replicas) and no autoscaler"
        )
    why = (
        f"{value:g} requests a pod = knee x (1 - growth x startup) = {knee:g} x (1 - {growth_per_min:g}/min x "
        f"{startup:g} s). Knee: {knee:g} requests under way ({knee_from}). Startup: {start_s:g} s until a pod is ready "
        f"({start_from}), {SCRAPE_S:g} s for a scrape, {SYNC_S:g} s for the controller. Growth: the load of a pod may "
        f"rise by {growth_per_min:.0%} of its knee in a minute."
    )
    return Target(value, why)


@dataclass(frozen=True)
class Point:
    """A pod's throughput with so many requests under way."""

    under_way: float
    rate: float  # requests per second that come back


def curve(steps: Sequence[LoadStep]) -> tuple[Point, ...]:
    """What a pod does by requests under way, from the steps of a load test, by Little's law on medians.

    A request's time is that to its first token and of its other tokens; steps with too few requests tell nothing.
    """
    found: list[Point] = []
    for one in sorted(steps, key=lambda step: step.rate):
        if one.first_ms_p50 is None or one.between_ms_p50 is None or one.achieved <= 0:
            continue
        tokens = one.tokens_per_s / one.achieved
        seconds = (one.first_ms_p50 + max(0.0, tokens - 1) * one.between_ms_p50) / 1000
        point = Point(one.achieved * seconds, one.achieved)
        if not found or (point.under_way > found[-1].under_way and point.rate >= found[-1].rate):
            found.append(point)
    return tuple(found)


def knee(steps: Sequence[LoadStep], first_ms: float, between_ms: float) -> float | None:
    """Requests under way at the highest rate below every one that misses the objectives; None where none keeps them."""

    def kept(one: LoadStep) -> bool:
        first, between = one.first_ms_p95, one.between_ms_p95
        told = first is not None and between is not None and first <= first_ms and between <= between_ms
        return told and one.error_rate <= 0.01 and one.achieved >= 0.85 * one.rate

    missed = min((one.rate for one in steps if not kept(one)), default=math.inf)
    points = curve([one for one in steps if one.rate < missed])
    return points[-1].under_way if points else None


def served(points: Sequence[Point], under_way: float) -> float:
    """Requests per second a pod gives back with so many under way, between the points of its curve.

    >>> served([Point(1, 2.0), Point(3, 4.0)], 2), served([Point(1, 2.0)], 0.5), served([Point(1, 2.0)], 9)
    (3.0, 1.0, 2.0)
    """
    before = Point(0.0, 0.0)
    for point in points:
        if under_way <= point.under_way:
            part = (under_way - before.under_way) / (point.under_way - before.under_way)
            return before.rate + part * (point.rate - before.rate)
        before = point
    return before.rate


@dataclass(frozen=True)
class Policy:
    """How fast a direction may go: pods, or percent of the pods, in a period."""

    kind: str  # Pods | Percent
    value: int
    period_s: int


@dataclass(frozen=True)
class Behavior:
    """The autoscaler as its manifest has it; the fastest policy of a direction counts."""

    least: int
    most: int
    up: tuple[Policy, ...] = (Policy("Pods", 4, 15), Policy("Percent", 100, 15))
    # Requests under way fall faster than the load: pods are taken slowly, so that each look sees what the last one did.
    down: tuple[Policy, ...] = (Policy("Percent", 10, 60), Policy("Pods", 1, 60))
    up_window_s: int = 0
    down_window_s: int = 300
    tolerance: float = TOLERANCE


def wanted(metric: float, target: float, ready: int, starting: int, tolerance: float = TOLERANCE) -> int:
    """Pods that a metric asks for; `metric` is its mean over the ready pods, the others have none yet.

    >>> wanted(8, 4, 2, 0), wanted(4.3, 4, 2, 0), wanted(1, 4, 4, 0), wanted(8, 4, 2, 2)
    (4, 2, 1, 4)
    """
    pods = ready + starting
    ratio = metric / target
    if ready == 0 or abs(ratio - 1) <= tolerance:
        return pods
    if not starting:
        return math.ceil(ratio * ready - EPSILON)
    whole = (metric * ready + (target * starting if ratio < 1 else 0.0)) / pods / target
    if abs(whole - 1) <= tolerance or (whole > 1) != (ratio > 1):
        return pods
    asked = math.ceil(whole * pods - EPSILON)
    return pods if (asked < pods) == (whole > 1) else asked


@dataclass
class Autoscaler:
    """The controller between two looks: what it recommended, and what it changed, by time."""

    behavior: Behavior
    recommended: list[tuple[float, int]] = field(default_factory=list)
    changed: list[tuple[float, int]] = field(default_factory=list)  # pods that were added, or taken when below zero

    def look(self, now: float, pods: int, asked: int) -> int:
        """Pods there should be from now on."""
        own = self.behavior
        self.recommended.append((now, asked))
        oldest = now - max(own.up_window_s, own.down_window_s)
        self.recommended = [one for one in self.recommended if one[0] >= oldest]
        lowest = min(count for when, count in self.recommended if when >= now - own.up_window_s)
        highest = max(count for when, count in self.recommended if when >= now - own.down_window_s)
        steady = min(max(pods, lowest), highest)
        found = max(own.least, min(own.most, self._limited(now, pods, steady)))
        if found != pods:
            self.changed.append((now, found - pods))
        return found

    def _limited(self, now: float, pods: int, steady: int) -> int:
        """As far as the fastest policy lets it go; what was done in its period counts."""
        if steady == pods:
            return pods
        up = steady > pods
        ends = []
        for policy in self.behavior.up if up else self.behavior.down:
            began = pods - sum(count for when, count in self.changed if when > now - policy.period_s)
            step = policy.value if policy.kind == "Pods" else began * policy.value / 100
            ends.append(math.ceil(began + step - EPSILON) if up else math.floor(began - step + EPSILON))
        if not ends:
            return steady
        return max(pods, min(steady, max(ends))) if up else min(pods, max(steady, min(ends)))


@dataclass(frozen=True)
class Cluster:
    """What a load meets: a pod's curve, how many requests it takes at once, where it misses its objective."""

    points: tuple[Point, ...]
    slots: int  # more than so many wait in a pod
    knee: float  # more under way than so many miss the objective
    target: float
    start_s: float  # from the decision until a pod is ready
    behavior: Behavior


@dataclass(frozen=True)
class Replay:
    """What a load got and what that took."""

    requests: float
    missed: float  # that came while pods had more than their knee
    flaps: int  # times that pods were added less than FLAP_S after some had been taken away
    replica_seconds: float  # of pods that were paid for, started or not
    most: int  # pods at once

    @property
    def missed_share(self) -> float:
        """Share of the requests that missed the objective."""
        return self.missed / self.requests if self.requests else 0.0


@dataclass
class Pods:
    """Pods that answer, and those that start, by when they will."""

    ready: int
    starting: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        """All of them, as they are paid for."""
        return self.ready + len(self.starting)

    def begin(self, now: float) -> None:
        """Let those answer whose start is over."""
        self.ready += sum(1 for when in self.starting if when <= now)
        self.starting = [when for when in self.starting if when > now]

    def become(self, count: int, until: float) -> None:
        """Start some, ready at `until`, or end some: those first that do not answer yet."""
        more = count - self.count
        if more >= 0:
            self.starting += [until] * more
            return
        kept = max(0, len(self.starting) + more)
        self.ready = count - kept
        self.starting = self.starting[:kept]


def replay(load: Sequence[float], cluster: Cluster) -> Replay:
    """Lead a load, requests per second in each second, through pods and their autoscaler.

    Requests flow as a liquid, spread evenly over the ready pods. The autoscaler sees what was under way, and what
    waited, one scrape ago, and takes the larger of what both ask for, as with two metrics that have one target.
    """
    own, pods = cluster.behavior, Pods(cluster.behavior.least)
    scaler, inside, scraped = Autoscaler(own), 0.0, (0.0, 0.0)
    requests = missed = paid = 0.0
    flaps, most, taken = 0, own.least, -math.inf
    for second, rate in enumerate(load):
        pods.begin(second)
        a_pod = inside / pods.ready
        if second % SYNC_S == 0:
            before = pods.count
            asked = max(wanted(one, cluster.target, pods.ready, len(pods.starting), own.tolerance) for one in scraped)
            pods.become(scaler.look(second, before, asked), second + cluster.start_s)
            flaps += pods.count > before and second - taken < FLAP_S
            taken = second if pods.count < before else taken
            scraped = (min(a_pod, cluster.slots), max(0.0, a_pod - cluster.slots))
            a_pod = inside / pods.ready
        inside = max(0.0, inside + rate - pods.ready * served(cluster.points, min(a_pod, cluster.slots)))
        late = a_pod > cluster.knee + EPSILON
        requests, missed, paid = requests + rate, missed + rate * late, paid + pods.count
        most = max(most, pods.count)
    return Replay(requests, missed, flaps, paid, most)


def promised(cluster: Cluster, growth_per_min: float, hold_s: int = 900) -> list[float]:
    """The load that a target is derived for: it grows as fast as was promised, stays, and is gone at once.

    Growth is a share of what the pods that the load needs do at their knee.
    """
    a_pod = served(cluster.points, cluster.target)
    growth = growth_per_min / 60 * served(cluster.points, cluster.knee) / a_pod
    low, high = 0.8 * cluster.behavior.least * a_pod, 0.8 * cluster.behavior.most * a_pod
    load = [low] * hold_s
    while load[-1] * (1 + growth) < high and growth > 0:
        load.append(load[-1] * (1 + growth))
    return [*load, *[load[-1]] * hold_s, *[low] * hold_s]


def proven(target: Target, cluster: Cluster, growth_per_min: float) -> tuple[Target, Replay]:
    """A target that also keeps the objective in a replay of the load it was derived for, lowered until it does.

    Requests under way grow faster than the load near the knee, and the controller leaves its tolerance unused: so the
    formula alone may be too high. Where no target keeps the objective, the one that misses least, which is said.
    """
    tried: list[tuple[Target, Replay]] = []
    for percent in range(100, 25, -5):
        value = math.floor(10 * percent * target.value) / 1000
        one = replace(cluster, target=value)
        found = replay(promised(one, growth_per_min), one)
        tried.append((Target(value, target.why), found))
        if found.missed_share <= MISSED and not found.flaps:
            break
    best, found = min(tried, key=lambda one: (max(one[1].missed_share, MISSED), one[1].flaps, -one[0].value))
    lowered = "" if best.value == target.value else f" Lowered to {best.value:g}, for by the formula alone "
    lowered += f"{tried[0][1].missed_share:.1%} would miss it, with {tried[0][1].flaps} flaps." if lowered else ""
    said = (
        f" Replayed: of a load that grows as promised from {cluster.behavior.least} to {found.most} pods, "
        f"{found.missed_share:.1%} of the requests miss the objective, with {found.flaps} flaps."
    )
    return Target(best.value, f"{target.why}{lowered}{said}"), found
