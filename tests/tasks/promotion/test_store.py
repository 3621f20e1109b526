"""The router's folder: orders, answers, and a state that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ResourceError
from tasks.promotion.command import status
from tasks.promotion.rollout import Slot, State
from tasks.promotion.store import Store


def test_orders_wait_for_a_router_and_are_answered(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ResourceError, match="has not answered"):
        store.give("rollback", "ann", "why", patience_s=0.1)
    waiting = store.waiting()
    assert waiting is not None and waiting.action == "rollback"
    with pytest.raises(ResourceError, match="another order waits"):
        store.give("rollback", "ann", "why", patience_s=0.1)
    store.answer(waiting, False, "no")
    assert store.waiting() is None
    with store.held():
        assert store.runs()
        with pytest.raises(ResourceError, match="a router is at work already"), store.held():
            pass
    assert not store.runs()
    assert status(store)[0].startswith("no router is at work; idle")


def test_a_state_of_another_form_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(State(blue=Slot(version="1")))
    assert store.state().blue.version == "1"
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]
