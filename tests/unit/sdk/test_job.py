"""Jobs: strict fields, plain parameters, and an id that names its work. `sandpool.job`."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandpool.errors import InvalidEnvelope, InvalidJob, UsageError
from sandpool.job import CommandJob, Extraction, Gpu, Group, PythonJob, SqlJob, digest, is_expired, new_job_id
from sandpool.wire import encode_job

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def sql(**changes: Any) -> SqlJob:
    return SqlJob(**{"database": "d", "sql": "select 1", **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""), ("id", "../x"), ("id", "a" * 65), ("id", "-a"), ("id", "a\n"),
        ("database", "Flights"), ("database", ""), ("volume", "a/b"),
        ("sql", "x" * (768 * 1024 + 1)), ("params", tuple(range(32_768))),
        ("timeout_s", 0.0), ("timeout_s", -1.0), ("timeout_s", float("nan")), ("timeout_s", 86_401.0),
        ("deadline", datetime(2026, 1, 1)),  # noqa: DTZ001 - the missing zone is the point
        ("max_rows", 0), ("max_bytes", -1), ("retention_s", 0), ("max_attempts", 0), ("max_attempts", 101),
        ("labels", {"A": "x"}), ("labels", {"a": "x" * 257}), ("labels", {f"k{n}": "" for n in range(17)}),
    ],
)  # fmt: skip
def test_a_field_out_of_its_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidJob) as raised:
        sql(**{field: value})
    assert raised.value.field == field
    assert isinstance(raised.value, UsageError)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2013, 1, 2), "2013-01-02"),
        (datetime(2013, 1, 2, 3, tzinfo=UTC), "2013-01-02T03:00:00+00:00"),
        (time(1, 2), "01:02:00"),
        (b"\x00\xff", "\\x00ff"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        ((1, [Decimal(2)]), [1, ["2"]]),
        ({1: b"a"}, {"1": "\\x61"}),
    ],
)
def test_python_values_become_the_databases_text(value: Any, plain: Any) -> None:
    assert sql(params=(value,)).params == (plain,)


@pytest.mark.parametrize(
    ("kind", "fields", "field", "says"),
    [
        (SqlJob, {"database": "d", "sql": 5}, "sql", "expected str, got int (5)"),
        (SqlJob, {"database": None, "sql": "s"}, "database", "expected str, got None (None)"),
        (SqlJob, {"database": "d", "sql": "s", "params": "abc"}, "params", "expected tuple or list, got str ('abc')"),
        (SqlJob, {"database": "d", "sql": "s", "params": {"a": 1}}, "params", "expected tuple or list, got dict"),
        (SqlJob, {"database": "d", "sql": "s", "timeout_s": "5"}, "timeout_s", "expected float, got str"),
        (SqlJob, {"database": "d", "sql": "s", "max_rows": 1.5}, "max_rows", "expected int | None, got float"),
        (SqlJob, {"database": "d", "sql": "s", "deadline": 5}, "deadline", "expected datetime | None, got int"),
        (SqlJob, {"database": "d", "sql": "s", "priority": "high"}, "priority", "'high'"),
        (SqlJob, {"database": "d", "sql": "s", "labels": {"a": 1}}, "labels", "expected str, got int"),
        (PythonJob, {"code": "1", "outputs": "*.png"}, "outputs", "expected tuple or list, got str"),
        (PythonJob, {"code": "1", "databases": "flights"}, "databases", "expected tuple or list, got str"),
        (CommandJob, {"argv": "ls -l"}, "argv", "expected tuple or list, got str ('ls -l')"),
        (CommandJob, {"argv": (1,)}, "argv", "expected str, got int"),
        (Group, {"name": "g", "size": "2"}, "group.size", "expected int, got str"),
        (Gpu, {"count": "1"}, "gpu.count", "expected int, got str"),
        (Extraction, {"column": 1}, "extraction.column", "expected str, got int"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_with_what_was_given(
    kind: Any, fields: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidJob) as caught:
        kind(**fields)
    assert caught.value.field == field
    assert says in str(caught.value)


def test_lists_may_stand_where_tuples_are_meant_and_later_changes_do_not_reach_the_job() -> None:
    outputs, labels = ["*.png"], {"a": "b"}
    job = PythonJob(code="1", outputs=outputs, labels=labels)  # type: ignore[arg-type]
    outputs.append("*.csv")
    labels["c"] = "d"
    assert (job.outputs, job.labels) == (("*.png",), {"a": "b"})


def test_text_that_is_no_unicode_is_a_typed_error() -> None:
    with pytest.raises(InvalidEnvelope, match="surrogate"):
        encode_job(SqlJob(database="d", sql="select '\ud800'"))


def test_a_value_without_json_form_is_refused() -> None:
    with pytest.raises(InvalidJob, match="object") as raised:
        sql(params=(1, object()))
    assert raised.value.field == "params[1]"


@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "id": st.from_regex(r"\A[a-z0-9]{1,20}\Z"),
            "priority": st.sampled_from(["interactive", "batch"]),
            "timeout_s": st.floats(0.1, 100),
            "max_attempts": st.integers(1, 100),
            "labels": st.just({"a": "b"}),
            "retention_s": st.integers(1, 10),
        },
    )
)
def test_how_soon_a_job_runs_is_not_part_of_what_it_does(changes: dict[str, Any]) -> None:
    assert digest(sql(**changes)) == digest(sql())


@pytest.mark.parametrize(
    "changes",
    [{"sql": "select 2"}, {"params": (1,)}, {"database": "e"}, {"writes": True}, {"max_rows": 1}, {"volume": "other"}],
)
def test_other_work_has_another_digest(changes: dict[str, Any]) -> None:
    assert digest(sql(**changes)) != digest(sql())


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest(sql(params=({"a": 1, "b": 2},))) == digest(sql(params=({"b": 2, "a": 1},)))


def test_new_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_job_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [value[:12] for value in ids] == sorted(value[:12] for value in ids)


def test_a_job_expires_at_its_deadline() -> None:
    assert not is_expired(sql(), NOW)
    assert not is_expired(sql(deadline=NOW + timedelta(seconds=1)), NOW)
    assert is_expired(sql(deadline=NOW), NOW)


def test_a_job_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        sql().sql = "select 2"  # type: ignore[misc]
    assert msgspec.structs.replace(sql(id="x"), sql="select 2").sql == "select 2"
