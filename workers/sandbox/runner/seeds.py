"""Makes copies of one snapshot different: every generator of random numbers that an import seeded is seeded again.

Called by `service` at the first frame of a new host epoch and on request. What cannot be changed in a live process:
the seed of string hashes (the order of sets of strings is the same in all copies, and whoever knows the image may
provoke collisions), where things lie in memory, and generators that code made and keeps (`numpy.random.default_rng()`,
an open connection of DuckDB). The kernel's own (`os.urandom`, `secrets`, `uuid4`) never repeat. To add a library: a
function in RESEEDED and a line in tests/sandbox/test_twins.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any


def reseed(entropy: bytes) -> None:
    """`entropy` comes from the host; the kernel's own is mixed in, so that neither alone decides."""
    seed = hashlib.sha512(entropy + os.urandom(64)).digest()
    random.seed(int.from_bytes(seed, "big"))
    for name, again in RESEEDED.items():
        module = sys.modules.get(name)
        if module is not None:
            # The code may have put anything in place of a module: then that is what it gets.
            with contextlib.suppress(Exception):
                again(module, hashlib.sha512(seed + name.encode()).digest())
    time.tzset()


def _numpy(module: Any, seed: bytes) -> None:
    module.seed([int.from_bytes(seed[start : start + 4], "big") for start in range(0, len(seed), 4)])


def _polars(module: Any, seed: bytes) -> None:
    module.set_random_seed(int.from_bytes(seed[:7], "big"))


def _torch(module: Any, seed: bytes) -> None:
    module.manual_seed(int.from_bytes(seed[:7], "big"))


def _ssl(module: Any, seed: bytes) -> None:
    """OpenSSL's generator is in the saved memory and would give every copy the same keys."""
    module.RAND_add(seed, float(len(seed)))


def _tempfile(module: Any, _seed: bytes) -> None:
    module._name_sequence = None  # the next name makes a new generator


def _uuid(module: Any, seed: bytes) -> None:
    """uuid1: another node, and the clock of this process instead of the C library's, which every copy shares."""
    module._node = int.from_bytes(seed[:6], "big") | 1 << 40  # the bit that says: no network card's address
    module._last_timestamp = None
    module._generate_time_safe = None


RESEEDED: dict[str, Callable[[Any, bytes], None]] = {
    "numpy.random": _numpy,
    "polars": _polars,
    "torch": _torch,
    "ssl": _ssl,
    "tempfile": _tempfile,
    "uuid": _uuid,
}
"""Module -> how to seed it. Only modules that are loaded are touched."""
