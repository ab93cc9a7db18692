"""Free ports: really free, never given twice, out of the kernel's way."""

from __future__ import annotations

import socket

import pytest

from cluster.local import ports
from cluster.local.errors import LocalServiceError


def test_ports_are_different_and_below_the_ephemeral_range() -> None:
    given = [ports.free_port() for _ in range(50)]
    assert len(set(given)) == 50
    assert all(ports.LOWEST <= port <= ports.HIGHEST < 32_768 for port in given)


def test_a_port_in_use_is_not_free_and_answers() -> None:
    port = ports.free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert not ports.is_free(port)
        assert ports.answers(port)
    assert not ports.answers(port, timeout_s=0.2)


def test_no_free_port_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _port: False)
    with pytest.raises(LocalServiceError, match="no free port"):
        ports.free_port()
