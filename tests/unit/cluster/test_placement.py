"""Placement: least busy pool of the database, wait when full, never when nobody has it."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import Need, Never, Node, Placed, PoolView, Wait, place

pools = st.builds(
    lambda slots, busy, answers: PoolView(slots, min(busy, slots), answers),
    st.integers(1, 8),
    st.integers(0, 8),
    st.booleans(),
)
nodes = st.lists(
    st.builds(
        Node,
        st.text("abcdef", min_size=1, max_size=3),
        st.dictionaries(st.sampled_from(["flights", "other"]), pools),
        st.booleans(),
    ),
    max_size=8,
    unique_by=lambda node: node.name,
)


@given(nodes)
def test_a_job_is_placed_exactly_when_a_willing_pool_that_answers_has_a_free_slot(cluster: list[Node]) -> None:
    able = [node for node in cluster if "flights" in node.pools]
    heard = [node for node in able if not node.draining and node.pools["flights"].answers]
    free = [node for node in heard if node.pools["flights"].busy < node.pools["flights"].slots]
    answer = place(Need("flights"), cluster)
    assert isinstance(answer, Placed) == bool(free)
    assert isinstance(answer, Never) == (not able)
    if isinstance(answer, Placed):
        chosen = next(node for node in free if node.name == answer.node)
        load = chosen.pools["flights"].busy / chosen.pools["flights"].slots
        assert all(load <= node.pools["flights"].busy / node.pools["flights"].slots for node in free)


@given(nodes)
def test_equal_input_gives_equal_placement_in_any_order(cluster: list[Node]) -> None:
    assert place(Need("flights"), cluster) == place(Need("flights"), list(reversed(cluster)))


def test_the_reason_to_wait_counts_the_slots() -> None:
    answer = place(Need("flights"), [Node("a", {"flights": PoolView(3, 3)}), Node("b", {"flights": PoolView(2, 2)})])
    assert isinstance(answer, Wait) and "5 slots" in answer.reason
