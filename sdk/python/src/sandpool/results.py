"""Reads the rows of an outcome: from the message when they came with it, else from the volume that the manifest names.

Called by `Outcome.table()` and by services that stream (`read_batches`). Needs the extra `sandpool[arrow]`. Reads only.

What is read is not trusted: a result may have been written inside a sandbox, and an outcome may be forged. So keys must
be this job's data files, a file:// volume is never left through a symbolic link, every part must match its SHA-256
before any of it is decoded, and Arrow extension types are disarmed (sandpool.inert): nothing is ever unpickled.
Credentials are those of the caller: obstore reads them from the environment, or `options` gives them.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import ObjectStore, from_url

from sandpool.errors import ResultUnavailable
from sandpool.inert import disarm_parquet, disarm_stream
from sandpool.outcome import Outcome, Part

MEMORY_BYTES = 64 * 1024 * 1024
"""A part up to this size is fetched into memory, a larger one into an unnamed temporary file."""
BATCH_ROWS = 65_536
_CHUNK_BYTES = 8 * 1024 * 1024

_KEY = re.compile(
    r"(?!\.)[A-Za-z0-9_.!-]{1,255}/([A-Za-z0-9][A-Za-z0-9_-]{0,63})/[A-Za-z0-9][A-Za-z0-9_-]{0,63}/part-[0-9]{5}\.parquet"
)
_CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate", "root_certificate")


def read_table(outcome: Outcome, *, options: Mapping[str, str] | None = None) -> pa.Table:
    """All rows of the result, partial ones too, whatever the ending; an empty table without columns when it has none.

    `options` are obstore's own, for example `endpoint`; by default the environment decides.
    Raises ResultUnavailable when the data cannot be read or is not what the manifest says.
    """
    if outcome.inline:
        return _read_inline(outcome)
    tables = []
    for part in outcome.manifest.parts:
        with _opened(outcome, part, options) as file:
            tables.append(_plain(file.read()))
    return pa.concat_tables(tables) if tables else pa.table({})


def read_batches(
    outcome: Outcome, *, batch_rows: int = BATCH_ROWS, options: Mapping[str, str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The same rows as read_table in batches of at most `batch_rows`, in bounded memory however many they are.

    A part larger than MEMORY_BYTES is spooled to a temporary file, because nothing of it is decoded before its checksum
    is known to be right. Raises ResultUnavailable, possibly after batches of earlier parts.
    """
    if outcome.inline:
        yield from _read_inline(outcome).to_batches(max_chunksize=batch_rows)
        return
    for part in outcome.manifest.parts:
        with _opened(outcome, part, options) as file:
            for batch in file.iter_batches(batch_size=batch_rows):
                yield from _plain(pa.Table.from_batches([batch])).to_batches()


def _read_inline(outcome: Outcome) -> pa.Table:
    try:
        with pa.ipc.open_stream(pa.py_buffer(disarm_stream(outcome.inline))) as reader:
            table = reader.read_all()
        # Arrow trusts the offsets inside a buffer unless asked: wrong ones would read foreign memory.
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ResultUnavailable(f"the inline result of job {outcome.job_id} is damaged: {error}") from error
    if table.num_rows != outcome.manifest.rows:
        message = f"the inline result of job {outcome.job_id} has {table.num_rows} rows, not {outcome.manifest.rows}"
        raise ResultUnavailable(message)
    return _plain(table)


@contextmanager
def _opened(outcome: Outcome, part: Part, options: Mapping[str, str] | None) -> Iterator[pq.ParquetFile]:
    """The verified, disarmed part. Every failure inside the block becomes ResultUnavailable."""
    key = _KEY.fullmatch(part.key)
    if key is None or key[1] != outcome.job_id:
        raise ResultUnavailable(f"job {outcome.job_id}: its manifest names {part.key[:80]!r}, which is not its data")
    try:
        with (
            _fetch(outcome.volume_url, part, options or {}) as raw,
            disarm_parquet(raw, part.size_bytes) as safe,
            # Without pre_buffer a row group is decoded as it is read, not loaded first.
            pq.ParquetFile(safe, pre_buffer=False, buffer_size=_CHUNK_BYTES) as file,
        ):
            if file.metadata.num_rows != part.rows:
                raise ValueError(f"{file.metadata.num_rows} rows, not {part.rows}")
            yield file
    except FileNotFoundError as error:
        hint = "it was removed after its retention, or this volume is not mounted here"
        raise ResultUnavailable(f"job {outcome.job_id}: {part.key} is not in the volume; {hint}") from error
    except (pa.ArrowException, ObstoreError, OSError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise ResultUnavailable(f"job {outcome.job_id}: {part.key} cannot be read: {reason}") from error


@contextmanager
def _fetch(url: str, part: Part, options: Mapping[str, str]) -> Iterator[IO[bytes]]:
    """A seekable file of exactly the part's bytes, whose checksum is right."""
    root = urlsplit(url)
    if root.query or root.fragment or root.username or root.password:
        raise ValueError("the volume's URL holds more than a place")
    digest = hashlib.sha256()
    if root.scheme == "file":
        with _open_local(unquote(root.path), part.key) as file:
            if os.fstat(file.fileno()).st_size != part.size_bytes:
                raise ValueError("it has another size than its manifest says")
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
            _check(digest.hexdigest(), part)
            yield file
    elif root.scheme in ("s3", "gs", "az"):
        store = _open_store(url, options)
        with SpooledTemporaryFile(max_size=MEMORY_BYTES) as spool:
            # Ranges, so that the time limit of a request is about 8 MiB and not about the size of the result.
            for start in range(0, part.size_bytes, _CHUNK_BYTES):
                length = min(_CHUNK_BYTES, part.size_bytes - start)
                data = memoryview(obstore.get_range(store, part.key, start=start, length=length))
                digest.update(data)
                spool.write(data)
            _check(digest.hexdigest(), part)
            yield spool
    elif root.scheme == "memory":
        raise ValueError("a memory volume can only be read inside the process that wrote it")
    else:
        raise ValueError(f"volumes of scheme {root.scheme[:20]!r} are unknown to this release")


def _check(sha256: str, part: Part) -> None:
    if sha256 != part.sha256:
        raise ValueError("its checksum is not the one in its manifest")


def _open_store(url: str, options: Mapping[str, str]) -> ObjectStore:
    # Any client option given here makes obstore ignore those of the environment (AWS_ALLOW_HTTP): its own limit of 30 s
    # per request is right for our ranges.
    client: Any = {key: options[key] for key in _CLIENT_OPTIONS if key in options} or None
    config: Any = {key: value for key, value in options.items() if key not in _CLIENT_OPTIONS}
    retries: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
    store: Any = from_url(url, config=config, client_options=client, retry_config=retries)
    return store  # type: ignore[no-any-return]


def _open_local(root: str, key: str) -> IO[bytes]:
    """Open a file below `root` folder by folder, through no symbolic link."""
    *folders, leaf = key.split("/")
    below = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in folders:
            parent = below
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            os.close(parent)
        fd = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=below)
    finally:
        os.close(below)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError("it is not a regular file")
    return open(fd, "rb")


def _plain(table: pa.Table) -> pa.Table:
    """The same columns without any metadata, so that a result has one schema whichever way it came."""
    schema = pa.schema([pa.field(field.name, field.type, field.nullable) for field in table.schema])
    return pa.Table.from_arrays(table.columns, schema=schema)
