"""Every error of obstore and of the filesystem becomes one of ours, and none of them shows a path or a host."""

from __future__ import annotations

import errno
import inspect

import pytest
from obstore import exceptions as obstore_errors

from workers.errors import (
    ConfigurationError,
    VolumeCorrupt,
    VolumeError,
    VolumeFull,
    VolumeUnavailable,
    WorkerError,
)
from workers.volumes.translation import OBSTORE_ERRORS, from_obstore_error, from_os_error

SECRET = "error performing PUT http://10.1.2.3:9000/bucket/t/j\n\nDebug source:\n/srv/secret/path"  # what obstore says

OBSTORE: dict[type[Exception], type[WorkerError]] = {
    obstore_errors.BaseError: VolumeUnavailable,
    obstore_errors.GenericError: VolumeUnavailable,
    obstore_errors.JoinError: VolumeUnavailable,
    obstore_errors.NotModifiedError: VolumeUnavailable,
    obstore_errors.PermissionDeniedError: VolumeUnavailable,
    obstore_errors.UnauthenticatedError: VolumeUnavailable,
    obstore_errors.InvalidPathError: VolumeCorrupt,
    obstore_errors.AlreadyExistsError: VolumeCorrupt,
    obstore_errors.PreconditionError: VolumeCorrupt,
    obstore_errors.NotSupportedError: VolumeError,
    obstore_errors.UnknownConfigurationKeyError: ConfigurationError,
    NotImplementedError: VolumeError,
    FileNotFoundError: VolumeUnavailable,
    TimeoutError: VolumeUnavailable,
    ValueError: VolumeUnavailable,
}


def test_every_exception_class_of_obstore_is_in_this_table() -> None:
    public = {value for _, value in inspect.getmembers(obstore_errors) if inspect.isclass(value)}
    # NotFoundError is never raised: obstore raises the built-in FileNotFoundError instead.
    assert {error.__name__ for error in public} - {"NotFoundError"} <= {error.__name__ for error in OBSTORE}


@pytest.mark.parametrize(("vendor", "ours"), OBSTORE.items(), ids=lambda value: value.__name__)
def test_an_obstore_error_becomes_ours(vendor: type[Exception], ours: type[WorkerError]) -> None:
    error = vendor(SECRET)
    assert isinstance(error, OBSTORE_ERRORS)
    translated = from_obstore_error("results", error)
    assert type(translated) is ours
    assert "results" in translated.message
    assert translated.hint or ours in (VolumeCorrupt, ConfigurationError)
    if ours is not ConfigurationError:
        assert "10.1.2.3" not in translated.message + translated.hint
    assert "/srv" not in translated.message + translated.hint


@pytest.mark.parametrize(
    "words", ["<Code>QuotaExceeded</Code>", "XMinioStorageFull", "InsufficientStorage", "status: 507 Insufficient"]
)
@pytest.mark.parametrize("vendor", [obstore_errors.GenericError, obstore_errors.PermissionDeniedError])
def test_a_full_store_is_told_from_a_broken_one(vendor: type[Exception], words: str) -> None:
    assert type(from_obstore_error("results", vendor(f"Generic S3 error: {words}"))) is VolumeFull


@pytest.mark.parametrize(
    ("number", "ours"),
    [
        (errno.ENOSPC, VolumeFull),
        (errno.EDQUOT, VolumeFull),
        (errno.EFBIG, VolumeFull),
        (errno.EROFS, VolumeUnavailable),
        (errno.EACCES, VolumeUnavailable),
        (errno.EPERM, VolumeUnavailable),
        (errno.ELOOP, VolumeCorrupt),
        (errno.ENOTDIR, VolumeCorrupt),
        (errno.EIO, VolumeUnavailable),
        (errno.EMFILE, VolumeUnavailable),
        (errno.ESTALE, VolumeUnavailable),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_a_filesystem_error_becomes_ours_without_its_path(number: int, ours: type[VolumeError]) -> None:
    translated = from_os_error("results", OSError(number, "text", "/srv/secret/path"))
    assert type(translated) is ours
    assert translated.hint
    assert "/srv" not in translated.message + translated.hint
    assert type(from_obstore_error("results", OSError(number, "text"))) is ours
