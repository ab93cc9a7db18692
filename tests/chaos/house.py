"""A whole installation whose network and servers can be broken: every connection of the cluster goes through a proxy.

The cluster is `sandpool up`, as a user starts it, on a wall clock of its own; `tests.chaos.faults` breaks it. Nothing
of it is left after `close`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cluster.hosting import host_spec
from cluster.local.process import OwnedProcess
from cluster.local.stage import Stage
from cluster.settings import load
from tests.chaos.plan import OWNED_ROWS, TENANTS
from tests.support.clock import ShiftedClock
from tests.support.faults import FaultProxy
from tests.support.s3 import S3Server, start_s3
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
[volumes.bucket]
url = "{bucket}"
[volumes.bucket.options]
{bucket_options}
[databases.flights]
dsn = "{flights}"
policy = "flights.toml"
[databases.ledger]
dsn = "{ledger}"
policy = "ledger.toml"
read_only = false
[tenants.acme]
databases = ["flights", "ledger"]
volumes = ["results", "bucket"]
max_attempts = 100
"""
SESSIONS = '[tenants.{tenant}]\ndatabases = ["flights"]\nmax_timeout_s = 10\n'
FLIGHTS = """
dialect = "postgres"
mode = "read-only"
[tables.flights]
[tables.owned]
filter = "tenant = {tenant}"
"""
OWNED = """
CREATE TABLE owned AS SELECT tenant, number, tenant || '-' || number AS secret
FROM unnest('{{{tenants}}}'::text[]) tenant, generate_series(1, {rows}) number
"""
LEDGER = 'dialect = "postgres"\nmode = "writes"\ntables = ["marks"]\n[[writes]]\ntable = "marks"\nkinds = ["insert"]\n'
IMAGES = Path(__file__).resolve().parents[2] / ".sandpool" / "images"
CGROUPS = Path("/sys/fs/cgroup")
VOLUME_BYTES = 768 * 1024 * 1024
STORE_BYTES = 100 << 20
"""Shared memory of a Ray node; results do not travel through it."""
UP_TIMEOUT_S = 240.0
"""Ray starts in 10 s where the machine has nothing else to do."""
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class ChaosHouse:
    """Start with `with`; `break_it(name)` blocks until the fault is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stage = Stage(folder / "stage", tenants=("acme",), durable=True)
        self.volume = folder / "volume"
        self.clock = ShiftedClock(folder / "clock")
        self.temporary = folder / "tmp"
        """Where the cluster's temporary files are."""
        self._s3: S3Server | None = None
        self._node: OwnedProcess | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._cluster: OwnedProcess | None = None
        self._log = folder / "up.log"
        self.database: FaultProxy
        self.bucket: FaultProxy
        self.broker: FaultProxy
        self.client_url = ""
        self.host_name = ""
        """Of the hosts' cgroups."""

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
        self.end_node()
        if self._cluster is not None:
            self._cluster.stop()
        if self._s3 is not None:
            self._s3.stop()
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

    def drain(self) -> bool:
        """End the cluster as Ctrl-C does; servers and proxies stay. False: it did not end in time and was killed, as
        a service manager does; then the next start has to clear up."""
        assert self._cluster is not None
        seen = len(self._log.read_bytes())
        self._cluster.stop()
        return b'{"state":"stopped"' in self._log.read_bytes()[seen:]

    @property
    def sandboxes(self) -> Path:
        """The folder of the hosts."""
        return self.stage.short_folder() / "sandboxes"

    @property
    def s3(self) -> S3Server:
        assert self._s3 is not None
        return self._s3

    def restart(self, *, kill: bool) -> None:
        """End the whole cluster, softly or not, and start it again."""
        assert self._cluster is not None
        self.end_node()
        (self._cluster.kill if kill else self._cluster.stop)()
        self._start_cluster()

    def join_node(self) -> None:
        """Let another Ray node join the cluster, on this machine; returns once it has been told to."""
        folder = self.stage.short_folder()
        program = Path(sys.executable).with_name("ray")
        address = (folder / "ray_current_cluster").read_text()
        command = [str(program), "start", "--block", "--num-cpus=2", "--disable-usage-stats", f"--address={address}"]
        self._node = OwnedProcess(
            "another Ray node",
            [*command, f"--object-store-memory={STORE_BYTES}"],
            folder=self.folder,
            log=self.folder / "node.log",
            env={**self._environment(), "RAY_TMPDIR": str(folder)},
        )
        self._node.start()

    def end_node(self) -> None:
        """Kill everything that runs on it, as when its machine is gone."""
        if self._node is not None:
            self._node.kill()
            self._node = None

    def call(self, fault: Callable[[], None]) -> None:
        """Have a proxy do this."""
        self._loop.call_soon_threadsafe(fault)

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
        self._s3 = start_s3(self.folder / "s3")
        self.bucket = self._await(FaultProxy("127.0.0.1", self._s3.port).__aenter__())
        postgres.execute(OWNED.format(tenants=",".join(TENANTS), rows=OWNED_ROWS), "flights")
        read = {"public.flights": (), "public.owned": ()}
        flights = Hardening(role="reader", database="flights", tables=read)
        ledger = Hardening(
            role="writer", database="ledger", tables={"public.marks": ()}, writes={"public.marks": ("INSERT",)}
        )
        config = self.folder / "sandpool.toml"
        (self.folder / "flights.toml").write_text(FLIGHTS)
        (self.folder / "ledger.toml").write_text(LEDGER)
        options = {
            **self._s3.options,
            "endpoint": self.bucket.through(self._s3.options["endpoint"]),
            "deadline_s": "10",
        }
        config.write_text(
            CONFIG.format(
                folder=self.folder / "state",
                ray=self.stage.short_folder(),
                sandboxes=self.sandboxes,
                images=IMAGES,
                volume=self.volume,
                bucket=self._s3.url,
                bucket_options="\n".join(f'{name} = "{value}"' for name, value in options.items()),
                broker=self.broker.through(self.stage.urls["sandpool"]),
                flights=self.database.through(self.stage.add_role(flights)),
                ledger=self.database.through(self.stage.add_role(ledger)),
            )
            + "".join(SESSIONS.format(tenant=tenant) for tenant in TENANTS if tenant != "acme")
        )
        self.client_url = self.stage.urls["acme"]
        spec = host_spec(load(config))
        assert spec is not None
        self.host_name = spec.name
        self._cluster = OwnedProcess(
            "sandpool up",
            [sys.executable, "-m", "cluster", "up", "--json", "--config", str(config)],
            folder=self.folder,
            log=self._log,
            env=self._environment(),
            stop_signal=signal.SIGINT,
            grace_s=30.0,
        )
        self._start_cluster()

    def _start_cluster(self) -> None:
        assert self._cluster is not None
        seen = len(self._log.read_bytes()) if self._log.exists() else 0
        self._cluster.start()
        self._cluster.wait_until(lambda: b'{"state":"up",' in self._log.read_bytes()[seen:], UP_TIMEOUT_S)

    def _environment(self) -> dict[str, str]:
        self.temporary.mkdir(exist_ok=True)
        # A lost node is noticed within two seconds; Ray's default, for networks, is fifteen.
        ray = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
        return {**os.environ, **self.clock.environment(), **ray, "TMPDIR": str(self.temporary)}

    def _await(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
