"""What the judge and its parser process say to each other: length-prefixed msgpack frames. Data only."""

from __future__ import annotations

import struct

import msgspec

from sandpool.outcome import Verdict
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Dialect
from workers.sql.policy.session.verdict import SessionFacts, SessionVerdict

HEADER = struct.Struct("!I")
"""Length of the frame that follows, in bytes."""


class PolicyFrame(msgspec.Struct, frozen=True, tag="policy", array_like=True):
    """A policy document, sent once before the first statement under it."""

    version: str
    document: bytes


class CatalogFrame(msgspec.Struct, frozen=True, tag="catalog", array_like=True):
    """A catalog, sent once before the first statement over it."""

    version: str
    catalog: Catalog


class AskFrame(msgspec.Struct, frozen=True, tag="ask", array_like=True):
    """One statement to judge."""

    number: int
    text: str
    dialect: Dialect
    policy: str
    catalog: str
    """Version of the catalog; empty: none."""
    tenant: str
    writes: bool
    headroom_rows: int
    facts: SessionFacts | None = None
    """Set: the statement comes from a session of the broker."""


class ReadyFrame(msgspec.Struct, frozen=True, tag="ready", array_like=True):
    """First frame of a process: it has imported everything."""


class VerdictFrame(msgspec.Struct, frozen=True, tag="verdict", array_like=True):
    """The answer to the ask of that number."""

    number: int
    verdict: Verdict


class SessionFrame(msgspec.Struct, frozen=True, tag="session", array_like=True):
    """The answer to an ask with session facts."""

    number: int
    verdict: SessionVerdict


Frame = PolicyFrame | CatalogFrame | AskFrame
Answer = ReadyFrame | VerdictFrame | SessionFrame
