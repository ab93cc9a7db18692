"""What one policy file says: dialect, tables, columns, filters, masks, writes and ceilings.

`load_policy` turns TOML into a `Policy`; a mistyped key or an empty list is an error that names the key, never a silent
default. docs/policy.md is the reference for authors. Nothing here looks at a statement.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from workers.errors import ConfigurationError

Dialect = Literal["postgres", "duckdb", "sqlite"]
WriteKind = Literal["insert", "update", "delete", "merge"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Expression = Annotated[str, Field(min_length=1, max_length=4096)]
Names = Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]

TENANT = "{tenant}"
"""Where a filter or mask wants the tenant's name; it becomes a string literal in the syntax tree."""
EVERY_TABLE = "*"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TablePolicy(_Strict):
    """What queries may do with one table."""

    columns: Names | None = None
    """The only columns that may be used; None: every column that `deny` does not name."""
    deny: Names | None = None
    """Columns that may not be used at all."""
    filter: Expression | None = None
    """SQL boolean expression over this table's columns: only rows for which it is true exist for the query."""
    mask: dict[Name, Expression] | None = None
    """Column -> SQL expression that stands in its place wherever the table is read."""
    fence: bool | Literal["auto"] = "auto"
    """Whether conditions of the query may run before the filter: auto lets only those that cannot fail or tell."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.columns is not None and self.deny is not None:
            raise ValueError("columns and deny exclude each other: list the allowed columns or the denied ones")
        if self.mask is not None and not self.mask:
            raise ValueError("mask is empty: leave the key out")
        return self


class TableWrites(_Strict):
    """Kinds of write that jobs may declare on one table."""

    table: Name
    kinds: Annotated[tuple[WriteKind, ...], Field(min_length=1, strict=False)]


def _form(tables: Any) -> str:
    """Which form of `tables` a file uses; tells pydantic whose errors to report."""
    return "table" if isinstance(tables, dict) else "word" if isinstance(tables, str) else "list"


class Policy(_Strict):
    """One policy file. Ceilings that are None are not set by the policy."""

    dialect: Dialect | None = None
    """Where set, the policy answers only for this dialect."""
    mode: Literal["read-only", "writes"] = "read-only"
    schema_name: Annotated[str | None, Field(alias="schema", min_length=1)] = None
    """Where unqualified names of tables in this file belong; None: the catalog's first, else the dialect's own."""
    tables: Annotated[
        Annotated[Literal["all"], Tag("word")]
        | Annotated[Names, Tag("list")]
        | Annotated[dict[Name, TablePolicy], Tag("table")],
        Discriminator(_form),
    ]
    writes: Annotated[tuple[TableWrites, ...], Field(min_length=1, strict=False)] | None = None
    require_where: bool = True
    functions: Names | None = None
    """Further functions, by name or schema.name."""
    operators: Names | None = None
    types: Names | None = None
    max_rows: Annotated[int, Field(ge=1, le=2**53)] | None = None
    max_bytes: Annotated[int, Field(ge=1, le=2**53)] | None = None
    max_cost: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=86_400, strict=False)] | None = None

    @field_validator("tables")
    @classmethod
    def _some_table(cls, tables: Any) -> Any:
        if isinstance(tables, dict) and not tables:
            raise ValueError('no table is listed: list some, or write tables = "all"')
        return tables

    @model_validator(mode="after")
    def _writes_fit_mode(self) -> Self:
        if (self.mode == "writes") != (self.writes is not None):
            raise ValueError('mode = "writes" and a [[writes]] list belong together')
        known = self.table_policies
        for entry in self.writes or ():
            if entry.table not in known and EVERY_TABLE not in known:
                raise ValueError(f"writes names the table {entry.table!r}, which tables does not list")
        if len({entry.table for entry in self.writes or ()}) != len(self.writes or ()):
            raise ValueError("writes lists a table twice")
        return self

    @cached_property
    def version(self) -> str:
        """SHA-256 (hex) of the content: equal policies have equal versions."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()

    @cached_property
    def table_policies(self) -> dict[str, TablePolicy]:
        """Every form of `tables` as one mapping; the key `*` stands for every other table."""
        if self.tables == "all":
            return {EVERY_TABLE: TablePolicy()}
        if isinstance(self.tables, dict):
            return self.tables
        return {name: TablePolicy() for name in self.tables}

    @cached_property
    def uses_tenant(self) -> bool:
        """Whether verdicts differ between tenants."""
        texts = [t for p in self.table_policies.values() for t in (p.filter or "", *(p.mask or {}).values())]
        return any(TENANT in text for text in texts)


def load_policy(text: str) -> Policy:
    """The policy in a TOML text. Raises ConfigurationError naming every wrong key."""
    try:
        return Policy.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"policy: not TOML: {error}") from None
    except ValidationError as error:
        raise ConfigurationError("policy: " + "; ".join(_lines(error))) from None


_PLAIN_WORDS = {
    "extra_forbidden": "no such key; docs/policy.md lists them",
    "missing": "this key is required",
    "too_short": "the list is empty: name something or leave the key out",
    "tuple_type": "must be a list",
    "model_type": "must be a table of keys",
    "dict_type": "must be a table of keys",
    "string_too_short": "must not be empty",
}


def _lines(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for problem in error.errors(include_url=False, include_context=False):
        place = [str(part) for part in problem["loc"]]
        key = ".".join(part for i, part in enumerate(place) if not (i == 1 and place[0] == "tables"))
        message = _PLAIN_WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))
        if problem["type"] == "too_short" and problem["input"]:
            continue  # a list that is short only because its items, reported themselves, are wrong
        line = f"{key or 'file'}: {message}"
        if line not in lines:
            lines.append(line)
    return lines
