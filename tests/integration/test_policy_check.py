"""`sandpool policy check` as a shell would use it: one answer for one line, at once, whatever the line holds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import policy_corpus as corpus

COMMAND = [sys.executable, "-c", "from cluster.cli import main; main()", "policy", "check"]


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A running check, for all of the file: no question may be the last that it answers."""
    with start() as running:
        yield running
        running.kill()


def start() -> subprocess.Popen[bytes]:
    """A check of the corpus's restricted postgres policy."""
    options = ["--policy", str(corpus.CORPUS / "restricted.toml"), "--dialect", "postgres"]
    schema = ["--schema", str(corpus.CORPUS / "postgres_schema.sql")]
    command = [*COMMAND, *options, *schema]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ask(process: subprocess.Popen[bytes], line: bytes) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + b"\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    assert set(answer) == {"id", "verdict", "rule", "reason", "sql"}
    return answer


def question(number: Any, text: str, **more: Any) -> bytes:
    return json.dumps({"id": number, "sql": text, **more}).encode()


def test_each_line_is_answered_before_the_next_is_sent(process: subprocess.Popen[bytes]) -> None:
    allowed = ask(process, question("a", "SELECT id FROM orders"))
    assert (allowed["id"], allowed["verdict"], allowed["rule"]) == ("a", "allow", "")
    assert "orders.tenant = 'tenant'" in allowed["sql"]
    assert "orders.tenant = 'o''x'" in ask(process, question(1, "SELECT id FROM orders", tenant="o'x"))["sql"]
    denied = ask(process, question(2, "SELECT email FROM customers"))
    assert (denied["id"], denied["verdict"], denied["rule"], denied["sql"]) == (2, "deny", "column.denied", "")


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"[]", b"1", b"{}", b'{"id": 1}', b'{"id": 1, "sql": 5}', b'{"id": 1, "sql": null}', b"\xff\xfe",
    b"[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_no_question_is_denied_and_the_next_is_answered(
    process: subprocess.Popen[bytes], line: bytes
) -> None:
    assert ask(process, line)["rule"] == "input.invalid"
    assert ask(process, question(2, "SELECT 1"))["verdict"] == "allow"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT '" + "x" * 1_000_000 + "'",
        "SELECT " + "(" * 1000 + "1" + ")" * 1000,
        "SELECT " + "(SELECT " * 1000 + "1" + ")" * 1000,
        "SELECT " + "ARRAY[" * 30 + "1" + "]" * 30 + "; SELECT 1",
        "SELECT " + "date(" * 60 + "'x'" + ")" * 60 + " FROM secrets",
        "SELECT " + "+".join(["1"] * 30_000) + " FROM secrets",
        "SELECT " + "- " * 30_000 + "1 FROM secrets",
        " UNION ALL ".join(["SELECT 1"] * 3000) + " UNION SELECT 1 FROM secrets",
        "SELECT 1 WHERE " + " OR ".join(["1 = 1"] * 5000) + " OR EXISTS (SELECT 1 FROM secrets)",
        "SELECT '\ud800'",
        "SELECT 'a\0b'",
    ],
)
def test_monsters_are_denied_quickly(process: subprocess.Popen[bytes], text: str) -> None:
    assert ask(process, question(0, "SELECT 1"))["verdict"] == "allow"
    started = time.monotonic()
    assert ask(process, question(1, text))["verdict"] == "deny"
    assert time.monotonic() - started < 5
    assert ask(process, question(2, "SELECT 2"))["verdict"] == "allow"


def test_the_end_of_input_is_the_end_and_exits_with_0() -> None:
    with start() as process:
        out, _ = process.communicate(question(1, "SELECT 1") + b"\n\n" + question(2, "SELECT 2"), timeout=60)
    assert [json.loads(line)["id"] for line in out.splitlines()] == [1, 2]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("policy", "schema"),
    [
        ("tables = []", "CREATE TABLE t (a int);"),
        ('tables = "all"', "CREATE TABLE"),
        ('dialect = "sqlite"\ntables = "all"', ""),
    ],
)
def test_a_wrong_policy_or_schema_exits_with_2_and_says_why(tmp_path: Path, policy: str, schema: str) -> None:
    (tmp_path / "p.toml").write_text(policy)
    (tmp_path / "s.sql").write_text(schema)
    files = ["--policy", str(tmp_path / "p.toml"), "--schema", str(tmp_path / "s.sql")]
    ended = subprocess.run(
        [*COMMAND, *files, "--dialect", "postgres"], input=b"", capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert b"policy" in ended.stderr or b"schema" in ended.stderr
