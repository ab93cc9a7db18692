"""The line in front of a database's connections: fair between tenants, in order within one, nobody is forgotten."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from workers.sql.line import MAX_OVERTAKEN, Line, Sort


@dataclass(eq=False)
class Somebody:
    tenant: str
    sort: Sort = Sort.Small
    number: int = 0


def test_tenants_take_turns_however_many_of_one_wait() -> None:
    line: Line[Somebody] = Line()
    for number in range(50):
        line.join(Somebody("many", number=number))
    line.join(Somebody("one"))
    order = [line.next(list(Sort)) for _ in range(3)]
    assert [who.tenant for who in order if who] == ["many", "one", "many"]


def test_a_connection_may_stay_with_its_tenant_only_so_often() -> None:
    line: Line[Somebody] = Line()
    line.join(Somebody("other"))
    for number in range(50):
        line.join(Somebody("own", number=number))
    served = [line.next(list(Sort), tenant="own", sort=Sort.Small) for _ in range(MAX_OVERTAKEN + 1)]
    assert [who.tenant for who in served if who] == ["own"] * MAX_OVERTAKEN + ["other"]


def test_who_cannot_be_served_now_does_not_hide_those_behind() -> None:
    line: Line[Somebody] = Line()
    line.join(Somebody("a", Sort.Bulk))
    small = Somebody("a")
    line.join(small)
    assert line.next([Sort.Small]) is small
    assert line.next([Sort.Small]) is None and line.count == 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(Sort)))),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(Sort)))),
)
def test_everybody_is_served_once_and_in_order_within_tenant_and_sort(
    joined: list[tuple[str, Sort]], freed: list[tuple[str, Sort]]
) -> None:
    line: Line[Somebody] = Line()
    everybody = [Somebody(tenant, sort, number) for number, (tenant, sort) in enumerate(joined)]
    for who in everybody:
        line.join(who)
    served = [line.next(list(Sort), tenant=tenant, sort=sort) for tenant, sort in freed]
    while line.count:
        served.append(line.next(list(Sort)))
    found = [who for who in served if who is not None]
    assert Counter(map(id, found)) == Counter(map(id, everybody))
    for tenant, sort in {(who.tenant, who.sort) for who in found}:
        numbers = [who.number for who in found if (who.tenant, who.sort) == (tenant, sort)]
        assert numbers == sorted(numbers)
    assert line.next(list(Sort)) is None
