"""Settings of a session change nothing of what its policy's filters and masks mean."""

from __future__ import annotations

import pytest

from workers.sql.policy import load_policy
from workers.sql.policy.ddl import catalog_from_ddl
from workers.sql.policy.session import Answer, Own, Refuse, SessionFacts, judge_session, judge_startup
from workers.sql.policy.session.settings import HELD
from workers.sql.spec import PINNED_SETTINGS

CATALOG = catalog_from_ddl(
    "CREATE TABLE public.events (id int, owner text, day date, at timestamptz, span interval, data bytea, code text)",
    "postgres",
)
INDEPENDENT = (
    "owner = {tenant}", "id > 3 AND owner IN ('a', 'b')", "lower(code) LIKE 'x%' OR id IS NULL", "id::text <> owner",
    "CASE WHEN id = 1 THEN 'yes' ELSE 'no' END = owner",
)  # fmt: skip
DEPENDENT = (
    "at < '2024-06-01'", "day <= current_date", "at <= now()", "'2024-06-01'::timestamptz > at", "day < '02/03/2024'",
    "span < '-1 2:03'", "to_char(at, 'YYYY') = '2024'", "data::text LIKE 'x%'", "id IN (SELECT 1)",
    "extract(hour FROM at) < 9", "owner = ('2024-06-01'::date)::text",
)  # fmt: skip


def policy(expression: str, *, is_mask: bool = False) -> str:
    kept = f'mask = {{code = "{expression}"}}' if is_mask else f'filter = "{expression}"'
    return f"[tables.events]\n{kept}\n"


def ask(text: str, expression: str, *, is_mask: bool = False) -> object:
    return judge_session(text, SessionFacts(), load_policy(policy(expression, is_mask=is_mask)), CATALOG, "acme")


@pytest.mark.parametrize("is_mask", [False, True])
@pytest.mark.parametrize("expression", DEPENDENT)
def test_what_an_expression_may_depend_on_cannot_be_changed(expression: str, is_mask: bool) -> None:
    for name, value in (("timezone", "Asia/Tokyo"), ("datestyle", "DMY"), ("intervalstyle", "sql_standard")):
        refused = ask(f"SET {name} TO '{value}'", expression, is_mask=is_mask)
        assert isinstance(refused, Refuse)
        assert refused.rule == "session.setting"
        assert isinstance(ask(f"SET LOCAL {name} TO '{value}'", expression, is_mask=is_mask), Refuse)
    assert isinstance(ask("SET TIME ZONE 'UTC'", expression, is_mask=is_mask), Answer)
    kept = judge_startup(
        {"TimeZone": "Asia/Tokyo", "options": "-c datestyle=DMY", "application_name": "x"},
        load_policy(policy(expression, is_mask=is_mask)),
        CATALOG,
        writes=False,
    )
    assert kept == {"application_name": "x"}


@pytest.mark.parametrize("expression", INDEPENDENT)
def test_expressions_over_plain_values_leave_the_settings_to_the_session(expression: str) -> None:
    assert isinstance(ask("SET timezone TO 'Asia/Tokyo'", expression), Own)


def test_what_is_held_is_what_the_pools_connections_have() -> None:
    pinned = {name.lower(): value.lower() for name, value in PINNED_SETTINGS.items()}
    assert all(pinned[name] in values for name, values in HELD.items() if name in pinned)
    assert HELD.keys() - pinned.keys() == {"xmlbinary"}
