"""The corpora of honest and hostile statements that policy tests share, with the schemas and policies they are judged
by."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import get_args

from workers.sql.policy import Catalog, Dialect, Policy, load_policy
from workers.sql.policy.ddl import catalog_from_ddl

CORPUS = Path(__file__).parent.parent / "unit" / "policy" / "corpus"
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
TENANT = "acme"


def text_of(name: str) -> str:
    """One file of the corpus."""
    return (CORPUS / name).read_text(encoding="utf-8")


@cache
def catalog(dialect: Dialect) -> Catalog:
    """The catalog of the corpus."""
    return catalog_from_ddl(text_of(f"{dialect}_schema.sql"), dialect)


@cache
def restricted(dialect: Dialect) -> Policy:
    """Filters, a mask, a denied column, a list of allowed columns, 500 rows."""
    return load_policy(text_of("restricted.toml" if dialect == "postgres" else "restricted_embedded.toml"))


@cache
def everything() -> Policy:
    """Every table, 500 rows."""
    return load_policy('tables = "all"\nmax_rows = 500')


def honest(dialect: Dialect) -> list[str]:
    """Statements that must pass, one a line."""
    return [line for line in text_of(f"{dialect}_honest.sql").splitlines() if line]


def hostile(dialect: Dialect) -> list[tuple[str, str]]:
    """(rule or its beginning, statement that must be denied by it)."""
    lines = text_of(f"{dialect}_hostile.jsonl").splitlines()
    return [(entry["rule"], entry["sql"]) for entry in map(json.loads, lines)]
