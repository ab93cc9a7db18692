"""A private Redis server for taskiq's documented result backend, where the program is installed. Used by `latency`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.local.ports import answers, free_port
from cluster.local.process import OwnedProcess

START_TIMEOUT_S = 20.0


def find_redis() -> str | None:
    """The program, or None where it is not installed."""
    return shutil.which("redis-server")


@contextmanager
def open_redis(program: str, folder: Path) -> Iterator[str]:
    """The server's URL while the block runs: loopback only, nothing saved."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    environment = {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
    server = OwnedProcess("redis", [program, *arguments], folder=folder, log=folder / "redis.log", env=environment)
    with server:
        server.wait_until(lambda: answers(port), START_TIMEOUT_S)
        yield f"redis://127.0.0.1:{port}/0"
