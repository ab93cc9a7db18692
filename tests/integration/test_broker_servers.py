"""The broker and the real server: ways to log on, encryption, a restart, notices. Nothing of it reaches a client."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from cluster.local.postgres import PostgresServer
from tests.support.broker_house import BrokerHouse, RawClient, kinds_of, sqlstate_in
from workers.errors import ConfigurationError, DatabaseRefusesRole, DatabaseUnavailable, WorkerError
from workers.sql.broker.backend import Backend
from workers.sql.harden import Hardening, harden
from workers.sql.spec import PoolSpec

POLICY = 'dialect = "postgres"\ntables = ["airlines"]\n'
HBA = """
host    all by_md5   127.0.0.1/32 md5
host    all in_clear 127.0.0.1/32 password
hostssl all by_tls   127.0.0.1/32 scram-sha-256
host    all by_tls   127.0.0.1/32 reject
hostssl all by_cert  127.0.0.1/32 cert
host    all by_cert  127.0.0.1/32 reject
host    all all      127.0.0.1/32 scram-sha-256
"""
BY_CERTIFICATE = "&sslrootcert={folder}/ca.crt&sslcert={folder}/client.crt&sslkey={folder}/client.key"
SECRET = "pässword 'of' 100 %"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """With certificates and a line in pg_hba.conf for each way to log on."""
    asked = tmp_path_factory.mktemp("tls") / "server"
    folder = PostgresServer(asked, durable=False).folder  # where the server's own account can enter it
    files = {"hba_file": "hba", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "ssl_ca_file": "ca.crt"}
    settings = {name: str(folder / file) for name, file in files.items()}
    server = PostgresServer(asked, durable=False, temporary=True, settings={"ssl": "on", **settings})
    (server.folder / "hba").write_text(HBA)
    _certificates(server.folder)
    if server._account is not None:
        for path in server.folder.iterdir():
            shutil.chown(path, server._account.uid, server._account.gid)
    server.start()
    server.create_database("flights")
    server.execute(
        "CREATE TABLE airlines (carrier text, name text); INSERT INTO airlines VALUES ('UA', 'x')", "flights"
    )
    for role in ("by_md5", "in_clear", "by_tls", "by_cert", "by_scram"):
        tables = {"public.airlines": ()}
        server.execute(harden(Hardening(role=role, database="flights", tables=tables, writes={}, connection_limit=50)),
                       "flights")  # fmt: skip
        kind = "md5" if role == "by_md5" else "scram-sha-256"
        secret = SECRET.replace("'", "''")
        server.execute(f"SET password_encryption = '{kind}'; ALTER ROLE {role} PASSWORD '{secret}'")
    yield server
    server.remove()


def _certificates(folder: Path) -> None:
    """An authority, the server's certificate for 127.0.0.1 and a client's for the role `by_cert`."""
    for name, arguments in {
        "ca": ["-x509", "-subj", "/CN=authority", "-addext", "basicConstraints=critical,CA:TRUE"],
        "server": ["-x509", "-CA", "ca.crt", "-CAkey", "ca.key", "-subj", "/CN=db", "-addext",
                   "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"],
        "client": ["-x509", "-CA", "ca.crt", "-CAkey", "ca.key", "-subj", "/CN=by_cert", "-addext",
                   "basicConstraints=CA:FALSE"],
    }.items():  # fmt: skip
        command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                   "2", "-keyout", f"{name}.key", "-out", f"{name}.crt", *arguments]  # fmt: skip
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)
        (folder / f"{name}.key").chmod(0o600)


def spec_of(server: PostgresServer, role: str, query: str = "", secret: str = SECRET) -> PoolSpec:
    login = f"{role}:{quote(secret, safe='')}@127.0.0.1:{server.port}"
    dsn = f"postgresql://{login}/flights{query.format(folder=server.folder)}"
    return PoolSpec(database="flights", dsn=dsn, budget=2, wire_budget=2, connect_timeout_s=10.0)


@contextmanager
def broker(server: PostgresServer, role: str, query: str = "") -> Iterator[tuple[BrokerHouse, Path]]:
    house = BrokerHouse(spec_of(server, role, query), POLICY)
    try:
        yield house, house.door()
    finally:
        house.close()


@pytest.mark.parametrize(
    ("role", "query"),
    [
        ("by_md5", ""),
        ("in_clear", ""),
        ("by_scram", "?sslmode=disable"),
        ("by_tls", "?sslmode=prefer"),
        ("by_tls", "?sslmode=require"),
        ("by_tls", "?sslmode=verify-full&sslrootcert={folder}/ca.crt"),
        ("by_cert", "?sslmode=verify-ca" + BY_CERTIFICATE),
    ],
)  # fmt: skip
def test_the_broker_logs_on_by_what_the_server_asks_for(server: PostgresServer, role: str, query: str) -> None:
    with broker(server, role, query) as (_, door), RawClient(door) as client:
        assert kinds_of(client.query("select name from airlines")) == "TDCZ"
        shown = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where usename = '{}' and ssl"
        assert ("t" in server.execute(shown.format(role))) == (role in ("by_tls", "by_cert") or query == "")


@pytest.mark.parametrize(
    ("role", "query", "secret", "error"),
    [
        ("by_scram", "", "wrong", DatabaseRefusesRole),
        ("by_md5", "", "wrong", DatabaseRefusesRole),
        ("by_tls", "?sslmode=disable", SECRET, DatabaseRefusesRole),
        ("by_tls", "?sslmode=verify-full&sslrootcert={folder}/client.crt", SECRET, DatabaseUnavailable),
        ("by_tls", "?sslmode=verify-full&sslrootcert={folder}/none", SECRET, ConfigurationError),
    ],
)
def test_a_logon_that_fails_says_why_and_tells_no_secret(
    server: PostgresServer, role: str, query: str, secret: str, error: type[WorkerError]
) -> None:
    with pytest.raises(WorkerError) as failed:
        asyncio.run(Backend.open(spec_of(server, role, query, secret)))
    assert isinstance(failed.value, error), failed.value
    assert secret not in str(failed.value) and str(server.port) not in str(failed.value)


def test_a_server_that_restarts_ends_transactions_with_an_error_and_sessions_go_on(server: PostgresServer) -> None:
    with broker(server, "by_tls") as (_, door), RawClient(door) as client, RawClient(door) as idle:
        client.query("begin")
        assert kinds_of(client.query("select name from airlines")) == "TDCZ"
        assert kinds_of(idle.query("select name from airlines")) == "TDCZ"
        server.stop()
        assert sqlstate_in(client.query("select 1")) == "08006"
        assert sqlstate_in(idle.query("select name from airlines"))[:2] in ("08", "57")
        server.start()
        assert kinds_of(client.query("rollback")) == "CZ"
        for session in (client, idle):
            assert kinds_of(session.query("select name from airlines")) == "TDCZ"


def test_notices_reach_the_client_without_what_the_policy_hides(server: PostgresServer) -> None:
    told: list[tuple[str | None, str | None]] = []
    with broker(server, "by_scram") as (_, door):
        connection = psycopg.connect(host=str(door), dbname="flights", user="x", autocommit=True)
        with connection:
            connection.add_notice_handler(lambda notice: told.append((notice.sqlstate, notice.severity)))
            connection.execute("commit")
            connection.execute("select name from airlines")
    assert told == [("25P01", "WARNING")]
