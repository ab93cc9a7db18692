"""Print the `rabbitmqctl` commands that make Sandpool's users on a RabbitMQ of your own. Runs nothing.

    .venv/bin/python scripts/broker_users.py --vhost sandpool acme UA

One user for the scheduler and one for each tenant, with the permissions of `queues.permissions`. No password appears:
`rabbitmqctl add_user` reads it from standard input, so that it stays out of the process list and the shell's history.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

from queues.permissions import SERVICE, Permissions, is_tenant, tenant_permissions

SCHEDULER = "sandpool"


def commands(tenants: list[str], vhost: str, scheduler: str = SCHEDULER) -> Iterator[str]:
    """The lines of a shell script, in an order that works on an empty node. Raises ValueError for a bad tenant name."""
    if vhost != "/":
        yield shlex.join(["rabbitmqctl", "add_vhost", vhost, "--default-queue-type", "quorum"])
    rights = {scheduler: SERVICE} | {tenant: tenant_permissions(tenant) for tenant in tenants}
    for user, permissions in rights.items():
        yield from _user(user, permissions, vhost)


def _user(name: str, permissions: Permissions, vhost: str) -> Iterator[str]:
    yield f"rabbitmqctl add_user -- {shlex.quote(name)}    # asks for the password"
    patterns = (permissions.configure, permissions.write, permissions.read)
    yield shlex.join(["rabbitmqctl", "set_permissions", "-p", vhost, "--", name, *patterns])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("tenants", nargs="+", metavar="TENANT", help="1 to 63 letters, digits, _ or -")
    parser.add_argument("--vhost", default="/", help="virtual host; made unless it is / (default: /)")
    parser.add_argument("--scheduler", default=SCHEDULER, help="name of the scheduler's user (default: %(default)s)")
    options = parser.parse_args()
    if wrong := [name for name in options.tenants if not is_tenant(name) or name == options.scheduler]:
        parser.error(f"these cannot be tenants: {', '.join(wrong)}")
    print("\n".join(commands(options.tenants, options.vhost, options.scheduler)))


if __name__ == "__main__":
    main()
