"""Logging on by password: the example of RFC 7677, and servers that cheat."""

from __future__ import annotations

import pytest

from workers.errors import ConfigurationError, DatabaseRefusesRole
from workers.sql.broker.address import read_dsn
from workers.sql.broker.scram import Scram

NONCE = "rOprNGfwEbeRWgbNEkqO"
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def exchange() -> Scram:
    # PostgreSQL takes the user from the startup message and leaves it out here; the RFC's example has it.
    scram = Scram("pencil", NONCE)
    scram._bare = f"n=user,r={NONCE}"
    return scram


def test_the_example_of_the_rfc_is_answered_as_the_rfc_says() -> None:
    scram = exchange()
    assert scram.first == b"n,,n=user,r=" + NONCE.encode()
    assert scram.final(CHALLENGE).endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert scram.is_verified


@pytest.mark.parametrize("word", [b"v=AAAA", b"", b"e=no", b"v=!!"])
def test_a_server_that_does_not_know_the_password_is_refused(word: bytes) -> None:
    scram = exchange()
    scram.final(CHALLENGE)
    with pytest.raises(DatabaseRefusesRole):
        scram.verify(word)


@pytest.mark.parametrize(
    "challenge",
    [b"", b"r=other,s=QUFB,i=4096", CHALLENGE.replace(b"4096", b"999999999"), CHALLENGE.replace(b"4096", b"x")],
)
def test_a_challenge_that_is_malformed_or_too_costly_is_refused(challenge: bytes) -> None:
    with pytest.raises(DatabaseRefusesRole):
        exchange().final(challenge)


def test_a_dsn_is_read_in_its_usual_forms() -> None:
    address = read_dsn("postgresql://us%40er:p%2Fw@db.example:5433/name?sslmode=require&work_mem=4MB")
    assert (address.user, address.password, address.host, address.port) == ("us@er", "p/w", "db.example", 5433)
    assert (address.database, address.ssl_mode, address.settings) == ("name", "require", (("work_mem", "4MB"),))
    assert read_dsn("postgresql:///n?host=/run/pg&user=u").socket_path == "/run/pg/.s.PGSQL.5432"
    assert "p/w" not in repr(address)


@pytest.mark.parametrize(
    "dsn",
    [
        "mysql://u@h/d",
        "postgresql://h/d",
        "postgresql://u@a:1,b:2/d",
        "postgresql://u@h:x/d",
        "postgresql://u@h/d?sslmode=no",
    ],
)
def test_a_dsn_that_cannot_be_used_is_refused_without_being_quoted(dsn: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_dsn(dsn)
    assert dsn not in str(refused.value)
