"""What a host runs for one attempt of a job: code, a program, or a piece of our own that treats data. Data only.

The scheduler makes it with every limit resolved to a number; it travels as JSON to the host's actor
(`workers.host_actor`), which hands it to `workers.sandbox.jobs`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from workers.gpu.shares import Share
from workers.sandbox.limits import Limits


class Input(msgspec.Struct, frozen=True):
    """One object of a volume, or everything below a key that ends with a slash, that the sandbox finds below /in."""

    path: str
    """Below /in."""
    volume: str
    key: str
    sha256: str = ""
    """What it must be, where that is known."""
    tables_only: bool = False
    """Of a folder only what is a table: `NAME.parquet` and `NAME/*.parquet`."""


class DatabaseFile(msgspec.Struct, frozen=True):
    """A registered database that code gets whole, as a file or a folder of Parquet files: its policy hides nothing."""

    name: str
    engine: Literal["duckdb", "sqlite"]
    source: Input


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A statement for an engine that runs inside the sandbox, on the inputs below /in."""

    engine: Literal["duckdb", "sqlite"]
    sql: str
    """The printed text of the verdict; empty where only the catalog is asked for."""
    params: tuple[Any, ...] = ()
    path: str
    """Below /in: the engine's own file, or a folder of Parquet files."""
    is_folder: bool = False


class SandboxTask(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of one job on one host."""

    tenant: str
    job_id: str
    attempt_id: str
    """Unique name of this attempt: what it writes lies under that name and nowhere else."""
    kind: Literal["code", "command", "transform", "query", "catalog"]
    image: str
    limits: Limits
    timeout_s: float
    """Of the code itself; handing out the sandbox, staging and collecting have deadlines of their own."""
    volume: str
    code: str = ""
    code_file: Input | None = None
    """Where the code lies when it is not in `code`."""
    name: str = "main.py"
    argv: tuple[str, ...] = ()
    stdin: bytes = b""
    env: dict[str, str] = {}
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ()
    query: Query | None = None
    most_input_bytes: int
    most_files: int
    most_files_bytes: int
    max_rows: int = 0
    max_bytes: int = 0
    """Ceilings of a result that is a table."""
    databases: tuple[str, ...] = ()
    """Those that it reaches through their pools."""
    files: tuple[DatabaseFile, ...] = ()
    gpus: tuple[Share, ...] = ()
    """What it was placed on."""


# Parameters came as JSON and stay JSON: msgpack has no integers above 64 bits.
_encoder = msgspec.json.Encoder()
_tasks = msgspec.json.Decoder(SandboxTask)


def encode_task(task: SandboxTask) -> bytes:
    """A task as a host's mailbox takes it."""
    return _encoder.encode(task)


def decode_task(data: bytes) -> SandboxTask:
    """What `encode_task` encoded."""
    return _tasks.decode(data)
