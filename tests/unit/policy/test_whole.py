"""A database file leaves its volume whole only where the policy shows all of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sql.policy import load_policy
from workers.sql.policy.document import Policy, TablePolicy
from workers.sql.policy.whole import keeps_back

names = st.sampled_from(["flights", "airlines", "app.orders", "*"])
restrictions = st.sampled_from([
    {"columns": ["a"]}, {"deny": ["a"]}, {"filter": "a = 1"}, {"filter": "true"}, {"mask": {"a": "null"}},
    {"columns": ["a"], "filter": "owner = {tenant}"}, {"deny": ["a"], "mask": {"b": "1"}, "fence": True},
])  # fmt: skip
harmless = st.sampled_from([{}, {"fence": True}, {"fence": False}])
ceilings = st.fixed_dictionaries(
    {}, optional={"max_rows": st.integers(1, 9), "max_bytes": st.integers(1, 9), "timeout_s": st.floats(1, 9)}
)


@pytest.mark.parametrize("text", ['tables = "all"', '[tables."*"]', 'dialect = "duckdb"\ntables = "all"'])
def test_a_policy_that_shows_everything_keeps_nothing_back(text: str) -> None:
    assert keeps_back(load_policy(text), "duckdb") == ""


@given(tables=st.dictionaries(names, harmless), more=ceilings)
def test_open_tables_beside_every_table_keep_nothing_back_whatever_the_ceilings(
    tables: dict[str, Any], more: dict[str, Any]
) -> None:
    policy = Policy.model_validate({"tables": {**tables, "*": {}}, **more})
    assert keeps_back(policy, "sqlite") == ""


@given(tables=st.dictionaries(names, harmless), name=names, restriction=restrictions, more=ceilings)
def test_one_restriction_anywhere_keeps_the_file_back(
    tables: dict[str, Any], name: str, restriction: dict[str, Any], more: dict[str, Any]
) -> None:
    policy = Policy.model_validate({"tables": {"*": {}, **tables, name: restriction}, **more})
    assert keeps_back(policy, "duckdb")


@given(listed=st.lists(names.filter(lambda name: name != "*"), min_size=1), as_table=st.booleans())
def test_a_list_of_tables_keeps_the_others_back(listed: list[str], as_table: bool) -> None:
    tables: Any = {name: {} for name in listed} if as_table else listed
    assert "lists the tables" in keeps_back(Policy.model_validate({"tables": tables}), "duckdb")


@pytest.mark.parametrize("dialect", ["postgres", "sqlite"])
def test_a_policy_for_another_engine_shows_nothing_of_the_file(dialect: str) -> None:
    assert dialect in keeps_back(load_policy(f'dialect = "{dialect}"\ntables = "all"'), "duckdb")


def test_every_key_of_a_policy_was_thought_of_here() -> None:
    """A new key may keep something back: decide it in `keeps_back`, then add it to these."""
    judged = {"dialect", "tables"}
    of_statements = {
        "require_where",
        "functions",
        "operators",
        "types",
        "max_rows",
        "max_bytes",
        "max_cost",
        "timeout_s",
    }
    of_names_and_writes = {"mode", "schema_name", "writes"}
    assert set(Policy.model_fields) == judged | of_statements | of_names_and_writes
    assert set(TablePolicy.model_fields) == {"columns", "deny", "filter", "mask", "fence"}
