"""Admission takes the lowest limit and refuses with a rule."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cluster.admission import Admitted, DatabaseLimits, Refused, TenantRules, admit, denied
from sandpool.job import SqlJob
from sandpool.outcome import Ending, Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TENANT = TenantRules(frozenset({"flights"}), ("results",), max_timeout_s=120, max_attempts=5)
LIMITS = {"flights": DatabaseLimits(max_rows=1000, max_bytes=10_000, max_cost=None, statement_timeout_s=300)}


def job(**fields: object) -> SqlJob:
    return SqlJob(**{"database": "flights", "sql": "select 1", **fields})  # type: ignore[arg-type]


def test_unknown_and_forbidden_databases_are_answered_alike() -> None:
    other = {**LIMITS, "secret": LIMITS["flights"]}
    forbidden = admit(job(database="secret"), TENANT, other, NOW)
    unknown = admit(job(database="nowhere"), TENANT, other, NOW)
    assert isinstance(forbidden, Refused) and isinstance(unknown, Refused)
    assert forbidden.error.code == unknown.error.code == "database.unknown"
    assert forbidden.error.message.replace("secret", "nowhere") == unknown.error.message


def test_a_volume_without_a_right_is_denied_by_rule() -> None:
    answer = admit(job(volume="other"), TENANT, LIMITS, NOW)
    assert isinstance(answer, Refused)
    assert answer.ending is Ending.Denied and answer.verdict is not None and answer.verdict.rule == "volume.unknown"


def test_an_expired_job_ends_timed_out_before_anything_else() -> None:
    answer = admit(job(database="nowhere", deadline=NOW), TENANT, LIMITS, NOW)
    assert isinstance(answer, Refused) and answer.ending is Ending.TimedOut and answer.error.code == "job.expired"


def test_the_deadline_bounds_the_run_time() -> None:
    answer = admit(job(timeout_s=60.0, deadline=NOW + timedelta(seconds=7)), TENANT, LIMITS, NOW)
    assert isinstance(answer, Admitted) and answer.timeout_s == 7


@given(
    timeout_s=st.floats(0.1, 86_400),
    max_rows=st.one_of(st.none(), st.integers(1, 10**6)),
    max_bytes=st.one_of(st.none(), st.integers(1, 10**9)),
    max_attempts=st.integers(1, 100),
)
def test_no_job_raises_a_limit(
    timeout_s: float, max_rows: int | None, max_bytes: int | None, max_attempts: int
) -> None:
    wish = job(timeout_s=timeout_s, max_rows=max_rows, max_bytes=max_bytes, max_attempts=max_attempts)
    answer = admit(wish, TENANT, LIMITS, NOW)
    assert isinstance(answer, Admitted)
    assert answer.timeout_s <= min(timeout_s, TENANT.max_timeout_s, LIMITS["flights"].statement_timeout_s)
    assert answer.max_rows <= LIMITS["flights"].max_rows and answer.max_rows <= (max_rows or 10**9)
    assert answer.max_bytes <= LIMITS["flights"].max_bytes and answer.max_bytes <= (max_bytes or 10**12)
    assert answer.max_attempts <= min(max_attempts, TENANT.max_attempts)


def test_a_denied_statement_keeps_the_rule() -> None:
    refusal = denied(Verdict(False, "table.unlisted", "no"))
    assert refusal.ending is Ending.Denied and refusal.error.code == "table.unlisted"
