"""A volume in an object store (s3, gs, az) or in this process's memory, by way of obstore.

Opened by workers.volumes.store, used through its `Volume`. obstore retries 5xx answers and broken connections itself,
with backoff, inside the volume's deadline: half of it for starting tries, half for the last one. A create whose first
answer was lost may then report False for an object that is ours: callers compare what is there (workers.volumes.record,
.result).

A streaming writer holds at most three chunks of 8 MiB. It needs no create-only put: data lies under the unique name of
its attempt. An aborted upload is removed from the store; one whose process was killed stays invisible but costs
storage until the bucket's rule for incomplete multipart uploads removes it (obstore cannot list those).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

import obstore
from obstore import exceptions as obstore_errors
from obstore.store import MemoryStore, ObjectStore, from_url

from workers.errors import ConfigurationError, VolumeCorrupt, VolumeUnavailable
from workers.volumes.keys import UnsafeName, check_key
from workers.volumes.objects import ObjectMeta
from workers.volumes.translation import OBSTORE_ERRORS, from_obstore_error, is_missing_bucket

CHUNK_BYTES = 8 * 1024 * 1024
"""Above S3's least part size of 5 MiB; its most of 10,000 parts then allows objects of 78 GiB."""
_CHUNKS_IN_FLIGHT = 2
_DELETE_BATCH = 1000
_MAX_RETRIES = 8

_CLIENT_OPTIONS = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "http1_only",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_url",
        "proxy_ca_certificate",
        "proxy_excludes",
        "root_certificate",
        "user_agent",
    }
)
"""What obstore takes as `client_options`; given as `config` its Rust side panics (0.12.1)."""

_memories: dict[str, MemoryStore] = {}
"""memory:// volumes by URL: every volume of one URL in this process sees the same objects, until the process ends."""


