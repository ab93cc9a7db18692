"""A sandbox from whose inside a database is measured: the image `data`, with the socket of a proxy mounted where a job
finds its databases, and the forwarder on its loopback.

Used by `benchmarks.broker`. The proxy's socket lies in the sandbox's own folder, so clients on the host and inside
reach the very same broker.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.peers import driver_client
from workers.images.build import build
from workers.images.recipe import load
from workers.images.store import ImageStore
from workers.sandbox.databases import INSIDE
from workers.sandbox.limits import GIB, Limits
from workers.sandbox.sandboxes import Sandboxes
from workers.sandbox.starter import Live, Starter

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / ".sandpool" / "images"
LIMITS = Limits(memory_bytes=GIB, cpus=2.0, output_bytes=16 << 20)
STEP_S = 120.0


class Inside:
    """One sandbox, from a blocking benchmark."""

    def __init__(self, runner: asyncio.Runner, live: Live, database: str) -> None:
        self._runner = runner
        self._live = live
        self._database = database
        self.folder = live.sockets / "pg" / database
        """Where the proxy's socket belongs."""
        self.folder.mkdir(parents=True)

    def open_to_the_inside(self, path: Path) -> None:
        """Let the user inside connect to this socket, and start the forwarder."""
        path.chmod(0o666)
        module = "__import__('importlib').import_module('sandpool_runner.databases')"
        self._run(f"{module}.open_databases([{self._database!r}], {INSIDE!r})")
        self._run(Path(driver_client.__file__).read_text("utf-8"))

    @property
    def conninfos(self) -> dict[str, str]:
        """By the mounted socket, and by the forwarder."""
        rest = f"user=bench dbname={self._database}"
        return {"socket": f"host={INSIDE}/{self._database} {rest}", "forwarder": f"host=127.0.0.1 port=5432 {rest}"}

    def measure(self, conninfo: str, seconds: float, sql: str, arguments: list[list[object]]) -> list[list[float]]:
        """See `driver_client.measure`."""
        said = self._run(f"print(measure({conninfo!r}, {seconds!r}, {sql!r}, {arguments!r}))")
        found: list[list[float]] = json.loads(said)
        return found

    def _run(self, code: str) -> str:
        done = self._runner.run(self._live.session.run_code(code, timeout_s=STEP_S))
        if done.error is not None:
            raise RuntimeError(f"inside the sandbox: {done.error.traceback[-2000:]}")
        return done.stdout.decode()


@contextmanager
def inside(database: str) -> Iterator[Inside | None]:
    """None where no sandbox can run."""
    if os.geteuid() != 0 or shutil.which("runsc") is None:
        yield None
        return
    folder = Path(mkdtemp(prefix="spb-"))
    store = ImageStore(IMAGES)
    built = build(store, load(ROOT / "images" / "data"), environment=os.environ)
    image = store.resolve(f"{built.name}@{built.digest}")
    sandboxes = Sandboxes(folder / "own", name="bench-inside")
    try:
        with asyncio.Runner() as runner:
            runner.run(sandboxes.open())
            starter = Starter(sandboxes)
            try:
                yield Inside(runner, runner.run(starter.cold(image, LIMITS)), database)
            finally:
                runner.run(sandboxes.close())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
