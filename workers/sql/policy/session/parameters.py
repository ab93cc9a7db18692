"""Types that a client may declare for its parameters (the Parse message of the extended protocol).

Called by the broker before a Parse message goes to the server. A parameter of type regclass would turn a number into
the name of a hidden table (`SELECT $1::text`), one of a type of the database would tell that type's name in an error:
such declarations are erased, so that the server takes the type from the statement, which was checked.
"""

from __future__ import annotations

import struct

_ERASED = frozenset({
    24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191,  # regproc, regprocedure, ..., regcollation
    1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192,  # arrays of them
    1033, 1034,  # aclitem
})  # fmt: skip
_FIRST_OF_USERS = 16384
_COUNT = struct.Struct("!H")


def plain_parameter_types(types: bytes) -> bytes:
    """The count and object ids of a Parse message, with 0 for each that could tell names. What is no such list comes
    back as it is, for the server to refuse."""
    if len(types) < _COUNT.size or len(types) != _COUNT.size + 4 * _COUNT.unpack_from(types)[0]:
        return types
    oids = struct.unpack_from(f"!{(len(types) - _COUNT.size) // 4}I", types, _COUNT.size)
    plain = [0 if oid in _ERASED or oid >= _FIRST_OF_USERS else oid for oid in oids]
    return types[: _COUNT.size] + struct.pack(f"!{len(plain)}I", *plain)
