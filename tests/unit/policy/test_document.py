"""A policy file that is wrong in any way is refused at load, naming the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.errors import ConfigurationError
from workers.sql.policy import load_policy

POLICIES = sorted((Path(__file__).parents[3] / "configs" / "policies").glob("*.toml"))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_every_shipped_policy_loads(path: Path) -> None:
    assert load_policy(path.read_text()).table_policies


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "tables"),
        ("max_rows = 5", "tables"),
        ("tables = []", "tables"),
        ("[tables]", "tables"),
        ('tables = "some"', "tables"),
        ('tables = "all"\nmaxrows = 5', "maxrows"),
        ('tables = "all"\nmax_rows = 0', "max_rows"),
        ('tables = "all"\nmax_rows = "5"', "max_rows"),
        ('tables = "all"\nmax_rows = 5.5', "max_rows"),
        ('tables = "all"\nmax_cost = -1', "max_cost"),
        ('tables = "all"\nmax_cost = inf', "max_cost"),
        ('tables = "all"\ntimeout_s = 0', "timeout_s"),
        ('tables = "all"\nfunctions = []', "functions"),
        ('tables = "all"\ndialect = "mysql"', "dialect"),
        ('tables = "all"\nmode = "write"', "mode"),
        ('tables = "all"\nrequire_where = "yes"', "require_where"),
        ("[tables.a]\ncolumns = []", "tables.a.columns"),
        ("[tables.a]\ncolums = ['x']", "colums"),
        ("[tables.a]\nfilter = ''", "tables.a.filter"),
        ("[tables.a]\nfilter = 5", "tables.a.filter"),
        ("[tables.a.mask]", "mask"),
        ("[tables.a]\ncolumns = ['x']\ndeny = ['y']", "columns and deny"),
        ('tables = "all"\nmode = "writes"', "writes"),
        ('tables = "all"\n[[writes]]\ntable = "a"\nkinds = ["insert"]', "mode"),
        ('tables = ["b"]\nmode = "writes"\n[[writes]]\ntable = "a"\nkinds = ["insert"]', "'a'"),
        ('tables = ["a"]\nmode = "writes"\n[[writes]]\ntable = "a"\nkinds = []', "kinds"),
        ('tables = ["a"]\nmode = "writes"\n[[writes]]\ntable = "a"\nkinds = ["drop"]', "kinds"),
        ("tables = [", "TOML"),
    ],
)
def test_a_wrong_policy_file_is_refused_by_the_name_of_its_key(text: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_policy(text)
    assert key in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('tables = "all"\nmaxrows = 5', "maxrows: no such key"),
        ("[tables.a]\ndeny = []", "tables.a.deny: the list is empty"),
        ("[tables.a]\ndeny = 'x'", "tables.a.deny: must be a list"),
        ("[tables.a]\nfilter = ''", "tables.a.filter: must not be empty"),
        ("max_rows = 5", "tables: this key is required"),
    ],
)
def test_a_wrong_policy_file_is_refused_in_plain_words(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_policy(text)
    assert words in str(refused.value)
    assert "Value error" not in str(refused.value)


def test_equal_content_has_an_equal_version_and_other_content_another() -> None:
    first = load_policy("max_rows = 5\n[tables.a]\ndeny = ['x']")
    same = load_policy("max_rows = 5 # five\n[tables.a]\ndeny = [ 'x' ]")
    assert first.version == same.version
    assert first.version != load_policy("max_rows = 6\n[tables.a]\ndeny = ['x']").version


def test_a_policy_uses_the_tenant_when_a_filter_or_a_mask_does() -> None:
    assert load_policy("[tables.a]\nfilter = 't = {tenant}'").uses_tenant
    assert load_policy("[tables.a.mask]\nx = '{tenant}'").uses_tenant
    assert not load_policy("[tables.a]\nfilter = 'x > 1'").uses_tenant
