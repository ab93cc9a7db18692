"""The demo's acts hold on a running cluster: each raises when the product does not keep its word."""

from __future__ import annotations

import pytest

from cluster.demo import acts, sandbox_acts
from cluster.demo.house import House
from sandpool import Client

pytestmark = pytest.mark.timeout(400)  # the cluster starts with the first test


def test_two_hundred_real_queries_succeed_and_report_their_progress(acme: Client) -> None:
    seen: list[int] = []
    shown = acts.small_queries(acme, seen.append)
    assert seen == list(range(1, 201)) and shown.jobs == 200


def test_a_full_extraction_is_read_back_from_its_files_row_by_row(house: House, acme: Client) -> None:
    assert "336,776 rows" in acts.extraction(acme, house.volume).result


def test_a_tenant_sees_its_own_rows_with_tail_numbers_masked(house: House) -> None:
    with house.client("UA") as airline:
        assert "all UA" in acts.tenant_view(airline).result


def test_a_write_sent_twice_has_one_effect(acme: Client) -> None:
    assert "1 row" in acts.write_twice(acme, booking=1).result


def test_every_hostile_statement_is_denied_with_a_rule_and_a_reason(acme: Client) -> None:
    _, refusals = acts.hostile_statements(acme)
    assert len(refusals) == len(acts.HOSTILE)
    assert all(rule and reason for _, rule, reason in refusals)


def test_code_plots_what_a_statement_wrote_and_gives_its_table(house: House, acme: Client) -> None:
    assert house.why_no_sandboxes == ""
    assert "16 carriers" in sandbox_acts.plot_delays(acme).result


def test_every_hostile_program_has_its_own_ending_while_honest_code_runs(acme: Client) -> None:
    _, told = sandbox_acts.hostile_programs(acme)
    assert len(told) == len(sandbox_acts.PROGRAMS)
    assert {"OutOfMemory", "OutputCapped", "TimedOut", "Failed"} <= {ending for _, ending, _ in told}
    assert sandbox_acts.code_one_at_a_time(acme).jobs == 20


def test_code_reaches_a_database_by_its_drivers_and_holds_no_secret(acme: Client) -> None:
    assert "4 of 4 refused" in sandbox_acts.database_inside(acme).result
