"""On which device an artifact is opened: the one its settings name, and the processor where that cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from tasks.backends.base import Settings
from tasks.backends.placing import AUTO, first_line, why
from tasks.records.placement import Fallback

DEVICE = "device"  # the setting: a device as the runtime names it; without it, the processor
PROCESSOR = "CPU"

T = TypeVar("T")


def device_of(settings: Settings | None) -> str:
    """The device that settings name.

    >>> device_of({"device": "GPU"}), device_of(None)
    ('GPU', 'CPU')
    """
    return (settings or {}).get(DEVICE, PROCESSOR)


def on(settings: Settings, device: str) -> dict[str, str]:
    """Settings for another device than theirs: `auto` leaves them as they are, `cpu` takes the device out.

    >>> on({"device": "GPU", "threads": "half"}, "cpu"), on({}, "NPU"), on({"device": "GPU"}, "auto")
    ({'threads': 'half'}, {'device': 'NPU'}, {'device': 'GPU'})
    """
    if device == AUTO:
        return dict(settings)
    rest = {name: value for name, value in settings.items() if name != DEVICE}
    return rest if device.upper() == PROCESSOR else rest | {DEVICE: device}


class Opened(NamedTuple, Generic[T]):
    """What was opened, the settings that it has, and why it is not on the device that was asked for."""

    made: T
    settings: Settings
    fallback: Fallback | None = None


def opened(settings: Settings, open_with: Callable[[Settings], T]) -> Opened[T]:
    """What `open_with` opens on the settings' device; or on the processor, and why the device is not used.

    A runtime may raise anything where a library, a driver or the device is not there, or does not compile the model. On
    the processor an error is an error.
    """
    device = device_of(settings)
    try:
        return Opened(open_with(settings), settings)
    except Exception as error:  # the reason is told, whatever it is
        if device == PROCESSOR:
            raise
        told = Fallback(asked=device, used=PROCESSOR, kind=why(str(error)), reason=first_line(error))
    own = on(settings, PROCESSOR)
    return Opened(open_with(own), own, told)
