"""Where bytes of a result go: standard output, or a file that appears whole or not at all.

Called by `sql` and `result`. A file is written beside its target and renamed at the end, so that no reader ever sees
half of it and an interrupted call leaves the old one as it was.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def open_destination(path: Path | None) -> Iterator[BinaryIO]:
    """A binary stream; None: standard output. Raises OSError as the file system does."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = path.resolve()
    if target.exists() and not target.is_file():
        # /dev/null, a pipe or a folder: renaming a file over it would replace what it is.
        with target.open("wb") as special:
            yield special
        return
    descriptor, draft = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(draft, _mode_for(target))
        os.replace(draft, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def _mode_for(target: Path) -> int:
    """The mode of the file that is replaced, or what a new file would get here."""
    if target.exists():
        return target.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
