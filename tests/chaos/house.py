"""A whole installation whose network and servers can be broken: every connection of the cluster goes through a proxy.

The cluster is `sandpool up`, as a user starts it. Faults are carried out here, by name; each heals by itself and
returns once it has. Nothing of it is left after `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

from cluster.local.leash import descendants
from cluster.local.process import OwnedProcess
from cluster.local.stage import Stage
from tests.support.faults import FaultProxy
from workers.sql.harden import Hardening

CONFIG = """
folder = "{folder}"
[broker]
url = "{broker}"
[scheduler]
drain_timeout_s = 5
attempt_grace_s = 5
sweep_interval_s = 5
[ray]
folder = "{ray}"
[sandboxes]
folder = "{sandboxes}"
images = "{images}"
memory_bytes = 1073741824
warm_bytes = 536870912
warm_each = 1
job_memory_bytes = 134217728
[volumes.results]
url = "file://{volume}"
[databases.flights]
dsn = "{flights}"
policy = "flights.toml"
[databases.ledger]
dsn = "{ledger}"
policy = "ledger.toml"
read_only = false
[tenants.acme]
databases = ["flights", "ledger"]
max_attempts = 100
"""
FLIGHTS = (
    'dialect = "postgres"\nmode = "read-only"\ntables = ["flights", "weather", "planes", "airports", "airlines"]\n'
)
LEDGER = 'dialect = "postgres"\nmode = "writes"\ntables = ["marks"]\n[[writes]]\ntable = "marks"\nkinds = ["insert"]\n'
IMAGES = Path(__file__).resolve().parents[2] / ".sandpool" / "images"
CGROUPS = Path("/sys/fs/cgroup")
VOLUME_BYTES = 768 * 1024 * 1024
UP_TIMEOUT_S = 240.0
"""Ray starts in 10 s where the machine has nothing else to do."""
FAULT_S = 2.0
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class ChaosHouse:
    """Start with `with`; `break_it(name)` blocks until the fault is over."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.stage = Stage(folder / "stage", tenants=("acme",), durable=True)
        self.volume = folder / "volume"
        self.cgroups_before = set(CGROUPS.glob("**/sandpool/*/sb-*"))
        self._random = Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._cluster: OwnedProcess | None = None
        self._log = folder / "up.log"
        self.database: FaultProxy
        self.broker: FaultProxy
        self.client_url = ""

    def __enter__(self) -> ChaosHouse:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.stop()
        self.stage.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        _libc.umount2(os.fsencode(self.volume), _MNT_DETACH)

    @property
    def pid(self) -> int:
        assert self._cluster is not None and self._cluster.pid is not None
        return self._cluster.pid

    @property
    def running_pid(self) -> int | None:
        """The cluster's process, where there is one just now."""
        return self._cluster.pid if self._cluster is not None else None

    def drain(self) -> None:
        """End the cluster as Ctrl-C does; servers and proxies stay."""
        assert self._cluster is not None
        self._cluster.stop()

    def break_it(self, name: str) -> None:
        """Let this fault happen and heal."""
        _FAULTS[name](self)

    # ---- how each fault is done ----

    def kill_actors(self, title: str) -> None:
        for pid in descendants(self.pid):
            if title in _title(pid):
                _kill(pid)

    def restart_cluster(self, *, kill: bool) -> None:
        assert self._cluster is not None
        (self._cluster.kill if kill else self._cluster.stop)()
        self._start_cluster()

    def restart_server(self, server: Any, *, kill: bool) -> None:
        (server.kill if kill else server.stop)()
        time.sleep(self._random.uniform(0.0, FAULT_S))
        server.start()

    def disturb(self, proxy: FaultProxy, fault: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(fault)
        time.sleep(self._random.uniform(FAULT_S / 4, FAULT_S))
        self._loop.call_soon_threadsafe(proxy.heal)

    def fill_volume(self) -> None:
        filler = self.volume / ".filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * (1 << 20))
            except OSError:
                pass
        time.sleep(FAULT_S)
        filler.unlink()

    # ---- starting ----

    def _open(self) -> None:
        self.volume.mkdir(parents=True)
        size = f"size={VOLUME_BYTES}".encode()
        assert _libc.mount(b"tmpfs", os.fsencode(self.volume), b"tmpfs", 0, size) == 0, "this needs root"
        self._thread.start()
        self.stage.start()
        postgres, rabbitmq = self.stage.postgres, self.stage.rabbitmq
        assert rabbitmq is not None
        postgres.create_database("ledger")
        postgres.execute("CREATE TABLE marks (job text NOT NULL, noted integer NOT NULL)", "ledger")
        self.database = self._await(FaultProxy("127.0.0.1", postgres.port).__aenter__())
        self.broker = self._await(FaultProxy("127.0.0.1", rabbitmq.port).__aenter__())
        flights = Hardening(role="reader", database="flights", tables={"public.flights": ()})
        ledger = Hardening(
            role="writer", database="ledger", tables={"public.marks": ()}, writes={"public.marks": ("INSERT",)}
        )
        config = self.folder / "sandpool.toml"
        (self.folder / "flights.toml").write_text(FLIGHTS)
        (self.folder / "ledger.toml").write_text(LEDGER)
        config.write_text(
            CONFIG.format(
                folder=self.folder / "state",
                ray=self.stage.short_folder(),
                sandboxes=self.stage.short_folder() / "sandboxes",
                images=IMAGES,
                volume=self.volume,
                broker=self.broker.through(self.stage.urls["sandpool"]),
                flights=self.database.through(self.stage.add_role(flights)),
                ledger=self.database.through(self.stage.add_role(ledger)),
            )
        )
        self.client_url = self.stage.urls["acme"]
        self._cluster = OwnedProcess(
            "sandpool up",
            [sys.executable, "-m", "cluster", "up", "--json", "--config", str(config)],
            folder=self.folder,
            log=self._log,
            env=dict(os.environ),
            stop_signal=signal.SIGINT,
            grace_s=30.0,
        )
        self._start_cluster()

    def _start_cluster(self) -> None:
        assert self._cluster is not None
        seen = len(self._log.read_bytes()) if self._log.exists() else 0
        self._cluster.start()
        self._cluster.wait_until(lambda: b'{"state":"up",' in self._log.read_bytes()[seen:], UP_TIMEOUT_S)

    def _await(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


_FAULTS: dict[str, Callable[[ChaosHouse], None]] = {
    "kill the scheduler": lambda house: house.kill_actors("Conductor"),
    "kill the pools": lambda house: house.kill_actors("Pool"),
    "kill the hosts": lambda house: house.kill_actors("Host"),
    "restart the cluster": lambda house: house.restart_cluster(kill=False),
    "kill everything of the cluster": lambda house: house.restart_cluster(kill=True),
    "restart the database": lambda house: house.restart_server(house.stage.postgres, kill=False),
    "kill the database": lambda house: house.restart_server(house.stage.postgres, kill=True),
    "restart the broker": lambda house: house.restart_server(house.stage.rabbitmq, kill=False),
    "kill the broker": lambda house: house.restart_server(house.stage.rabbitmq, kill=True),
    "cut the database off": lambda house: house.disturb(house.database, house.database.cut),
    "reset connections to the database": lambda house: house.disturb(house.database, house.database.reset),
    "stall the database": lambda house: house.disturb(house.database, house.database.stall),
    "slow the database": lambda house: house.disturb(house.database, lambda: house.database.delay(0.05)),
    "drop connections to the broker": lambda house: house.disturb(house.broker, house.broker.drop),
    "reset connections to the broker in mid-message": lambda house: house.disturb(
        house.broker, lambda: house.broker.reset_after(5_000)
    ),
    "stall the broker": lambda house: house.disturb(house.broker, house.broker.stall),
    "slow the broker": lambda house: house.disturb(house.broker, lambda: house.broker.delay(0.05)),
    "fill the volume": lambda house: house.fill_volume(),
}


def _title(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    return words if words.startswith("ray::") else ""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
