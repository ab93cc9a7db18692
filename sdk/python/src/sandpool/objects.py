"""Fetches objects of an outcome from the volume that it names: parts, output files, displays.

Called by `sandpool.results` and `Outcome.read_file`. Reads only. An outcome may be forged and a file may come out of a
sandbox: a file:// volume is never left through a symbolic link, and nothing is handed on before its SHA-256 is right.
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
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import ObjectStore, from_url

from sandpool.errors import ResultUnavailable

if TYPE_CHECKING:
    from sandpool.outcome import Outcome

MEMORY_BYTES = 64 * 1024 * 1024
"""An object up to this size is fetched into memory, a larger one into an unnamed temporary file."""
CHUNK_BYTES = 8 * 1024 * 1024

_KEY = re.compile(
    r"(?!\.)[A-Za-z0-9_.!-]{1,255}/([A-Za-z0-9][A-Za-z0-9_-]{0,63})/[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
    r"(?:/(?!\.)[A-Za-z0-9_.!=+@-]{1,255}){1,16}"
)
_FAULTS: tuple[type[Exception], ...] = (ObstoreError, OSError, ValueError, NotImplementedError)
_CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate", "root_certificate")


def read_object(
    outcome: Outcome, key: str, size_bytes: int, sha256: str, *, options: Mapping[str, str] | None = None
) -> bytes:
    """One object of this outcome's job, whole. Raises ResultUnavailable."""
    with explained(outcome, key), fetch(outcome, key, size_bytes, sha256, options or {}) as file:
        return file.read()


@contextmanager
def explained(outcome: Outcome, key: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Whatever goes wrong with this object inside the block becomes ResultUnavailable; so do the errors `also`."""
    try:
        yield
    except FileNotFoundError as error:
        hint = "it was removed after its retention, or this volume is not mounted here"
        raise ResultUnavailable(f"job {outcome.job_id}: {key} is not in the volume; {hint}") from error
    except _FAULTS + also as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise ResultUnavailable(f"job {outcome.job_id}: {key} cannot be read: {reason}") from error


@contextmanager
def fetch(outcome: Outcome, key: str, size_bytes: int, sha256: str, options: Mapping[str, str]) -> Iterator[IO[bytes]]:
    """A seekable file of exactly the object's bytes, whose checksum is right. Raises ResultUnavailable for a key that
    is not this job's; what the store, the disk or a wrong object raises is left to `explained`."""
    found = _KEY.fullmatch(key)
    if found is None or found[1] != outcome.job_id:
        raise ResultUnavailable(f"job {outcome.job_id}: its manifest names {key[:80]!r}, which is not its data")
    root = urlsplit(outcome.volume_url)
    if root.query or root.fragment or root.username or root.password:
        raise ValueError("the volume's URL holds more than a place")
    digest = hashlib.sha256()
    if root.scheme == "file":
        with _open_local(unquote(root.path), key) as file:
            if os.fstat(file.fileno()).st_size != size_bytes:
                raise ValueError("it has another size than its manifest says")
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
            _check(digest.hexdigest(), sha256)
            file.seek(0)
            yield file
    elif root.scheme in ("s3", "gs", "az"):
        store = _open_store(outcome.volume_url, options)
        with SpooledTemporaryFile(max_size=MEMORY_BYTES) as spool:
            # Ranges, so that the time limit of a request is about 8 MiB and not about the size of the result.
            for start in range(0, size_bytes, CHUNK_BYTES):
                length = min(CHUNK_BYTES, size_bytes - start)
                data = memoryview(obstore.get_range(store, key, start=start, length=length))
                digest.update(data)
                spool.write(data)
            _check(digest.hexdigest(), sha256)
            spool.seek(0)
            yield spool
    elif root.scheme == "memory":
        raise ValueError("a memory volume can only be read inside the process that wrote it")
    else:
        raise ValueError(f"volumes of scheme {root.scheme[:20]!r} are unknown to this release")


def _check(found: str, sha256: str) -> None:
    if found != sha256:
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
