"""A listening socket that outlives the process: held by whoever starts it, and handed over as systemd does.

The protocol is that of sd_listen_fds(3): LISTEN_PID names the process it is meant for, LISTEN_FDS says how many sockets
there are, and the first of them is descriptor 3. A process that is killed closes only its own hold of the socket:
callers wait in its backlog until the next process takes it over, and none is refused.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence

from tasks.errors import ConfigError, ResourceError

FIRST = 3  # the descriptor of the first socket
BACKLOG = 2048
NAMES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def listener(host: str, port: int) -> socket.socket:
    """The socket to serve at: the one that was handed over, else one of our own.

    Raises ConfigError for what was handed over and is no listening TCP socket, ResourceError for an address that cannot
    be had.
    """
    return inherited() or bound(host, port)


def is_handed() -> bool:
    """Whether whoever started this process handed it a socket."""
    return os.environ.get("LISTEN_PID") == str(os.getpid())


def inherited() -> socket.socket | None:
    """The socket that was handed to this process, None where none was; it is taken once.

    What this process starts does not inherit it. Raises ConfigError for anything but one listening TCP socket.
    """
    if not is_handed():
        return None
    count = os.environ.get("LISTEN_FDS", "")
    for name in NAMES:
        os.environ.pop(name, None)
    if count != "1":
        raise ConfigError(f"{count or 'no'} sockets were handed over (LISTEN_FDS); give one ListenStream= alone")
    try:
        os.set_inheritable(FIRST, False)
        taken = socket.socket(fileno=FIRST)
        listens = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ConfigError(f"descriptor {FIRST}, which was handed over as a socket, is none: {error}") from error
    if taken.family not in (socket.AF_INET, socket.AF_INET6) or taken.type != socket.SOCK_STREAM or not listens:
        state = "listening" if listens else "not listening"
        raise ConfigError(
            f"descriptor {FIRST} is {taken.family.name} {taken.type.name}, {state}; "
            "hand over a listening TCP socket, as ListenStream=127.0.0.1:8080 makes it"
        )
    return taken


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; raises ResourceError for one that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ResourceError(
            f"cannot listen at {host}:{port}: {error}; PORT= names another port (0: any free one)"
        ) from error


def handed(held: socket.socket, command: Sequence[str]) -> int:
    """Start a command that is handed the socket; returns its process id, which the caller waits for.

    A fork and an exec of our own: LISTEN_PID is known only once the process is there.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        if held.fileno() != FIRST:
            os.dup2(held.fileno(), FIRST)
        os.set_inheritable(FIRST, True)
        for number in (signal.SIGTERM, signal.SIGINT):  # the parent's handlers are of no use here, nor what it blocks
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(command[0], list(command), {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})  # noqa: S606
    finally:
        os._exit(127)  # exec failed: this is a copy of the parent, which must not go on
