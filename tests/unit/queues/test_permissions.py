"""A tenant reaches its own reply queues and nothing else, whatever it is called: `queues.permissions`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queues.permissions import SERVICE, is_reply_queue, is_tenant, tenant_permissions
from queues.topology import topology
from sandpool.wire import CONTROL_EXCHANGE, JOBS_EXCHANGE

TENANTS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
NAMES = [queue.name for queue in topology().queues] + [exchange.name for exchange in topology().exchanges]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".*",
        "a.b",
        "a|b",
        "acme$",
        "^acme",
        "a(b",
        "a b",
        "a/b",
        "..",
        "-a",
        "_a",
        "acme\n",
        "ä",
        "a" * 64,
        "a\x00",
        "[a]",
        "a+",
    ],
)
def test_a_name_that_would_separate_or_match_is_no_tenant(name: str) -> None:
    assert not is_tenant(name)
    with pytest.raises(ValueError, match="cannot be a tenant"):
        tenant_permissions(name)


@given(tenant=TENANTS, other=TENANTS, suffix=st.from_regex(r"\A[0-9a-f]{32}\Z"))
def test_reply_queues_of_two_tenants_are_apart(tenant: str, other: str, suffix: str) -> None:
    mine = f"sandpool.reply.{tenant}.{suffix}"
    rights = tenant_permissions(tenant)
    assert re.search(rights.read, mine)
    assert re.search(rights.configure, mine)
    assert is_reply_queue(mine, tenant)
    if other != tenant:
        theirs = tenant_permissions(other)
        assert not re.search(theirs.read, mine)
        assert not re.search(theirs.configure, mine)
        assert not is_reply_queue(mine, other)


@given(tenant=TENANTS, resource=st.text() | st.sampled_from(NAMES))
def test_a_tenant_has_no_right_to_anything_else(tenant: str, resource: str) -> None:
    rights = tenant_permissions(tenant)
    if not resource.startswith(f"sandpool.reply.{tenant}."):
        assert not re.search(rights.read, resource)
        assert not re.search(rights.configure, resource)
    if resource.removesuffix("\n") not in (JOBS_EXCHANGE, CONTROL_EXCHANGE):
        assert not re.search(rights.write, resource)


def test_the_dot_in_a_name_is_a_dot() -> None:
    rights = tenant_permissions("acme")
    for trick in (
        "sandpoolxreply.acme.r1",
        "sandpool.reply.acmexr1",
        "sandpool.reply.acme.r1.r2",
        "x.sandpool.reply.acme.r1",
    ):
        assert not re.search(rights.read, trick)
    assert not re.search(rights.write, "sandpoolxjobs")


def test_the_service_user_reaches_the_whole_topology() -> None:
    for name in NAMES:
        for pattern in (SERVICE.configure, SERVICE.write, SERVICE.read):
            assert re.search(pattern, name)
    assert re.search(SERVICE.write, "amq.default")
    assert not re.search(SERVICE.configure, "amq.default")
    assert not re.search(SERVICE.read, "somebody.elses.queue")
