"""Who may do what on the broker: RabbitMQ's three regular expressions for a tenant and for the scheduler's own user.

A tenant publishes jobs and control calls and reads its own reply queues; it can neither consume jobs, nor read another
tenant's replies, nor publish as somebody else (the broker checks `user_id`). Whoever creates broker users calls
`tenant_permissions`; the in-process twin enforces the same expressions. Pure; no I/O here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandpool.wire import CONTROL_EXCHANGE, JOBS_EXCHANGE, REPLY_PREFIX

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_REPLY_SUFFIX = "[A-Za-z0-9_-]{1,64}"


@dataclass(frozen=True, slots=True)
class Permissions:
    """`rabbitmqctl set_permissions USER CONFIGURE WRITE READ`."""

    configure: str
    write: str
    read: str


SERVICE = Permissions(configure=r"^sandpool\..*$", write=r"^(sandpool\..*|amq\.default)$", read=r"^sandpool\..*$")
"""The scheduler's user: declares the topology, consumes, and answers by the default exchange."""


def is_tenant(name: str) -> bool:
    """Whether a broker user may be a tenant.

    The name becomes a part of queue names, event keys and object keys, where dots and slashes separate: with a tenant
    `a.b`, the replies of `a.b` would look like those of `a`. So such users exist for the broker, but are no tenants.
    """
    return _TENANT.fullmatch(name) is not None


def tenant_permissions(tenant: str) -> Permissions:
    """Expressions for one tenant. Raises ValueError for a name that `is_tenant` refuses."""
    if not is_tenant(tenant):
        raise ValueError(
            f"{tenant!r} cannot be a tenant: 1 to 63 letters, digits, _ or -, starting with a letter or digit"
        )
    # The alphabet needs no escape today; escaping anyway keeps this right if the alphabet grows.
    replies = f"^{re.escape(REPLY_PREFIX)}{re.escape(tenant)}\\.{_REPLY_SUFFIX}$"
    writes = "|".join(re.escape(exchange) for exchange in (JOBS_EXCHANGE, CONTROL_EXCHANGE))
    return Permissions(configure=replies, write=f"^({writes})$", read=replies)


def is_reply_queue(name: str, tenant: str) -> bool:
    """Whether `name` is a reply queue that only `tenant` can read. A prefix test would let `a` write to `a.b`."""
    return re.fullmatch(f"{re.escape(REPLY_PREFIX + tenant)}\\.{_REPLY_SUFFIX}", name) is not None
