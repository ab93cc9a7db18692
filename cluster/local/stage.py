"""A whole private installation in one folder: broker, database with the real flights, least-privilege roles, config.

What demo, end-to-end tests and benchmarks stand on, so that all three use the product as a user would: through a
configuration file and broker users. Starts no Ray and no scheduler.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.local.flights import load_flights
from cluster.local.postgres import PostgresServer
from cluster.local.rabbitmq import BrokerUser, RabbitNode
from queues.permissions import SERVICE, tenant_permissions
from workers.sql.harden import Hardening, harden

BOOKINGS = """
CREATE TABLE bookings (
    booking_id bigint PRIMARY KEY, carrier text NOT NULL, seats integer NOT NULL CHECK (seats > 0),
    booked_at timestamptz NOT NULL DEFAULT now()
);
"""


class Stage:
    """Starts in about 10 s; everything is gone after `close`, also when this process is killed."""

    def __init__(
        self, folder: Path, *, tenants: tuple[str, ...] = ("acme", "UA"), broker: bool = True, durable: bool = True
    ) -> None:
        """`broker=False`: no RabbitMQ, for the embedded mode; `urls` are then placeholders."""
        self.folder = folder
        self.config = folder / "sandpool.toml"
        self.volume = folder / "volume"
        passwords = {name: secrets.token_urlsafe(18) for name in ("sandpool", *tenants)}
        users = tuple(
            BrokerUser(
                name,
                password,
                permissions=(rights.configure, rights.write, rights.read),
            )
            for name, password in passwords.items()
            for rights in [SERVICE if name == "sandpool" else tenant_permissions(name)]
        )
        self.rabbitmq = RabbitNode(folder / "rabbitmq", users, temporary=True) if broker else None
        self.postgres = PostgresServer(folder / "postgres", durable=durable, temporary=True)
        self.urls = {
            name: self.rabbitmq.url(name, password) if self.rabbitmq else "memory:"
            for name, password in passwords.items()
        }
        self.tenants = tenants
        self._short_folder: Path | None = None

    def start(self) -> None:
        """Servers up, data loaded, roles granted, configuration written (0600: it holds the secrets)."""
        self.postgres.start()
        if self.rabbitmq is not None:
            self.rabbitmq.start()
        load_flights(self.postgres.create_database("flights"))
        self.postgres.create_database("bookings")
        self.postgres.execute(BOOKINGS, "bookings")

    def add_role(self, wanted: Hardening) -> str:
        """A login role with exactly these rights, by the SQL of `sandpool database harden`. Returns its DSN."""
        password = secrets.token_urlsafe(18)
        self.postgres.create_role(wanted.role, password)
        self.postgres.execute(harden(wanted), wanted.database)
        return self.postgres.dsn(wanted.database, wanted.role, password)

    def write_config(self, text: str) -> Path:
        """The configuration file, readable by its owner only."""
        self.config.touch(mode=0o600)
        self.config.write_text(text, "utf-8")
        return self.config

    def short_folder(self) -> Path:
        """A folder with a short path for what makes Unix sockets; gone after `close`."""
        if self._short_folder is None:
            self._short_folder = Path(tempfile.mkdtemp(prefix="sandpool-"))
        return self._short_folder

    def close(self) -> None:
        """End both servers and delete their data; configuration, logs of the cluster and results stay."""
        if self._short_folder is not None:
            shutil.rmtree(self._short_folder, ignore_errors=True)
        if self.rabbitmq is not None:
            self.rabbitmq.remove()
        self.postgres.remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
