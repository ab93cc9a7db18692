"""Turns what the operating system and obstore raise into workers.errors. The only place where their errors have names.

Used by workers.volumes.local and .remote. The messages reach tenants, so they name the volume and never a path, host or
URL; the original error stays as `__cause__` for the log.
"""

from __future__ import annotations

import errno

from obstore import exceptions as obstore_errors

from workers.errors import ConfigurationError, VolumeCorrupt, VolumeError, VolumeFull, VolumeUnavailable, WorkerError

OBSTORE_ERRORS: tuple[type[BaseException], ...] = (
    obstore_errors.BaseError,
    FileNotFoundError,
    NotImplementedError,
    ValueError,
    TimeoutError,
    OSError,
)
"""Everything a call of obstore raises for reasons outside this process."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_IN_THE_WAY = frozenset({errno.ELOOP, errno.ENOTDIR})
_FULL_HINT = "free space or raise the quota; the job is tried again"

# S3-compatible servers have no common code for "no space left": Ceph, MinIO, SeaweedFS and RFC 4918 in this order.
_FULL_WORDS = ("QuotaExceeded", "StorageFull", "InsufficientStorage", "507 ")
_NO_BUCKET_WORDS = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")


def from_os_error(volume: str, error: OSError) -> VolumeError:
    """What an operating system error on a file:// volume means."""
    where = f"volume {volume}"
    if error.errno in _FULL:
        return VolumeFull(f"{where}: no space left", hint=_FULL_HINT)
    if error.errno == errno.EROFS:
        return VolumeUnavailable(f"{where}: its filesystem is read-only", hint="remount it writable")
    if error.errno in _DENIED:
        return VolumeUnavailable(f"{where}: permission denied", hint="its folders must belong to the workers' user")
    if error.errno in _IN_THE_WAY:
        hint = "something else wrote into this volume: remove the link"
        return VolumeCorrupt(f"{where}: a symbolic link or a file stands where an object's folder should be", hint=hint)
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return VolumeUnavailable(f"{where}: the filesystem answered {name}", hint="look at the kernel log of its host")


def from_obstore_error(volume: str, error: BaseException) -> WorkerError:
    """What an error of obstore means, where the caller did not expect it as an answer."""
    where = f"volume {volume}"
    text = str(error)
    match error:
        case obstore_errors.UnknownConfigurationKeyError():
            return ConfigurationError(f"{where}: an option that its store does not know: {text.splitlines()[0][:200]}")
        case obstore_errors.PermissionDeniedError() | obstore_errors.UnauthenticatedError():
            if _mentions(text, _FULL_WORDS):
                return VolumeFull(f"{where}: no space left", hint=_FULL_HINT)
            hint = "check its credentials and that they may put, get, list and delete"
            return VolumeUnavailable(f"{where}: access denied", hint=hint)
        case FileNotFoundError() | obstore_errors.GenericError() if isinstance(
            error, FileNotFoundError
        ) or is_missing_bucket(error):
            return VolumeUnavailable(f"{where}: its bucket or container does not exist", hint="create it")
        case obstore_errors.AlreadyExistsError() | obstore_errors.PreconditionError():
            return VolumeCorrupt(f"{where}: an object exists that should not")
        case obstore_errors.InvalidPathError():
            return VolumeCorrupt(f"{where}: holds an object whose name is invalid")
        case obstore_errors.NotSupportedError() | NotImplementedError():
            return VolumeError(f"{where}: its store cannot do this", hint="use a store with create-only puts")
        case TimeoutError():
            return VolumeUnavailable(f"{where}: no answer in time", hint="see whether its store is up and reachable")
        case OSError() if error.errno is not None:
            return from_os_error(volume, error)
        case _ if _mentions(text, _FULL_WORDS):
            return VolumeFull(f"{where}: no space left", hint=_FULL_HINT)
        case _:
            # GenericError, JoinError, NotModifiedError, ValueError: lost connections and 5xx answers arrive like this.
            return VolumeUnavailable(f"{where}: its store failed", hint="see whether its store is up and reachable")


def is_missing_bucket(error: BaseException) -> bool:
    """Whether "not found" is about the whole store rather than one object: then nothing is known about the object."""
    return _mentions(str(error), _NO_BUCKET_WORDS)


def _mentions(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)
