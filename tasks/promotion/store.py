"""What survives the router: its state, the orders it was given, and every transition with its evidence."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from tasks.errors import ConfigError, DataError, ResourceError
from tasks.promotion.rollout import Color, Phase, Slot, State
from tasks.records import lines
from tasks.records.base import Record
from tasks.serve.address import Address

FOLDER = Path("artifacts/serve")
TRANSITIONS = lines.OWN / "rollouts.jsonl"
Action = Literal["deploy", "ab", "rollback", "repair", "release"]
PATIENCE_S = 15.0  # for the router to answer an order


class Order(Record):
    """A wish that somebody has of the router."""

    id: str
    action: Action
    slot: Slot = Slot()  # of a repair without a version: the champion, run in another way
    share: float = 50.0  # percent, of an A/B test
    who: str
    why: str


class Reply(Record):
    """Outcome of an order."""

    id: str
    accepted: bool
    said: str


class Transition(Record):
    """One line of the book: from where to where, why, and what was counted."""

    when: str  # UTC, ISO 8601
    who: str
    model: str
    before: Phase
    after: Phase
    share: float  # percent of the traffic that the new version has from now on
    champion: str
    challenger: str
    why: str
    evidence: dict[str, int | float | None]


class Waiting(Record):
    """The controller's reason to wait, in words."""

    said: str


class Store:
    """The files of one router."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Files are made when they are written."""
        self.folder = folder

    @property
    def state_file(self) -> Path:
        """The state."""
        return self.folder / "state.json"

    @property
    def order_file(self) -> Path:
        """The order that waits."""
        return self.folder / "order.json"

    @property
    def reply_file(self) -> Path:
        """The answer to the last order."""
        return self.folder / "reply.json"

    def address_file(self, color: Color) -> Path:
        """Written by a slot's server once it listens."""
        return self.folder / color / "address.json"

    def state(self) -> State:
        """The state; a router that never ran is idle and empty."""
        return State.read(self.state_file) if self.state_file.exists() else State()

    def save(self, state: State) -> None:
        """Replace the state, whole or not at all."""
        state.write(self.state_file)

    def address(self, color: Color) -> Address | None:
        """Read where a slot listens; None where nothing does, or did."""
        try:
            return Address.read(self.address_file(color))
        except DataError:
            return None

    def tell(self, said: str) -> None:
        """Replace what the controller waits for."""
        Waiting(said=said).write(self.folder / "waiting.json")

    def told(self) -> str:
        """Say what the controller waits for; empty when nothing is."""
        try:
            return Waiting.read(self.folder / "waiting.json").said
        except DataError:
            return ""

    def waiting(self) -> Order | None:
        """The order that waits."""
        try:
            return Order.read(self.order_file) if self.order_file.exists() else None
        except DataError:
            self.order_file.unlink(missing_ok=True)
            raise

    def answer(self, order: Order, accepted: bool, said: str) -> None:
        """Tell who gave the order, and forget it."""
        Reply(id=order.id, accepted=accepted, said=said).write(self.reply_file)
        self.order_file.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one router of this folder; raises ResourceError when another is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "router.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ResourceError(
                f"a router is at work already ({self.folder}/router.lock is held); stop that one"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def runs(self) -> bool:
        """Tell whether a router is at work on this folder."""
        if not (self.folder / "router.lock").exists():
            return False
        try:
            with FileLock(self.folder / "router.lock", timeout=0):
                return False
        except Timeout:
            return True

    def give(
        self, action: Action, who: str, why: str, slot: Slot | None = None,
        share: float = 50.0, patience_s: float = PATIENCE_S,
    ) -> str:  # fmt: skip
        """Give an order and wait for the router's answer; raises ConfigError when it is refused."""
        order = Order(id=uuid.uuid4().hex, action=action, slot=slot or Slot(), share=share, who=who, why=why)
        if self.order_file.exists():
            raise ResourceError(f"another order waits in {self.order_file}; try again")
        order.write(self.order_file)
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            reply = self._reply()
            if reply is not None and reply.id == order.id:
                if not reply.accepted:
                    raise ConfigError(reply.said)
                return reply.said
            time.sleep(0.05)
        raise ResourceError(
            f"the router has not answered within {patience_s:g} s; the order waits in {self.order_file} and is carried "
            "out when a router runs (`make route`), unless that file is deleted"
        )

    def _reply(self) -> Reply | None:
        try:
            return Reply.read(self.reply_file)
        except DataError:
            return None


def note(transition: Transition, book: Path = TRANSITIONS) -> None:
    """Add a transition to the book."""
    lines.append(book, transition)


def transitions(book: Path = TRANSITIONS) -> list[Transition]:
    """Every whole line, the oldest first."""
    return lines.entries(book, Transition)[0]
