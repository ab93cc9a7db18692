"""Who is a node, what may run there, and how connections and folders are divided, whoever comes and goes."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.membership import ROLES, Member, members_of, roles_of, seats, shares


def drawn(random: Random) -> list[Member]:
    """Some of a dozen nodes on two machines, each with some roles."""
    return [
        Member(
            name,
            name,
            "mn"[ord(name) % 2],
            roles=frozenset(random.sample(sorted(ROLES), random.randint(0, len(ROLES)))),
        )
        for name in random.sample("abcdefghijkl", random.randint(0, 12))
    ]


members = st.integers(0, 2**40).map(Random).map(drawn)


def said(node_id: str, **more: Any) -> dict[str, Any]:
    return {"NodeID": node_id, "Alive": True, "NodeManagerHostname": "box", "Labels": {}, **more}


def test_a_node_is_called_by_its_machine_and_its_id_and_a_dead_one_is_none() -> None:
    found = members_of([said("abcdef0123"), said("99999999ff", Alive=False), said("aaaaaaaabb", Labels={"zone": "a"})])
    assert list(found) == ["box-abcdef01", "box-aaaaaaaa"]
    assert found["box-aaaaaaaa"].labels == {"zone": "a"} and found["box-abcdef01"].roles == ROLES


@pytest.mark.parametrize(
    ("label", "roles"),
    [
        (None, ROLES),
        ("gpu", {"gpu"}),
        ("cpu.db-egress", {"cpu", "db-egress"}),
        ("database", set()),
        ("", set()),
    ],
)
def test_roles_come_from_the_label_and_a_mistyped_one_is_none(label: str | None, roles: set[str]) -> None:
    assert roles_of({} if label is None else {"sandpool.role": label}) == roles


@given(st.integers(1, 100), st.booleans(), members)
def test_the_shares_of_a_budget_never_exceed_it_and_leave_nothing_unused(
    budget: int, pinned: bool, cluster: list[Member]
) -> None:
    sizes = shares(budget, pinned, cluster)
    able = [member for member in cluster if ("db-egress" in member.roles if pinned else member.roles)]
    assert sum(sizes.values()) == (budget if able else 0)
    assert all(size >= 1 for size in sizes.values()) and sizes.keys() <= {member.name for member in able}
    if sizes:
        assert max(sizes.values()) - min(sizes.values()) <= 1
        assert len(sizes) == min(budget, len(able))


def test_a_pinned_database_has_pools_on_egress_nodes_only_and_none_where_there_is_none() -> None:
    egress = Member("a", "1", "m", roles=frozenset({"db-egress"}))
    plain = Member("b", "2", "m", roles=frozenset({"cpu"}))
    assert shares(8, True, [egress, plain]) == {"a": 8}
    assert shares(8, True, [plain]) == {}
    assert shares(8, False, [egress, plain]) == {"a": 4, "b": 4}
    assert not egress.hosts and plain.hosts


@given(members, members)
def test_nodes_of_one_machine_never_share_a_seat_whoever_comes_and_goes(
    first: list[Member], then: list[Member]
) -> None:
    machine = {member.name: member.machine for member in [*first, *then]}
    taken = {name: (machine[name], number) for name, number in seats({}, first).items()}
    for name in list(taken)[::2]:
        del taken[name]
    new = seats(taken, then)
    assert new.keys() == {member.name for member in then} - taken.keys()
    everyone = [*taken.values(), *((machine[name], number) for name, number in new.items())]
    assert len(set(everyone)) == len(everyone)


def test_the_first_node_of_a_machine_has_the_lowest_seat_and_it_is_given_again() -> None:
    a, b = Member("a", "1", "m"), Member("b", "2", "m")
    assert seats({}, [a, b]) == {"a": 0, "b": 1}
    assert seats({"b": ("m", 1)}, [b, Member("c", "3", "m")]) == {"c": 0}


def test_a_node_that_ray_drains_is_known_to_drain_and_until_when() -> None:
    nodes = [
        {"Alive": True, "NodeID": node, "NodeManagerHostname": "m"} for node in ("aaaaaaaa1", "bbbbbbbb2", "cccccccc3")
    ]
    members = members_of(nodes, {"aaaaaaaa1": 0, "bbbbbbbb2": 1_500_000})
    assert [(each.drains, each.drain_by_s) for each in members.values()] == [(True, 0.0), (True, 1500.0), (False, 0.0)]
