"""PostgreSQL's own parser and printer (libpg_query through postgast), with trees as plain dicts.

`parse` gives the raw parse tree as libpg_query's JSON, without positions; `print_tree` is its inverse. Dicts instead of
postgast's protobuf objects, because Python's protobuf refuses trees deeper than 100 messages (25 nested subqueries) and
because two dicts can be compared. The printer takes protobuf bytes only, so they are encoded here.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

import msgspec
from postgast import pg_query_pb2
from postgast.native import PgQueryProtobuf, lib

from workers.sql.policy.rules import deny, shown

Tree = dict[str, Any]

# A quote inside a JSON string is escaped, so this can only meet real keys.
_POSITIONS = re.compile(
    rb',"(?:location|list_start|list_end|rexpr_list_start|rexpr_list_end|stmt_location|stmt_len)":-?\d+'
)
_FIRST_POSITIONS = re.compile(
    rb'(?<=\{)"(?:location|list_start|list_end|rexpr_list_start|rexpr_list_end|stmt_location|stmt_len)":-?\d+,?'
)
# 't'::boolean would be printed as the constant true, which is another tree and names its column otherwise.
_SHORT_BOOLEANS = re.compile(
    rb'("TypeCast":\{"arg":\{"A_Const":\{"sval":\{"sval":"[tf])("\}\}\},"typeName":\{"names":\['
    rb'(?:\{"String":\{"sval":"pg_catalog"\}\},)?\{"String":\{"sval":"bool"\}\}\])'
)
_TREE = msgspec.json.Decoder(dict)


def parse(text: str) -> list[Tree]:
    """The statements of a text, with 't'::boolean as 'true'::boolean. Raises Denied when PostgreSQL cannot parse it."""
    result = lib.pg_query_parse(text.encode())
    try:
        if result.error:
            message = result.error.contents.message.decode("utf-8", "replace")
            if "memory exhausted" in message or "stack depth" in message:
                deny("statement.too-complex", "the statement nests too deeply; split it")
            deny("statement.syntax", f"not PostgreSQL: {shown(message, 200)}")
        raw: bytes = result.parse_tree
    finally:
        lib.pg_query_free_parse_result(result)
    raw = _FIRST_POSITIONS.sub(b"", _POSITIONS.sub(b"", raw))
    if b'"bool"' in raw:
        raw = _SHORT_BOOLEANS.sub(_spell_out, raw)
    return [entry["stmt"] for entry in _TREE.decode(raw)["stmts"] if "stmt" in entry]


def _spell_out(match: re.Match[bytes]) -> bytes:
    return match[1] + (b"rue" if match[1].endswith(b"t") else b"alse") + match[2]


def print_tree(statement: Tree) -> str:
    """The text of one statement, as libpg_query prints it."""
    data = _encode(_PARSE_RESULT, {"version": _VERSION, "stmts": [{"stmt": statement}]})
    buffer = ctypes.create_string_buffer(data, len(data))
    result = lib.pg_query_deparse_protobuf(PgQueryProtobuf(len=len(data), data=ctypes.addressof(buffer)))
    try:
        if result.error:
            deny(
                "print.fidelity",
                f"cannot print it again: {shown(result.error.contents.message.decode('utf-8', 'replace'), 200)}",
            )
        text: bytes = result.query
        return text.decode()
    finally:
        lib.pg_query_free_deparse_result(result)


# --- JSON form -> protobuf bytes -------------------------------------------------------------------------------------

_MESSAGE, _STRING, _ENUM, _BOOL, _INT, _DOUBLE = range(6)
_Field = tuple[bytes, int, Any]
_Table = dict[str, _Field]
_TABLES: dict[str, _Table] = {}


def _table(descriptor: Any) -> _Table:
    known = _TABLES.get(descriptor.full_name)
    if known is not None:
        return known
    table = _TABLES[descriptor.full_name] = {}
    extra: Any
    for field in descriptor.fields:
        if field.message_type is not None:
            kind, wire, extra = _MESSAGE, 2, _table(field.message_type)
        elif field.enum_type is not None:
            kind, wire, extra = _ENUM, 0, {v.name: _varint(v.number) for v in field.enum_type.values}
        elif field.type == field.TYPE_STRING:
            kind, wire, extra = _STRING, 2, None
        elif field.type == field.TYPE_BOOL:
            kind, wire, extra = _BOOL, 0, None
        elif field.type == field.TYPE_DOUBLE:
            kind, wire, extra = _DOUBLE, 1, None
        else:
            kind, wire, extra = _INT, 0, None
        table[field.json_name] = (_varint(field.number << 3 | wire), kind, extra)
    return table


def _varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode(table: _Table, message: Tree) -> bytes:
    parts: list[bytes] = []
    for key, value in message.items():
        tag, kind, extra = table[key]
        if kind == _MESSAGE:
            for item in value if type(value) is list else (value,):
                body = _encode(extra, item)
                size = len(body)
                parts += (tag, _SMALL[size] if size < 128 else _varint(size), body)
        elif kind == _STRING:
            for item in value if type(value) is list else (value,):
                body = item.encode()
                size = len(body)
                parts += (tag, _SMALL[size] if size < 128 else _varint(size), body)
        elif kind == _ENUM:
            parts += (tag, extra[value])
        elif kind == _BOOL:
            parts += (tag, b"\x01" if value else b"\x00")
        elif kind == _INT:
            parts += (tag, _varint(value))
        else:
            raise ValueError(key)
    return b"".join(parts)


_SMALL = tuple(bytes((number,)) for number in range(128))
_PARSE_RESULT = _table(pg_query_pb2.ParseResult.DESCRIPTOR)
_VERSION = 180004
