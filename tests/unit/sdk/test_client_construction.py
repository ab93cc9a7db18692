"""What can be said about a client before it connects, and after a fork."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sandpool import AsyncClient, Client
from sandpool.errors import UsageError
from tests.support.brokers import TwinBroker


@pytest.mark.parametrize(
    "url", ["", "http://a:b@c/", "amqp://broker/", "amqp://:pw@broker/", "amqp://", "acme:pw@broker"]
)
def test_a_url_without_user_or_host_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="its user is the tenant"):
        AsyncClient(url)


@pytest.mark.parametrize(
    ("url", "tenant"), [("amqp://acme:pw@broker/v", "acme"), ("amqps://ac%2Dme:p%40w@broker", "ac-me")]
)
def test_the_tenant_is_the_urls_user(url: str, tenant: str) -> None:
    assert AsyncClient(url).tenant == tenant


def test_the_package_does_not_load_the_amqp_library_before_it_is_needed() -> None:
    code = "import sys, sandpool; sys.exit('aiormq' in sys.modules or 'pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told_to_build_its_own_client() -> None:
    with Client(TwinBroker().transport("acme")) as client:
        child = os.fork()
        if child == 0:
            try:
                _ = client.tenant
            except UsageError as error:
                os._exit(0 if "fork" in str(error) else 2)
            os._exit(3)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert client.tenant == "acme"
