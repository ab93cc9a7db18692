"""Makes Arrow schemas from untrusted data inert: no extension type in them is ever handed to code of this process.

Why: Arrow looks up every extension name it meets in a process-wide registry and gives the type's own class the bytes
of its metadata. Libraries register classes there that unpickle them (CVE-2023-47248, CVE-2026-41486), and a reader has
no switch against it. So the name of the metadata key that triggers the look-up is altered, in a copy, unless all the
extensions named are ones that Arrow itself implements without running anything. What was an extension type is then its
storage type. Used by sandpool.results. Decodes no data; a damaged schema is left for Arrow to refuse.

Where such a key can be: in the schema message that begins an Arrow stream, and in Parquet's footer, base64-coded under
`ARROW:schema`.
"""

from __future__ import annotations

import base64
import binascii
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import pyarrow as pa

HARMLESS = frozenset({b"arrow.uuid", b"arrow.json", b"arrow.bool8"})
MAX_FOOTER_BYTES = 64 * 1024 * 1024

_KEY = b"ARROW:extension:name"
_INERT_KEY = b"Arrow.extension.name"
_SCHEMA_KEY = b"ARROW:schema"
_INERT_SCHEMA_KEY = b"Arrow.schema"
_MAGIC = b"PAR1"


def disarm_stream(data: bytes) -> bytes:
    """An Arrow IPC stream with the same rows and no dangerous extension type. Raises ValueError for anything else."""
    if data[:4] != b"\xff\xff\xff\xff":
        raise ValueError("not an Arrow stream")
    end = 8 + int.from_bytes(data[4:8], "little")
    if not 8 < end <= len(data):
        raise ValueError("an Arrow stream that ends inside its schema")
    # Only the first message is a schema; the rest is data, where the same bytes may be somebody's text.
    return disarm_message(data[:end]) + data[end:]


def disarm_message(message: bytes) -> bytes:
    """A schema message of the same length, harmless. Raises ValueError, pyarrow.ArrowException when it is no schema."""
    if _KEY not in message:
        return message
    inert = message.replace(_KEY, _INERT_KEY)
    schema = pa.ipc.read_schema(pa.py_buffer(inert))
    names = {name for field in schema for name in _extension_names(field)}
    return message if names <= HARMLESS else inert


@contextmanager
def disarm_parquet(file: IO[bytes], size_bytes: int) -> Iterator[IO[bytes]]:
    """`file` itself, at its start, when its footer is harmless; else a disarmed copy. Raises ValueError: no Parquet."""
    file.seek(max(0, size_bytes - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if len(tail) != 8 or tail[4:] != _MAGIC or not 0 < length <= min(size_bytes - 12, MAX_FOOTER_BYTES):
        raise ValueError("not a Parquet file with a plain footer")
    file.seek(size_bytes - 8 - length)
    footer = file.read(length)
    safe = disarm_footer(footer)
    file.seek(0)
    if safe == footer:
        yield file
        return
    with SpooledTemporaryFile(max_size=MAX_FOOTER_BYTES) as copy:
        shutil.copyfileobj(file, copy, 1024 * 1024)
        copy.seek(size_bytes - 8 - length)
        copy.write(safe)
        copy.seek(0)
        yield copy


def disarm_footer(footer: bytes) -> bytes:
    """A Parquet footer of the same length whose stored Arrow schema is harmless.

    Thrift's compact protocol writes the pair as 0x18 len key 0x18 len value 0x00. Anything else about the key (twice,
    another order, a second value, no base64) makes it unknown to Arrow, which then derives types from Parquet's own.
    """
    found = footer.count(_SCHEMA_KEY)
    if found == 0:
        return footer
    start, length = _value_after(footer, footer.index(_SCHEMA_KEY) + len(_SCHEMA_KEY))
    if found == 1 and length > 0 and footer[start + length : start + length + 1] == b"\x00":
        value = footer[start : start + length]
        try:
            message = base64.b64decode(value, validate=True)
            if base64.b64encode(message) == value:
                return footer[:start] + base64.b64encode(disarm_message(message)) + footer[start + length :]
        except (binascii.Error, ValueError, pa.ArrowException):
            # No schema that Arrow could use: fall through and hide it.
            return footer.replace(_SCHEMA_KEY, _INERT_SCHEMA_KEY)
    return footer.replace(_SCHEMA_KEY, _INERT_SCHEMA_KEY)


def _value_after(footer: bytes, position: int) -> tuple[int, int]:
    """Where the binary field that begins at `position` has its bytes, and how many; (0, 0): no such field here."""
    if footer[position : position + 1] != b"\x18":
        return 0, 0
    length = 0
    for index, byte in enumerate(footer[position + 1 : position + 6]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return position + 2 + index, length
    return 0, 0


def _extension_names(field: pa.Field[Any]) -> Iterator[bytes]:
    if field.metadata and _INERT_KEY in field.metadata:
        yield field.metadata[_INERT_KEY]
    kind: Any = field.type
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        yield from _extension_names(pa.field("value", kind.value_type))
    else:
        for index in range(kind.num_fields):
            yield from _extension_names(kind.field(index))
