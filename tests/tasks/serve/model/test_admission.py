"""Places for requests, in the order in which they were asked for."""

from __future__ import annotations

import asyncio

import pytest

from tasks.serve.model.admission import Admission, QueueFullError


def test_places_are_given_in_order_and_none_is_lost() -> None:
    async def story() -> list[int]:
        admission, given = Admission(2, 3), []

        async def guest(number: int) -> None:
            await admission.take(5.0)
            given.append(number)

        await admission.take(5.0)
        await admission.take(5.0)
        guests = [asyncio.create_task(guest(number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await admission.take(5.0)
        guests[1].cancel()  # leaves the queue
        await asyncio.sleep(0)
        assert admission.waiting == 2
        admission.leave()
        guests[0].cancel()  # was given a place in this very moment
        await asyncio.sleep(0.01)
        assert admission.taken == 2  # which went to the next
        admission.leave()
        admission.leave()
        assert admission.taken == 0
        await admission.take(5.0)
        await admission.take(5.0)
        with pytest.raises(TimeoutError):
            await admission.take(0.01)
        assert admission.waiting == 0
        return given

    assert asyncio.run(story()) == [2]
