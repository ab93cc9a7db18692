"""Every vendor error becomes one of ours, and no message shows a row value, a host or a DSN."""

from __future__ import annotations

import socket
from typing import Any

import adbc_driver_manager
import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import (
    DatabaseRefusesRole,
    DatabaseUnavailable,
    InvalidParameter,
    StatementConflict,
    StatementFailed,
    StatementTimedOut,
    UnrepresentableValue,
    VolumeFull,
    WorkerError,
)
from workers.sql.faults import condition, from_sqlstate, safe_message, translate

SECRET = "123-45-6789"


def _tree(root: type[BaseException]) -> list[type[BaseException]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


SERVER_ERRORS = [cls for cls in _tree(asyncpg.PostgresError) if getattr(cls, "sqlstate", None)]
CLIENT_ERRORS = [*_tree(asyncpg.InterfaceError), *_tree(asyncpg.InternalClientError)]


def _server_error(cls: type[BaseException], message: str, **fields: Any) -> BaseException:
    error = cls(message)
    for name, value in {"severity": "ERROR", "message": message, **fields}.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize("cls", SERVER_ERRORS, ids=lambda cls: cls.__name__)
def test_every_server_error_is_translated_without_its_values(cls: type[BaseException]) -> None:
    message = f'something "{SECRET}" at {SECRET!r}'
    error = translate(_server_error(cls, message, detail=SECRET, hint=SECRET), "SELECT 1")
    assert isinstance(error, WorkerError)
    assert type(error) is not WorkerError
    assert SECRET not in repr(error.info())


@pytest.mark.parametrize("cls", CLIENT_ERRORS, ids=lambda cls: cls.__name__)
def test_every_client_error_is_translated(cls: type[BaseException]) -> None:
    error = translate(cls(SECRET))
    assert isinstance(error, WorkerError)
    assert SECRET not in repr(error.info())


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionRefusedError(111, "connect to db.internal:5432 failed"),
        ConnectionResetError(),
        OSError("network"),
        socket.gaierror(-2, "db.internal"),
        asyncpg.ConnectionDoesNotExistError("connection was closed"),
        asyncpg.InterfaceError("connection is closed"),
    ],
)
def test_network_trouble_is_unavailable_and_names_no_host(error: Exception) -> None:
    translated = translate(error)
    assert isinstance(translated, DatabaseUnavailable)
    assert translated.retry
    assert "internal" not in repr(translated.info())


@pytest.mark.parametrize("cls", _tree(adbc_driver_manager.Error), ids=lambda cls: cls.__name__)
def test_every_bulk_error_is_translated(cls: Any) -> None:
    # One class of ADBC's knows its own status code.
    status = (
        {} if cls is adbc_driver_manager.NotSupportedError else {"status_code": adbc_driver_manager.AdbcStatusCode.IO}
    )
    plain = translate(cls(f"Query was: {SECRET}", **status))
    coded = translate(cls(f"Query was: {SECRET}", **status, sqlstate="40001"))
    assert isinstance(plain, WorkerError)
    assert isinstance(coded, StatementConflict)
    assert SECRET not in repr((plain.info(), coded.info()))


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("08006", DatabaseUnavailable),
        ("53300", DatabaseUnavailable),
        ("57P01", DatabaseUnavailable),
        ("57P03", DatabaseUnavailable),
        ("40001", StatementConflict),
        ("40P01", StatementConflict),
        ("55P03", StatementConflict),
        ("28P01", DatabaseRefusesRole),
        ("28000", DatabaseRefusesRole),
        ("3D000", DatabaseRefusesRole),
        ("42P01", StatementFailed),
        ("53400", StatementFailed),
        ("22012", StatementFailed),
        ("ZZ999", StatementFailed),
    ],
)
def test_a_sqlstate_decides_what_a_failure_means(sqlstate: str, expected: type[WorkerError]) -> None:
    error = from_sqlstate(sqlstate, "whatever", "")
    assert type(error) is expected
    assert error.sqlstate == sqlstate


def test_a_cancelled_statement_is_a_timeout_only_when_the_server_says_so() -> None:
    assert type(from_sqlstate("57014", "canceling statement due to statement timeout", "")) is StatementTimedOut
    assert type(from_sqlstate("57014", "canceling statement due to user request", "")) is DatabaseUnavailable


def test_words_of_the_statement_are_shown_and_words_of_rows_are_not() -> None:
    sql = 'SELECT "nope" FROM people'
    assert safe_message("42703", 'column "nope" does not exist', sql) == 'column "nope" does not exist'
    assert SECRET not in safe_message("42P01", f'relation "{SECRET}" does not exist', sql)


def test_data_errors_name_the_type_and_the_constraint() -> None:
    message = f'invalid input syntax for type double precision: "{SECRET}"'
    assert safe_message("22P02", message, "") == "invalid text representation for type double precision"
    assert safe_message("23514", "whatever", "", "positive_balance").endswith('constraint "positive_balance"')


@settings(deadline=None)
@given(st.sampled_from(sorted({cls.sqlstate for cls in SERVER_ERRORS})), st.text(max_size=30))  # type: ignore[attr-defined]
def test_no_quoted_value_passes_whatever_the_state(sqlstate: str, around: str) -> None:
    for quote in "\"'":
        text = f"{around.replace(quote, '')} {quote}{SECRET}{quote}"
        assert SECRET not in from_sqlstate(sqlstate, text, "SELECT 1").message


def test_a_parameter_that_the_server_cannot_read_is_named_by_position() -> None:
    server = _server_error(
        asyncpg.InvalidTextRepresentationError, f'invalid "{SECRET}"', context="unnamed portal parameter $3 = '...'"
    )
    client = asyncpg.DataError(f"invalid input for query argument $2: {SECRET!r} (an integer is required)")
    for error, position in ((server, "$3"), (client, "$2")):
        translated = translate(error, "SELECT $1, $2, $3")
        assert isinstance(translated, InvalidParameter)
        assert position in translated.message
        assert SECRET not in repr(translated.info())


def test_our_own_errors_pass_unchanged_and_text_that_is_no_utf8_is_unrepresentable() -> None:
    ours = VolumeFull("full")
    assert translate(ours) is ours
    assert isinstance(translate(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")), UnrepresentableValue)


def test_conditions_have_plain_names() -> None:
    assert condition("22012") == "division by zero"
    assert condition("ZZ999") == "SQLSTATE ZZ999"
