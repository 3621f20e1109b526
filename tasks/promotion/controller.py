"""The router's other side: orders in, slots kept alive, evidence judged, the registry told. One look after another.

Everything it decides is in `rollout` and `judge`; what it decided is on the disk before it acts, and each action can be
done again. So a controller that is killed anywhere goes on from the file.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from tasks.errors import ConfigError, EdgewrightError
from tasks.params.serving import Promotion, more_errors
from tasks.promotion import rollout
from tasks.promotion.asking import form_of
from tasks.promotion.evidence import Evidence, Kind, counted
from tasks.promotion.judge import Arm, Judgement, Margins, breach, judge, least_requests
from tasks.promotion.pairs import View
from tasks.promotion.registrar import Registrar
from tasks.promotion.rollout import OTHER, Slot, State, Times
from tasks.promotion.router import Router
from tasks.promotion.slots import Server
from tasks.promotion.staging import staged
from tasks.promotion.store import Order, Store, Transition, note
from tasks.records.lines import now as moment

LOG = logging.getLogger("edgewright.router")
GROWTH = 1.5  # from one look at a step's evidence to the next
SAMPLE = 500  # times of a phase that are kept in the state
FAILED_S = 2.0  # after the registry, or the disk, did not do its part


class Controller:
    """Moves one rollout on."""

    def __init__(
        self, store: Store, servers: dict[rollout.Color, Server], evidence: Evidence, registrar: Registrar,
        settings: Promotion, model: str,
    ) -> None:  # fmt: skip
        """Take up the state that is on the disk."""
        self._store, self.servers, self._evidence, self._registrar = store, servers, evidence, registrar
        self._settings, self._model = settings, model
        self.state = store.state()
        self.closing = False
        self.said = self._told = ""  # what it waits for, in words; and what of that is in the file
        self._looked = 0  # at the evidence of this step, how often
        self._staging: asyncio.Task[Judgement] | None = None
        self._memory_mb: float | None = None  # of the challenger when it was staged
        self._reconciled = 0.0

    def view(self) -> View:
        """The state and the slots that the router goes by."""
        return View(self.state, self.servers)

    async def run(self, router: Router) -> None:
        """Look until told to stop."""
        await self._resume()
        while not self.closing:
            try:
                await self.look(router)
            except EdgewrightError as problem:
                LOG.error("%s", problem)
                self.said = str(problem)
                await asyncio.sleep(FAILED_S)
            except Exception:  # whatever it was, the traffic must stay in somebody's hands
                LOG.exception("a look failed; the next follows")
            await asyncio.sleep(self._settings.tick_s)

    async def _resume(self) -> None:
        """Find the servers of a router before this one; a challenger that did not survive is rolled back."""
        for color, server in self.servers.items():
            slot = self.state.slot(color)
            staged = self.state.phase != "staging" or color == self.state.champion
            found = await asyncio.to_thread(server.find, slot, staged) if slot.version else False
            if not found and color == self.state.challenger and self.state.phase in ("shadow", "ramp", "ab"):
                await self._set(rollout.roll_back(self.state, "its process did not outlive the router", time.time()))

    async def look(self, router: Router) -> None:
        """Look once at orders, slots and evidence, and act on them."""
        await self._orders()
        await self._slots(router)
        await self._judged(router)
        await self._world(router)
        if self.said != self._told:
            self._told = self.said
            self._store.tell(self.said)

    # -- orders --------------------------------------------------------------------------------------------------------

    async def _orders(self) -> None:
        order = self._store.waiting()
        if order is None:
            return
        if order.id == self.state.order:  # carried out, and killed before it was said
            self._store.answer(order, True, self.state.reason)
            return
        try:
            wanted = await self._ordered(order)
        except EdgewrightError as problem:
            self._store.answer(order, False, str(problem))
            return
        await self._set(wanted.model_copy(update={"order": order.id, "who": order.who}))
        self._store.answer(order, True, self.state.reason)

    async def _ordered(self, order: Order) -> State:
        if order.action == "rollback":
            return rollout.roll_back(self.state, order.why, time.time())
        if order.action == "release":
            return rollout.release(self.state, time.time())
        slot = await self._wanted(order.slot)
        if order.action == "repair":
            return rollout.deploy(self._ramped(), slot, time.time(), "repair")
        if not 0 < order.share <= 100:
            raise ConfigError(f"a share of {order.share:g}% is not one: above 0, at most 100")
        goal: rollout.Goal = "ab" if order.action == "ab" else "promote"
        return rollout.deploy(self._ramped(), slot, time.time(), goal, order.share)

    async def _wanted(self, slot: Slot) -> Slot:
        """The whole of what an order names in part."""
        if slot.package:
            return slot
        if not slot.version:
            return self.state.slot(self.state.champion).model_copy(update={"options": slot.options})
        return (await self._registrar.locate(slot.version)).model_copy(update={"options": slot.options})

    def _ramped(self) -> State:
        """The state with the steps that the parameters say; a ramp under way keeps its own."""
        idle = self.state.phase == "idle"
        return self.state.model_copy(update={"shares": self._settings.shares}) if idle else self.state

    # -- servers -------------------------------------------------------------------------------------------------------

    async def _slots(self, router: Router) -> None:
        state = self.state
        for color, server in self.servers.items():
            wanted = state.slot(color)
            if server.slot.version and server.slot != wanted:
                await server.stop()
            if not wanted.version:
                continue
            if not server.alive and not self._breaks(color):
                server.start(wanted)
        await asyncio.gather(*(one.look(router.client) for one in self.servers.values() if one.slot.version))
        await self._broken()

    def _breaks(self, color: rollout.Color) -> bool:
        """Whether a server that is gone in this slot is the challenger's breach, and is not started again."""
        server, on_trial = self.servers[color], color == self.state.challenger and self.state.phase in ON_TRIAL
        return on_trial and server.slot.version != "" and (server.ever_ready or self.state.phase != "staging")

    async def _broken(self) -> None:
        """A challenger that is gone, stays away, never comes or grows is rolled back."""
        state = self.state
        color = state.challenger if state.slot(state.challenger).version else state.champion
        first = color == state.champion
        if state.phase not in ON_TRIAL or (first and state.phase != "staging"):
            return
        server, settings = self.servers[color], self._settings
        away = time.monotonic() - server.unready_since
        why = ""
        if server.ever_ready and not server.alive:
            why = server.why_not
        elif server.ever_ready and not server.ready and away > settings.max_unready_s:
            why = f"not ready for {away:.0f} s: {server.why_not}"
        elif not server.ever_ready and (away > settings.max_start_s or server.starts > 3):
            why = f"never ready within {away:.0f} s and {server.starts} starts: {server.why_not}"
        elif self._memory_mb and state.phase != "staging":
            memory = server.memory_mb()
            if memory is not None and memory > settings.max_memory_ratio * self._memory_mb:
                why = f"it takes {memory:.0f} MB, {self._memory_mb:.0f} MB when it was staged"
        if why:
            await self._set(rollout.advance(state, Judgement("fail", {"server": "fail"}, (why,)), time.time()))

    # -- verdicts ------------------------------------------------------------------------------------------------------

    async def _judged(self, router: Router) -> None:
        state = self.state
        if state.phase == "staging":
            await self._staged()
        elif state.phase in ("shadow", "ramp", "ab"):
            if not self.servers[state.champion].ready:
                self.said = "held: the champion is not ready, there is nothing to compare with"
                return
            if self._memory_mb is None:
                self._memory_mb = self.servers[state.challenger].memory_mb()
            self._evidence.refresh()
            await self._weighed(router)

    async def _staged(self) -> None:
        state = self.state
        color = state.challenger if state.slot(state.challenger).version else state.champion
        server = self.servers[color]
        if not server.ready or server.address is None:
            self.said = f"waits for version {state.slot(color).version}: {server.why_not}"
            return
        if self._staging is None:
            self.said = f"version {state.slot(color).version} is checked"
            self._staging = asyncio.create_task(
                staged(server.address.base, server.address.name, form_of(server.slot.package))
            )
        if self._staging.done():
            found, self._staging = self._staging.result(), None
            self._memory_mb = server.memory_mb()
            await self._set(rollout.advance(state, found, time.time()))

    async def _weighed(self, router: Router) -> None:
        """Look at the evidence when there is as much more of it as a look needs; breaches at once."""
        state = self.state
        baseline, canary, real = self.arms()
        margins = self._margins()
        found = breach(baseline, canary, margins)
        enough = max(self._settings.min_requests, least_requests(margins.max_more_errors, self._settings.max_looks))
        need = round(enough * GROWTH**self._looked)
        least = round(self._settings.min_caller_share * need)
        # Of the old version enough to compare with will do: at 100% it is asked by mirrors and probes alone.
        few = canary.requests < need or baseline.requests < self._settings.min_requests
        if found is None and (few or real < least):
            if few:
                for _ in range(max(1, round(self._settings.probes_per_s * self._settings.tick_s))):
                    router.pairs.probe()
            self.said = (
                f"{canary.requests} of {need} requests, {real} of {least} from callers; "
                f"{baseline.requests} of the old version"
            )
            return
        if found is None:
            self._looked += 1
            found = judge(baseline, canary, margins, self._settings.max_looks)
        self.said = f"{found.outcome}: {'; '.join(found.reasons)}"
        if found.outcome == "inconclusive" and self._looked >= self._settings.max_looks and state.phase != "ab":
            why = f"not shown to be as good in {canary.requests} requests: {'; '.join(found.reasons)}"
            found = Judgement("fail", found.measures, (why,))
        after = rollout.advance(state, found, time.time())
        if state.phase == "shadow" and after.share > 0:
            after = after.model_copy(update={"carried": self._carried()})
        if after == state and state.phase == "ab":
            await self._note(state, state, self.said, counted(baseline, canary, real))
        await self._set(after, counted(baseline, canary, real))

    def arms(self) -> tuple[Arm, Arm, int]:
        """What old and new version showed since this phase or step began, and how much of the new is from callers."""
        state = self.state
        champion, challenger = (state.slot(color).version for color in (state.champion, state.challenger))
        kinds: Sequence[Kind] = ("mirror", "probe") if state.phase == "shadow" else ("live", "mirror", "probe")
        theirs: Kind = "mirror" if state.phase == "shadow" else "live"
        real = self._evidence.arm(challenger, state.since, (theirs,)).requests
        old, new = (self._evidence.arm(version, state.since, kinds) for version in (champion, challenger))
        new = replace(new, confidence=self._evidence.confidences(champion, challenger, state.since))
        if state.share >= 100.0:
            # The old version has no callers left, and a server without any is quick: its times are those of the shadow
            # phase, when it had all of them. The machine may have been another then, so more is allowed (`_margins`).
            old = replace(old, first_ms=state.carried.first_ms, between_ms=state.carried.between_ms)
        return old, new, real

    def _carried(self) -> Times:
        """The champion's times while it had all callers, the latest of them: they outlive what memory holds."""
        alone = self._evidence.arm(self.state.slot(self.state.champion).version, self.state.since, ("live",))
        return Times(first_ms=tuple(alone.first_ms[-SAMPLE:]), between_ms=tuple(alone.between_ms[-SAMPLE:]))

    def _margins(self) -> Margins:
        settings = self._settings
        writes = form_of(self.state.slot(self.state.champion).package) == "generation"
        asked = Margins(
            min_requests=settings.min_requests,
            max_latency_ratio=settings.max_latency_ratio,
            first_token_grace_ms=settings.first_token_grace_ms,
            max_confidence_drop=settings.max_confidence_drop,
            min_agreement=settings.min_agreement if writes else settings.min_likeness,
            writes=writes,
        )
        if self.state.share >= 100.0:
            asked = replace(asked, max_latency_ratio=2 * asked.max_latency_ratio)
        # In the shadow nobody is answered yet: as many failures as the smallest share may have.
        return replace(asked, max_more_errors=more_errors(1.0 if self.state.phase == "shadow" else self.state.share))

    # -- the world -----------------------------------------------------------------------------------------------------

    async def _world(self, router: Router) -> None:
        """Let the registry follow what was decided, and set it right where somebody else moved it."""
        state = self.state
        champion, challenger = state.slot(state.champion).version, state.slot(state.challenger).version
        if state.phase == "promote":
            new = challenger or champion
            await self._registrar.settle(new, state.goal == "back", state.who or "router", state.reason[:500])
            await self._set(rollout.finish(state, new, time.time()))
            self._reconciled = time.monotonic()
        elif state.phase == "rollback":
            stays = champion if challenger else ""
            if stays and await self._registrar.champion() != stays:
                await self._registrar.settle(stays, True, state.who or "router", state.reason[:500])
            leaving = self.servers[state.leaving]
            await self._set(rollout.finish(state, stays, time.time()))
            await leaving.stop()
        elif state.phase == "idle" and champion and time.monotonic() - self._reconciled > self._settings.reconcile_s:
            self._reconciled = time.monotonic()
            await self._reconcile(champion)

    async def _reconcile(self, champion: str) -> None:
        """An alias that somebody moved goes back to what serves, and what was wanted begins as any other version."""
        named = await self._registrar.champion()
        if named == champion:
            return
        LOG.warning("the registry's champion is version %s, version %s serves", named or "none", champion)
        why = f"version {champion} serves; version {named or 'none'} was named by hand and has to come by the ramp"
        await self._registrar.settle(champion, True, "router", why)
        if named:
            await self._set(rollout.deploy(self._ramped(), await self._registrar.locate(named), time.time()))

    async def _set(self, state: State, evidence: dict[str, int | float | None] | None = None) -> None:
        """On the disk first, then in the book, then in force."""
        before = self.state
        if state == before:
            return
        self._store.save(state)
        self.state, self.said = state, ""
        if (state.phase, state.step) != (before.phase, before.step):
            self._looked = 0
            if state.phase == "staging" or state.phase == "idle":
                self._memory_mb = None
            if state.phase != "staging" and self._staging is not None:
                self._staging.cancel()
                self._staging = None
        await self._note(before, state, state.reason, evidence or {})

    async def _note(self, before: State, after: State, why: str, evidence: dict[str, int | float | None]) -> None:
        line = Transition(
            when=moment(), who=after.who or "router", model=self._model, before=before.phase, after=after.phase,
            share=after.share, champion=after.slot(after.champion).version,
            challenger=after.slot(after.challenger).version, why=why, evidence=evidence,
        )  # fmt: skip
        LOG.info("%s -> %s (%g%%): %s", line.before, line.after, line.share, line.why)
        try:
            await asyncio.to_thread(note, line)
        except EdgewrightError as problem:
            LOG.error("%s", problem)


ON_TRIAL = ("staging", "shadow", "ramp", "ab")


def first(store: Store, slot: Slot) -> None:
    """Begin a router that never served with `slot`; one that did goes on with what it has."""
    state = store.state()
    if not any(state.slot(color).version for color in OTHER):
        store.save(rollout.deploy(state, slot, time.time()))