def open_remote(name: str, url: str, options: dict[str, str]) -> RemoteVolume:
    """Raises ConfigurationError for an option or URL that obstore cannot use."""
    try:
        deadline_s = float(options.pop("deadline_s", "60"))
    except ValueError:
        deadline_s = 0.0
    if not 0.1 <= deadline_s <= 3600:
        raise ConfigurationError(f"volume {name}: option deadline_s is a number of seconds from 0.1 to 3600")
    if url.startswith("memory:"):
        if options:
            raise ConfigurationError(f"volume {name}: unknown option {min(options)!r}; a memory volume has none")
        return RemoteVolume(name, url, _memories.setdefault(url.rstrip("/"), MemoryStore()), deadline_s)
    half = timedelta(seconds=deadline_s / 2)
    client: dict[str, Any] = {key: options.pop(key) for key in _CLIENT_OPTIONS & options.keys()}
    client = {"connect_timeout": min(half, timedelta(seconds=5)), **client, "timeout": half}
    retries: Any = {"max_retries": _MAX_RETRIES, "retry_timeout": half}
    config: Any = options
    try:
        store = from_url(url, config=config, client_options=client, retry_config=retries)  # type: ignore[call-overload]
    except obstore_errors.UnknownConfigurationKeyError as error:
        raise from_obstore_error(name, error) from error
    except (obstore_errors.BaseError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ConfigurationError(f"volume {name}: its URL or options cannot be used: {reason}") from error
    return RemoteVolume(name, url, store, deadline_s)


class RemoteVolume:
    """See workers.volumes.store.Volume."""

    def __init__(self, name: str, url: str, store: ObjectStore, deadline_s: float) -> None:
        self.name = name
        self.url = url
        self._store = store
        self._deadline_s = deadline_s

    def create(self, key: str, data: bytes) -> bool:
        try:
            obstore.put(self._store, check_key(key), data, mode="create", use_multipart=False)
        except obstore_errors.AlreadyExistsError:
            return False
        except obstore_errors.PreconditionError as error:
            # Some servers answer so. Only what is really there may count as "exists".
            if self.get(key) is None:
                raise from_obstore_error(self.name, error) from error
            return False
        except OBSTORE_ERRORS as error:
            raise from_obstore_error(self.name, error) from error
        return True

    async def acreate(self, key: str, data: bytes) -> bool:
        check_key(key)
        try:
            async with asyncio.timeout(self._deadline_s):
                await obstore.put_async(self._store, key, data, mode="create", use_multipart=False)
        except obstore_errors.AlreadyExistsError:
            return False
        except obstore_errors.PreconditionError as error:
            if await self.aget(key) is None:
                raise from_obstore_error(self.name, error) from error
            return False
        except OBSTORE_ERRORS as error:
            raise from_obstore_error(self.name, error) from error
        return True

    def get(self, key: str, *, limit_bytes: int | None = None) -> bytes | None:
        try:
            result = obstore.get(self._store, check_key(key))
            self._check_size(result.meta["size"], limit_bytes)
            return result.bytes().to_bytes()
        except FileNotFoundError as error:
            self._check_bucket(error)
            return None
        except OBSTORE_ERRORS as error:
            raise from_obstore_error(self.name, error) from error

    async def aget(self, key: str, *, limit_bytes: int | None = None) -> bytes | None:
        check_key(key)
        try:
            async with asyncio.timeout(self._deadline_s):
                result = await obstore.get_async(self._store, key)
                self._check_size(result.meta["size"], limit_bytes)
                return (await result.bytes_async()).to_bytes()
        except FileNotFoundError as error:
            self._check_bucket(error)
            return None
        except OBSTORE_ERRORS as error:
            raise from_obstore_error(self.name, error) from error

    def fetch(self, key: str, write: Callable[[bytes], object]) -> int | None:
        try:
            size = obstore.head(self._store, check_key(key))["size"]
            # Ranges, so that the deadline of a request is about one of them and not about the whole object.
            for start in range(0, size, CHUNK_BYTES):
                length = min(CHUNK_BYTES, size - start)
                write(obstore.get_range(self._store, key, start=start, length=length).to_bytes())
        except FileNotFoundError as error:
            self._check_bucket(error)
            return None
        except OBSTORE_ERRORS as error:
            raise from_obstore_error(self.name, error) from error
        return size

    def delete(self, keys: Iterable[str]) -> None:
        rest = map(check_key, keys)
        while batch := list(islice(rest, _DELETE_BATCH)):
            try:
                obstore.delete(self._store, batch)
            except FileNotFoundError:
                # GCS and Azure stop at the first missing object: take the rest one by one.
                for key in batch:
                    self._delete_one(key)
            except OBSTORE_ERRORS as error:
                raise from_obstore_error(self.name, error) from error

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectMeta]:
        if prefix and not prefix.endswith("/"):
            raise UnsafeName(f"prefix {prefix[:80]!r} does not end with a slash")
        if prefix:
            check_key(prefix[:-1])
        return self._list(prefix, start_after)

    def open_writer(self, key: str) -> RemoteWriter:
        file = obstore.open_writer(
            self._store, check_key(key), buffer_size=CHUNK_BYTES, max_concurrency=_CHUNKS_IN_FLIGHT
        )
        return RemoteWriter(self.name, file)

    def _list(self, prefix: str, start_after: str) -> Iterator[ObjectMeta]:
        try:
            for page in obstore.list(self._store, prefix or None, offset=start_after or None, chunk_size=1000):
                for meta in page:
                    # obstore drops a trailing slash from its offset, so the first page may begin too early.
                    if meta["path"] > start_after:
                        with contextlib.suppress(UnsafeName):
                            yield ObjectMeta(check_key(meta["path"]), meta["size"], meta["last_modified"])
        except OBSTORE_ERRORS as error:
            raise from_obstore_error(self.name, error) from error

    def _delete_one(self, key: str) -> None:
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError as error:
            self._check_bucket(error)
        except OBSTORE_ERRORS as error:
            raise from_obstore_error(self.name, error) from error

    def _check_bucket(self, error: FileNotFoundError) -> None:
        # A missing bucket says nothing about the object: taking it for "no such record" would run a job twice.
        if is_missing_bucket(error):
            raise from_obstore_error(self.name, error) from error

    def _check_size(self, size_bytes: int, limit_bytes: int | None) -> None:
        if limit_bytes is not None and size_bytes > limit_bytes:
            raise VolumeCorrupt(f"volume {self.name}: an object of {size_bytes} bytes; at most {limit_bytes}")


class RemoteWriter:
    """A multipart upload. See workers.volumes.store.Writer."""

    def __init__(self, volume: str, file: obstore.WritableFile) -> None:
        self._volume = volume
        self._file = file
        self._open = True

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OBSTORE_ERRORS as error:
            raise from_obstore_error(self._volume, error) from error

    def close(self) -> None:
        if not self._open:
            raise VolumeUnavailable(f"volume {self._volume}: this writer is closed")
        self._open = False
        try:
            self._file.close()
        except OBSTORE_ERRORS as error:
            raise from_obstore_error(self._volume, error) from error

    def abort(self) -> None:
        if not self._open:
            return
        self._open = False
        # obstore has no abort(); leaving its context manager by an error is how it removes the upload. Where even that
        # fails, the first error is what the caller must see: the leftover is invisible and the bucket's rule takes it.
        with contextlib.suppress(*OBSTORE_ERRORS):
            self._file.__exit__(GeneratorExit, None, None)
