"""Makes copies of one snapshot different: every generator of random numbers that an import seeded is seeded again.

Called by `service` at the first frame of a new host epoch and on request. What cannot be changed in a live process:
the seed of string hashes (the order of sets of strings is the same in all copies, and whoever knows the image may
provoke collisions), and generators that the user's own code made and keeps (`numpy.random.default_rng()`).
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time


def reseed(entropy: bytes) -> None:
    """`entropy` comes from the host; the kernel's own is mixed in, so that neither alone decides."""
    seed = hashlib.sha512(entropy + os.urandom(64)).digest()
    random.seed(int.from_bytes(seed, "big"))
    _reseed_numpy(hashlib.sha512(seed + b"numpy").digest())
    _reseed_others()
    time.tzset()


def _reseed_numpy(seed: bytes) -> None:
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        words = [int.from_bytes(seed[start : start + 4], "big") for start in range(0, len(seed), 4)]
        numpy_random.seed(words)


def _reseed_others() -> None:
    """Modules of the standard library that keep a generator or a name made from one."""
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None  # type: ignore[attr-defined]  # the next name makes a new generator
    uuid = sys.modules.get("uuid")
    if uuid is not None:
        # The random node id and the clock of uuid1 would be those of every copy.
        uuid._node = None  # type: ignore[attr-defined]
        uuid._last_timestamp = None  # type: ignore[attr-defined]
