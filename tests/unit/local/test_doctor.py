"""`sandpool doctor`: honest findings, a remedy beside everything that is not well, exit codes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.cli import doctor as doctor_module
from cluster.cli import findings, sandbox_findings
from cluster.cli.doctor import doctor
from cluster.cli.findings import Finding
from cluster.cli.invocation import Invocation
from cluster.local.errors import LocalServiceError, ServiceMissing
from cluster.local.ports import free_port
from cluster.local.rabbitmq import AMQP_GREETING


@contextmanager
def server_saying(answer: bytes) -> Iterator[int]:
    """A server on loopback that answers one connection's first bytes with `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(64)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    runner = CliRunner()
    result = runner.invoke(
        doctor,
        list(arguments),
        obj=Invocation(environment=environment or {}),
        standalone_mode=False,
        catch_exceptions=False,
    )
    return int(result.return_value), result.output


def test_this_machine_is_examined_in_json_and_every_trouble_has_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run("--json")
    report = json.loads(output)
    names = [finding["name"] for finding in report["findings"]]
    assert {
        "python",
        "packages",
        "rabbitmq-server",
        "postgresql",
        "runsc",
        "disk",
        "memory",
        "cgroups",
        "images",
    } <= set(names)
    assert all(finding["remedy"] for finding in report["findings"] if finding["state"] != "ok")
    assert code == (0 if report["ok"] else 1)


def test_only_what_is_missing_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    for state, expected in (("ok", 0), ("warning", 0), ("missing", 1)):
        found = [Finding("a thing", state, "as it is", "do this")]  # type: ignore[arg-type]
        monkeypatch.setattr(doctor_module, "examine", lambda _invocation, found=found: found)
        code, output = run()
        assert code == expected
        assert "-> do this" in output


def test_a_broken_configuration_is_a_finding_and_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "sandpool.toml"
    path.write_text("[broker\n")
    code, output = run("--config", str(path), "--json")
    assert code == 1
    found = {finding["name"]: finding for finding in json.loads(output)["findings"]}
    assert found["configuration"]["state"] == "missing"
    assert str(path) in found["configuration"]["detail"]


def test_a_broker_that_greets_is_reachable() -> None:
    with server_saying(b"\x01") as port:
        url = f"amqp://user:secret@127.0.0.1:{port}/"
        assert findings.reachable("broker", url, 5672, AMQP_GREETING, b"\x01").state == "ok"


def test_a_server_of_another_protocol_is_not_taken_for_a_database() -> None:
    with server_saying(b"H") as port:
        dsn = f"postgresql://user:secret@127.0.0.1:{port}/db"
        found = findings.reachable("database", dsn, 5432, findings.POSTGRES_HELLO, b"SN")
    assert (found.state, "another protocol" in found.detail) == ("missing", True)


def test_a_server_that_is_away_is_missing_and_no_password_is_shown() -> None:
    found = findings.reachable("broker", f"amqp://user:secret@127.0.0.1:{free_port()}/", 5672, AMQP_GREETING, b"\x01")
    assert found.state == "missing"
    assert "secret" not in repr(found)


def test_a_missing_server_is_a_warning_with_the_way_to_get_it() -> None:
    def absent() -> Path:
        raise ServiceMissing("RabbitMQ", "apt-get install it")

    assert findings.local_service("rabbitmq-server", absent, "embedded") == Finding(
        "rabbitmq-server", "warning", "not installed: embedded", "apt-get install it"
    )


def test_amounts_are_graded_at_their_limits() -> None:
    assert [findings.amount("disk", have, 2, 4).state for have in (1, 2, 3, 4)] == [
        "missing",
        "warning",
        "warning",
        "ok",
    ]


def test_no_free_port_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise LocalServiceError("no free port")

    monkeypatch.setattr(findings, "free_port", refuse)
    assert findings.ports().state == "missing"


def test_an_old_gvisor_is_not_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "runsc"
    fake.write_text("#!/bin/sh\necho 'runsc version 0.0~20220802.0'\n")
    fake.chmod(0o755)
    monkeypatch.setattr(findings.shutil, "which", lambda _name: str(fake))
    assert findings.runsc().state == "warning"
    fake.write_text("#!/bin/sh\necho 'runsc version release-20260105.0'\n")
    assert findings.runsc() == Finding("runsc", "ok", "release-20260105.0")


def test_a_folder_that_does_not_exist_yet_is_writable_where_its_parent_is(tmp_path: Path) -> None:
    assert findings.writable("volume", tmp_path / "a" / "b").state == "ok"


def test_images_are_named_and_their_absence_has_a_remedy(tmp_path: Path) -> None:
    found = sandbox_findings.built_images(tmp_path / "none")
    assert (found.state, "sandpool image build" in found.remedy) == ("warning", True)
    assert not (tmp_path / "none").exists()


def test_whoever_is_not_root_is_told_that_no_code_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "not root" in sandbox_findings.user().detail
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert sandbox_findings.user().state == "ok"
