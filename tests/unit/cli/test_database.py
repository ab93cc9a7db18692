"""`database list|harden` and `up` without a server; `check` runs against a real one in tests/integration."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.cli.database import in_vain
from cluster.cli.hardening import hardening_of, readable_columns
from cluster.cli.up import shown_url
from cluster.errors import SettingsInvalid
from workers.sql.policy.catalog import Catalog, CatalogColumn, CatalogTable
from workers.sql.policy.document import TablePolicy, load_policy
from workers.sql.spec import PoolSpec

SPEC = PoolSpec(database="flights", dsn="postgresql://rea%40der:topsecret@db/fl%2Fights", budget=4)
COLUMNS = ("carrier", "tailnum", "dep_delay", "secret")


def catalog(*names: str) -> Catalog:
    columns = tuple(CatalogColumn(name) for name in COLUMNS)
    return Catalog(tables=tuple(CatalogTable(schema="public", name=name, columns=columns) for name in names))


def harden(policy: str, known: Catalog | None = None):
    return hardening_of(SPEC, load_policy(policy), known, statement_timeout_s=60)


def test_role_and_database_come_from_the_dsn_decoded() -> None:
    wanted, remarks = harden('tables = ["flights"]')
    assert (wanted.role, wanted.database, wanted.tables, remarks) == ("rea@der", "fl/ights", {"public.flights": ()}, [])
    assert wanted.connection_limit > SPEC.budget


def test_listed_columns_are_granted_and_no_others() -> None:
    wanted, remarks = harden('[tables.flights]\ncolumns = ["carrier"]\n[tables."other.t"]\n')
    assert wanted.tables == {"public.flights": ("carrier",), "other.t": ()}
    assert remarks == []


def test_denied_columns_need_the_catalog() -> None:
    policy = '[tables.flights]\ndeny = ["secret"]\n'
    wanted, remarks = harden(policy)
    assert wanted.tables == {"public.flights": ()}
    assert len(remarks) == 1
    wanted, remarks = harden(policy, catalog("flights"))
    assert wanted.tables == {"public.flights": ("carrier", "tailnum", "dep_delay")}
    assert remarks == []


def test_columns_that_a_filter_or_mask_uses_are_granted_too() -> None:
    policy = """
        [tables.flights]
        columns = ["dep_delay"]
        filter = "carrier = {tenant}"
        mask = { dep_delay = "case when tailnum = 'secret' then null end" }
    """
    wanted, _ = harden(policy, catalog("flights"))
    assert set(wanted.tables["public.flights"]) >= {"carrier", "tailnum", "dep_delay"}


def test_every_table_means_those_of_the_catalog() -> None:
    with pytest.raises(SettingsInvalid, match="--connect"):
        harden('tables = "all"')
    wanted, _ = harden('tables = "all"', catalog("flights", "planes"))
    assert wanted.tables == {"public.flights": (), "public.planes": ()}


def test_a_dsn_without_role_or_database_is_refused_without_showing_it() -> None:
    for dsn in ("postgresql://db/flights", "postgresql://reader:topsecret@db"):
        with pytest.raises(SettingsInvalid) as caught:
            hardening_of(
                PoolSpec(database="flights", dsn=dsn), load_policy('tables = ["t"]'), None, statement_timeout_s=1
            )
        assert "topsecret" not in str(caught.value)


@given(st.sets(st.sampled_from(COLUMNS), min_size=1), st.booleans())
def test_no_denied_column_is_granted_unless_an_expression_needs_it(chosen: set[str], denies: bool) -> None:
    names = tuple(sorted(chosen))
    rules = TablePolicy(deny=names) if denies else TablePolicy(columns=names)
    granted = readable_columns(rules, COLUMNS)
    assert granted is not None
    assert set(granted) == (set(COLUMNS) - chosen if denies else chosen)


def test_what_the_policy_names_in_vain_is_told() -> None:
    policy = load_policy('[tables.flights]\nmask = { carier = "null" }\n[tables.missing]\n')
    faults = [what for what, _ in in_vain(policy, catalog("flights"))]
    assert len(faults) == 2
    assert "column carier of public.flights" in faults[0]
    assert "public.missing" in faults[1]
    assert in_vain(load_policy('tables = "all"'), catalog()) == []


def test_databases_are_listed_without_their_dsn(house) -> None:
    house.configure()
    result = house.call("database", "list")
    assert result.exit_code == 0
    assert "flights" in result.stdout
    assert "topsecret" not in result.output
    document = json.loads(house.call("database", "list", "--json").stdout)
    assert document["name"] == "flights"
    assert document["tenants"] == ["acme"]


def test_harden_prints_sql_that_can_be_piped_on(house) -> None:
    house.configure()
    (house.folder / "policy.toml").write_text('[tables.flights]\ndeny = ["secret"]\n')
    result = house.call("database", "harden", "flights")
    assert result.exit_code == 0
    assert result.stdout.startswith("BEGIN;")
    assert 'GRANT SELECT ON "public"."flights" TO "reader";' in result.stdout
    assert "remark: public.flights" in result.stderr
    assert "topsecret" not in result.output
    document = json.loads(house.call("database", "harden", "flights", "--json").stdout)
    assert document["sql"] == result.stdout


def test_a_database_that_is_not_registered_is_a_usage_error_that_lists_the_others(house) -> None:
    house.configure()
    result = house.call("database", "harden", "fligths")
    assert result.exit_code == 2
    assert "registered are: flights" in result.stderr


def test_a_database_that_does_not_answer_exits_5_without_showing_the_dsn(house) -> None:
    house.configure()
    path = house.folder / "sandpool.toml"
    path.write_text(path.read_text().replace("@db/flights", "@127.0.0.1:1/flights"))
    result = house.call("database", "check", "flights")
    assert result.exit_code == 5, result.output
    assert "topsecret" not in result.output


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://user:topsecret@broker:5673/sandpool?heartbeat=5", "amqp://broker:5673/sandpool"),
        ("amqps://user@broker", "amqps://broker"),
    ],
)
def test_a_shown_url_has_no_user_password_or_options(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize("args", [("up",), ("database", "list"), ("database", "check", "x"), ("jobs",)])
def test_without_a_configuration_the_error_says_where_to_name_one(run_alone, args: tuple[str, ...]) -> None:
    result = run_alone(*args)
    assert result.exit_code == 2
    assert "--config or SANDPOOL_CONFIG" in result.stderr
