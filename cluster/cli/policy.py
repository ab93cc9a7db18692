"""`sandpool policy check`: statements against a policy file, without a server.

Reads JSON lines `{"id", "sql"}` (optionally `"tenant"`, `"writes"`) from stdin and answers each with one line as soon
as it is judged:
`{"id", "verdict": "allow" | "deny", "rule", "reason", "sql"}`. A line that is no such object is denied with
`input.invalid`.
Uses the same Judge as the scheduler, so that a hostile statement costs one parser process and not the command.
"""

from __future__ import annotations

import asyncio
import json
import sys
from math import isfinite
from pathlib import Path
from typing import IO, Any

import click

from workers.errors import ConfigurationError
from workers.sql.judge import Judge
from workers.sql.policy import Catalog, Dialect, Policy, load_policy
from workers.sql.policy.ddl import catalog_from_ddl

MAX_LINE_BYTES = 8 << 20
"""A longer line is answered without being kept: JSON may write one byte of SQL as six."""


@click.group()
def policy() -> None:
    """Check statements against a policy without a server."""


@policy.command()
@click.option(
    "--policy",
    "policy_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Policy file (TOML).",
)
@click.option(
    "--dialect", required=True, type=click.Choice(["postgres", "duckdb", "sqlite"]), help="Dialect of the statements."
)
@click.option(
    "--schema",
    "schema_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CREATE TABLE statements of the database.",
)
@click.option(
    "--tenant", default="tenant", show_default=True, help="Tenant for {tenant} in filters, where a line names none."
)
@click.option("--json", "as_json", is_flag=True, hidden=True, help="Answers are always JSON lines.")
def check(policy_path: Path, dialect: Dialect, schema_path: Path | None, tenant: str, as_json: bool) -> None:  # noqa: ARG001
    """Judge JSON lines {"id", "sql"} from stdin; one answer line each, as they are read.

    Exit code 0 when every line was answered, whatever the verdicts; 2 when the policy or the schema cannot be used.
    """
    rules = load_policy(_text(policy_path))
    if rules.dialect is not None and rules.dialect != dialect:
        raise ConfigurationError(f"policy: dialect: the policy is for {rules.dialect}, not for {dialect}")
    catalog = catalog_from_ddl(_text(schema_path), dialect) if schema_path is not None else None
    asyncio.run(_answer_lines(sys.stdin.buffer, sys.stdout, rules, catalog, dialect, tenant))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8") from None


async def _answer_lines(
    lines: IO[bytes], out: IO[str], rules: Policy, catalog: Catalog | None, dialect: Dialect, tenant: str
) -> None:
    async with Judge() as judge:
        while True:
            line = await asyncio.to_thread(_read_line, lines)
            if line == b"":
                return
            if line is not None and not line.strip():
                continue
            answer = await _answer(line, judge, rules, catalog, dialect, tenant)
            out.write(json.dumps(answer) + "\n")
            out.flush()


def _read_line(lines: IO[bytes]) -> bytes | None:
    """The next line, b"" at the end, None for one that is too long (read to its end and forgotten)."""
    line = lines.readline(MAX_LINE_BYTES)
    if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
        return line
    while line and not line.endswith(b"\n"):
        line = lines.readline(MAX_LINE_BYTES)
    return None


async def _answer(
    line: bytes | None, judge: Judge, rules: Policy, catalog: Catalog | None, dialect: Dialect, tenant: str
) -> dict[str, Any]:
    if line is None:
        return _denied(None, "text.too-long", f"the line has more than {MAX_LINE_BYTES} bytes; send shorter statements")
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):
        return _denied(None, "input.invalid", "the line is not JSON; send one object with id and sql per line")
    if not isinstance(asked, dict):
        return _denied(None, "input.invalid", "the line is not a JSON object; send one with id and sql per line")
    number, text = asked.get("id"), asked.get("sql")
    if isinstance(number, float) and not isfinite(number):
        return _denied(None, "input.invalid", "id must be a finite number, a text or another JSON value")
    asked_tenant, writes = asked.get("tenant", tenant), asked.get("writes", rules.writes is not None)
    if not isinstance(text, str) or not isinstance(asked_tenant, str) or not isinstance(writes, bool):
        return _denied(number, "input.invalid", "sql and tenant must be strings and writes true or false")
    verdict = await judge.judge(text, dialect, rules, catalog, asked_tenant, writes=writes)
    answer = _denied(number, verdict.rule, verdict.reason)
    if verdict.allowed:
        answer |= {"verdict": "allow", "sql": verdict.sql}
    return answer


def _denied(number: Any, rule: str, reason: str) -> dict[str, Any]:
    return {"id": number, "verdict": "deny", "rule": rule, "reason": reason, "sql": ""}
