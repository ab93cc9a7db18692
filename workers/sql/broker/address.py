"""Where a database is and as whom, read from its DSN. Pure but for the files that a TLS setting names.

Called by `backend`. Understands `postgresql://user:password@host:port/name` with the parameters host, port, user,
password, dbname, sslmode, sslrootcert, sslcert, sslkey; further parameters are server settings, as the pools' driver
takes them. Never prints a DSN.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from workers.errors import ConfigurationError

DEFAULT_PORT = 5432
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_NAMES = {"host", "port", "user", "password", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey"}
_OF_THE_CLIENT = {"connect_timeout", "application_name", "passfile", "target_session_attrs", "gssencmode"}
"""Say how another driver shall connect, or are set by the pool."""


@dataclass(frozen=True, slots=True)
class Address:
    """One server, one role, one database."""

    host: str
    """A name, an IP address, or the folder of a Unix socket."""
    port: int
    user: str
    database: str
    password: str = field(repr=False)
    ssl_mode: str
    root_certificate: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def socket_path(self) -> str:
        """Path of the Unix socket; empty where the server is reached by TCP."""
        return f"{self.host}/.s.PGSQL.{self.port}" if self.host.startswith("/") else ""

    @property
    def wants_tls(self) -> bool:
        return self.ssl_mode not in ("disable", "allow") and not self.socket_path

    def tls(self) -> ssl.SSLContext | None:
        """How to encrypt; None: not at all. Raises ConfigurationError."""
        if not self.wants_tls:
            return None
        try:
            if self.ssl_mode.startswith("verify") or self.root_certificate:
                context = ssl.create_default_context(cafile=self.root_certificate or None)
                context.check_hostname = self.ssl_mode == "verify-full"
            else:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None)
        except (OSError, ssl.SSLError):
            raise ConfigurationError("a certificate named in the database's DSN cannot be read") from None
        return context

    @property
    def tls_is_required(self) -> bool:
        return self.ssl_mode in ("require", "verify-ca", "verify-full") and not self.socket_path


def read_dsn(dsn: str) -> Address:
    """Raises ConfigurationError, which does not quote the DSN."""
    try:
        parts = urlsplit(dsn)
        port = parts.port
    except ValueError:
        raise ConfigurationError("the database's DSN is no URL") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ConfigurationError("the database's DSN must begin with postgresql://")
    if "," in parts.netloc:
        raise ConfigurationError("the broker takes a DSN with one host only")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    user = given.get("user") or unquote(parts.username or "")
    if not user:
        raise ConfigurationError("the database's DSN names no user")
    mode = given.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        raise ConfigurationError("the sslmode in the database's DSN is none of PostgreSQL's")
    try:
        number = int(given.get("port") or port or DEFAULT_PORT)
    except ValueError:
        raise ConfigurationError("the port in the database's DSN is no number") from None
    return Address(
        host=given.get("host") or unquote(parts.hostname or "") or "127.0.0.1",
        port=number,
        user=user,
        database=given.get("dbname") or unquote(parts.path.lstrip("/")) or user,
        password=given.get("password") or unquote(parts.password or ""),
        ssl_mode=mode,
        root_certificate=given.get("sslrootcert", ""),
        certificate=given.get("sslcert", ""),
        key=given.get("sslkey", ""),
        settings=tuple((k, v) for k, v in given.items() if k not in _NAMES | _OF_THE_CLIENT),
    )
