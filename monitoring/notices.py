"""Telling people: events of one window in one message, so many messages an hour, the others together and later.

Addresses are Apprise's (mailto://, json://, slack:// and many more) and come from environment variables, as they hold
secrets; params.yaml names the variables. The log is always told.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence

from monitoring.judge.alerts import Event
from tasks.errors import ConfigError
from tasks.records.base import Record

LOG = logging.getLogger("edgewright.monitor")
HOUR_S = 3600.0
NAMED = 10  # events that one message tells one by one

Send = Callable[[str, str], bool]  # title, text; whether it arrived


class Outbox(Record):
    """What was sent when, and what waits."""

    sent: tuple[float, ...] = ()
    waiting: tuple[str, ...] = ()
    dropped: int = 0  # events beyond those that a message names


def lines(events: Sequence[Event]) -> tuple[str, ...]:
    """A line for each event, the graver first, the same one once."""
    ordered = sorted(events, key=lambda event: (event.kind == "over", event.alert.severity != "page"))
    words = {"fires": "FIRES", "over": "over"}
    made = (
        f"{words[event.kind]} [{event.alert.severity}] {event.alert.name}, version {event.alert.version or '-'}: "
        f"{event.alert.said}" + (f". Do: {event.alert.runbook}" if event.kind == "fires" else "")
        for event in ordered
    )
    return tuple(dict.fromkeys(made))


def post(outbox: Outbox, news: Sequence[str], now: float, per_hour: int, send: Send) -> Outbox:
    """Send what is new and what waits in one message, unless the hour has had its messages; what fails waits."""
    recent = tuple(when for when in outbox.sent if now - when < HOUR_S)
    waiting = tuple(dict.fromkeys((*outbox.waiting, *news)))
    if not waiting:
        return Outbox(sent=recent)
    if len(recent) >= per_hour:
        kept = waiting[:NAMED]
        return Outbox(sent=recent, waiting=kept, dropped=outbox.dropped + len(waiting) - len(kept))
    more = len(waiting) - NAMED + outbox.dropped
    text = "\n".join((*waiting[:NAMED], *((f"and {more} more",) if more > 0 else ())))
    if send(f"Edgewright: {waiting[0].split(':')[0]}", text):
        return Outbox(sent=(*recent, now))
    return Outbox(sent=recent, waiting=waiting[:NAMED], dropped=max(0, more))


def sender(variables: Sequence[str]) -> Send:
    """The log, and every address that the variables hold; raises ConfigError for one that is no address."""
    import apprise

    apprise.logger.setLevel(logging.ERROR)
    box = apprise.Apprise()
    for name in variables:
        for address in os.environ.get(name, "").split():
            if not box.add(address):
                raise ConfigError(
                    f"{name} holds an address that is not understood; Apprise's are e.g. mailto://user:password@host, "
                    "json://host/path for a webhook"
                )

    def send(title: str, text: str) -> bool:
        LOG.warning("%s", json.dumps({"title": title, "text": text}))
        return bool(box.notify(title=title, body=text)) if len(box) else True

    return send
