"""Free TCP ports on loopback for private servers.

Taken below the kernel's ephemeral range: a port that the kernel handed out and took back could become the source port
of any outgoing connection before the server binds it, or while the server restarts.
"""

from __future__ import annotations

import contextlib
import random
import socket
from functools import cache

from cluster.local.errors import LocalServiceError

LOWEST = 15_000
HIGHEST = 31_999
TRIES = 200


@cache
def _choice() -> random.Random:
    """A generator of our own: tests that seed the global one must not all try the same ports."""
    return random.SystemRandom()


_given: set[int] = set()


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on and that this process was not given before."""
    for _ in range(TRIES):
        port = _choice().randint(LOWEST, HIGHEST)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise LocalServiceError(f"no free port between {LOWEST} and {HIGHEST} on 127.0.0.1")


def is_free(port: int) -> bool:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port in TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def answers(port: int, timeout_s: float = 1.0) -> bool:
    """Whether something accepts connections on this loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=timeout_s).close()
    except OSError:
        return False
    return True
