"""The client's side of password authentication: SCRAM-SHA-256 (RFC 5802, 7677) and md5. Pure but for the nonce.

Used by `backend` to log on to the real server. Channel binding is not used. The password is used as it is: names beyond
ASCII are not prepared by SASLprep unless they are in its normal form already.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import unicodedata

from workers.errors import DatabaseRefusesRole

MOST_ITERATIONS = 1_000_000
"""A hostile server must not keep us busy."""


def md5_answer(user: str, password: str, salt: bytes) -> bytes:
    """The answer to an MD5 challenge."""
    inner = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()


class Scram:
    """One exchange: `first`, then `final` with the server's challenge, then `verify` with its last word."""

    def __init__(self, password: str, nonce: str | None = None) -> None:
        self._password = unicodedata.normalize("NFKC", password).encode()
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode()
        self._bare = f"n=,r={self._nonce}"
        self._signature = b""
        self.is_verified = False
        """Whether the server proved that it knows the password too."""

    @property
    def first(self) -> bytes:
        """The first message."""
        return f"n,,{self._bare}".encode()

    def final(self, challenge: bytes) -> bytes:
        """The answer to the server's challenge. Raises DatabaseRefusesRole."""
        fields = _fields(challenge)
        nonce, iterations = fields.get("r", ""), fields.get("i", "")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or not iterations.isdecimal():
            raise DatabaseRefusesRole("the server's challenge (SCRAM) is malformed")
        if not 0 < int(iterations) <= MOST_ITERATIONS:
            raise DatabaseRefusesRole("the server's challenge (SCRAM) asks for too much work")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, _decode(fields.get("s", "")), int(iterations))
        proofless = f"c=biws,r={nonce}"
        signed = f"{self._bare},{challenge.decode()},{proofless}".encode()
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._signature = _hmac(_hmac(salted, b"Server Key"), signed)
        return f"{proofless},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, last: bytes) -> None:
        """The server knows the password too. Raises DatabaseRefusesRole."""
        given = _decode(_fields(last).get("v", ""))
        if not self._signature or not hmac.compare_digest(given, self._signature):
            raise DatabaseRefusesRole("the server does not know the role's password: it may not be the server at all")
        self.is_verified = True


def _fields(data: bytes) -> dict[str, str]:
    parts = data.decode("ascii", "replace").split(",")
    return {part[0]: part[2:] for part in parts if part[1:2] == "="}


def _decode(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise DatabaseRefusesRole("the server's challenge (SCRAM) is malformed") from None


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
