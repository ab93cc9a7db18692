"""The configuration of a private installation: two tenants, three databases, one volume, and the roles behind them.

`furnish(stage)` turns running servers into something `sandpool up --config` can use: what demo, end-to-end tests,
benchmarks and `sandpool up --local` share. The policies are the shipped examples, so that those are tried every day.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cluster.local.stage import Stage
from workers.sql.harden import Hardening

POLICIES = Path(__file__).resolve().parents[2] / "configs" / "policies"
IMAGES = Path(".sandpool/images")
"""Where `sandpool image build` puts images unless it is told otherwise."""
FLIGHTS_TABLES = ("flights", "weather", "planes", "airports", "airlines")
AIRLINE_TABLES = ("flights", "airports", "airlines")
CONFIG = """\
# Written by `furnish`: a private installation. Holds secrets, keep it 0600.
folder = "."

[broker]
url = "{broker}"

[client]
url = "{client}"

[scheduler]
replicas = {replicas}

[ray]
address = "{ray_address}"
cpus = 2
{ray_folder}

[sandboxes]
folder = "{sandboxes}"
images = "{images}"

[volumes.results]
url = "file://./volume"

[databases.flights]
dsn = "{flights}"
policy = "policies/flights.toml"
budget = {budget}

[databases.airline]
dsn = "{airline}"
policy = "policies/flights-tenant.toml"
budget = 2

[databases.bookings]
dsn = "{bookings}"
policy = "policies/bookings.toml"
budget = 2
read_only = false

[tenants.acme]
databases = ["flights", "bookings"]

[tenants.UA]
databases = ["airline"]
"""


LONGEST_RAY_FOLDER = 40
"""Bytes. Below it Ray makes sockets, `session_<time>_<pid>/sockets/plasma_store`, whose paths may have 107."""


def furnish(
    stage: Stage, *, budget: int = 8, ray_folder: str = "", ray_address: str = "local", replicas: int = 1
) -> Path:
    """Roles, ledger, policies, volume and configuration file for a started stage. Returns the configuration's path.

    Ray's files lie in `ray_folder`, else below the stage's folder or, where that path is too long, in a temporary one.
    """
    stage.volume.mkdir(mode=0o750, exist_ok=True)
    if not ray_folder and len(os.fsencode(stage.folder / "ray")) > LONGEST_RAY_FOLDER:
        ray_folder = str(stage.short_folder())
    shutil.copytree(POLICIES, stage.folder / "policies", dirs_exist_ok=True)
    text = CONFIG.format(
        broker=stage.urls["sandpool"],
        client=stage.urls["acme"],
        flights=stage.add_role(_reader("flights_reader", FLIGHTS_TABLES, budget)),
        airline=stage.add_role(_reader("airline_reader", AIRLINE_TABLES, 2)),
        bookings=stage.add_role(
            Hardening(
                role="bookings_writer",
                database="bookings",
                tables={"public.bookings": ()},
                writes={"public.bookings": ("INSERT", "UPDATE")},
            )
        ),
        budget=budget,
        replicas=replicas,
        # Unix sockets lie below it: short, and gone with the stage.
        sandboxes=stage.short_folder() / "sb",
        images=IMAGES.resolve(),
        ray_address=ray_address,
        ray_folder=f'folder = "{ray_folder}"' if ray_folder else "",
    )
    return stage.write_config(text)


def _reader(role: str, tables: tuple[str, ...], budget: int) -> Hardening:
    """A role that may read these tables and has some connections to spare beyond its pool's."""
    return Hardening(
        role=role,
        database="flights",
        tables={f"public.{table}": () for table in tables},
        connection_limit=budget + 4,
    )
