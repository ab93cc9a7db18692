"""Tar headers of a layer, held to what an image may have. Used by `archive`.

tarfile reads extended headers whole into memory, follows one to the next by recursion, and gathers sparse maps until
they end: each of them is a bomb of gigabytes in a few KiB of a compressed layer. They are refused by their size, before
they are read. Sparse files no image tool writes.
"""

from __future__ import annotations

import tarfile
from typing import Any, NoReturn

from workers.images.errors import ArchiveInvalid

MAX_HEADER_BYTES = 256 * 1024
"""Long names and extended attributes are far smaller."""
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class BoundedHeader(tarfile.TarInfo):
    """For `tarfile.open(tarinfo=...)`. Raises ArchiveInvalid where tarfile would go on."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in HEADERS and not 0 <= self.size <= MAX_HEADER_BYTES:
            raise ArchiveInvalid(f"a header of {self.size} bytes", hint="export the image again")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found

    def _refuse_sparse(self, *_: Any) -> NoReturn:
        raise ArchiveInvalid("a sparse file", hint="export the image with tar files that are not sparse")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse
