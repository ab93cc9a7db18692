"""One client's side of the protocol, after it was let in: what each of its messages means.

A handler that needs a verdict or a connection first answers False, and is called again with the same message when it is
there. `session` is the transport around it. What runs on the server is the policy's printed text under a name of the
broker's own; transaction control and settings are the broker's (`steering`).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from workers.sql.broker import steps
from workers.sql.broker.errors import Fatal, Trouble
from workers.sql.broker.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    NO_DATA,
    NO_PARAMETERS,
    PARSE_COMPLETE,
    complete,
    message,
    row_description,
    text,
)
from workers.sql.broker.prepared import Prepared, Ruling
from workers.sql.broker.steering import Steering
from workers.sql.policy.session import Answer, Forward, Own, Refuse, Several

CURSOR: Final = Prepared(Ruling("", Forward("", "fetch")), None)
"""A portal that was made by a statement."""
COPY_DONE: Final = frozenset(b"cf")
_QUERY: Final = ord("Q")


class Conversation(Steering):
    """The handlers of a client's messages."""

    def handle(self, kind: int, body: bytes, frame: bytes) -> bool:
        """Carry out one message; False: call again later. Raises Fatal."""
        if self._is_spoiled:
            self._is_spoiled = False
            self._is_skipping = kind != _QUERY
            if kind == _QUERY:
                self._end_turn(is_with_server=False)
            return True
        if self._is_skipping and kind not in b"SX":
            return True
        try:
            return _HANDLERS[kind](self, body, frame)
        except Fatal:
            raise
        except Trouble as trouble:
            self._refuse(trouble, is_simple=kind in b"QF")
            return True

    # --- simple protocol ----------------------------------------------------------------------------------------------

    def _query(self, body: bytes, frame: bytes) -> bool:  # noqa: ARG002 - one signature for all
        sql = body[:-1]
        ruling = self.rule(sql, "simple")
        if ruling is None:
            return False
        verdict = ruling.verdict
        statement = ruling.statement
        if isinstance(verdict, Forward) and statement is not None and not statement.is_copy_in:
            if not self._start(statement, ruling):
                return False
            self._out.append(statement.run_frames)
            self._owe(steps.BIND_HIDDEN, steps.DESCRIBE_ROWS, self._execution(ruling), steps.SYNC_SHOWN)
            self._is_unsynced = False
            return True
        done = self._perform(ruling)
        if done is None:
            return False
        if self._copies_simply:
            return True
        self._end_turn(is_with_server=done)
        return True

    def _perform(self, ruling: Ruling) -> bool | None:
        """Carry out a statement without parameters, up to but without the end of its turn. True: the server takes part;
        None: call again. Raises Trouble."""
        verdict = ruling.verdict
        match verdict:
            case Refuse():
                raise self._denied(ruling, verdict)
            case Several():
                return self._perform_all(ruling)
            case Answer():
                self._say_answer(verdict, with_columns=True)
                return False
            case Own():
                return self._control(ruling, verdict, is_simple=True)
            case Forward():
                return self._run(ruling, verdict, is_simple=True)

    def _perform_all(self, ruling: Ruling) -> bool | None:
        needs_server = self._transaction.is_open or any(self._goes_to_server(part) for part in ruling.parts)
        if needs_server and not self.lease():
            return None
        is_with_server = False
        for part in ruling.parts:
            is_with_server = bool(self._perform(part)) or is_with_server
        return is_with_server

    # --- extended protocol --------------------------------------------------------------------------------------------

    def _parse(self, body: bytes, frame: bytes) -> bool:  # noqa: ARG002
        name, at = text(body, 0, len(body))
        sql, at = text(body, at, len(body))
        types = body[at:]
        ruling = self.rule(sql, "extended")
        if ruling is None:
            return False
        verdict = ruling.verdict
        if isinstance(verdict, Refuse):
            raise self._denied(ruling, verdict)
        if name and name in self._statements:
            raise Trouble("42P05", f"prepared statement {_shown(name)} already exists")
        if len(self._statements) >= self.services.limits.most_statements and name not in self._statements:
            raise Trouble("54000", "too many prepared statements in this session", hint="close those not in use")
        statement = ruling.statement_with(types)
        is_new = isinstance(verdict, Forward) and statement is not None and not statement.is_accepted
        if is_new and not self._is_failed():
            if not self.lease():
                return False
            self._begin()
            self._statements[name] = Prepared(ruling, statement)
            self._teach(statement, name=name)
            return True
        # What a server accepted once needs no connection now: should it be wrong by now, Bind will tell.
        self._statements[name] = Prepared(ruling, statement)
        self._say(PARSE_COMPLETE, partial(self._statements.pop, name, None))
        return True

    def _bind(self, body: bytes, frame: bytes) -> bool:  # noqa: ARG002
        portal, at = text(body, 0, len(body))
        name, at = text(body, at, len(body))
        prepared = self._statement(name)
        if len(self._portals) >= self.services.limits.most_portals and portal not in self._portals:
            raise Trouble("54000", "too many open portals in this session", hint="close those not in use")
        verdict = prepared.ruling.verdict
        if not self._goes_to_server(prepared.ruling):
            self._portals[portal] = prepared
            self._say(BIND_COMPLETE)
            return True
        statement = prepared.statement
        assert statement is not None
        if not self._start(statement, prepared.ruling if isinstance(verdict, Forward) else None):
            return False
        self._portals[portal] = prepared
        self._out.append(message(b"B", portal + b"\0" + statement.name + b"\0" + body[at:]))
        self._owe(steps.BIND_SHOWN)
        self._is_unsynced = True
        return True

    def _describe(self, body: bytes, frame: bytes) -> bool:
        name, _ = text(body, 1, len(body))
        is_portal = _is_portal(body)
        prepared = self._portal(name) if is_portal else self._statement(name)
        if not self._goes_to_server(prepared.ruling):
            self._say((b"" if is_portal else NO_PARAMETERS) + self._columns(prepared.ruling))
            return True
        if is_portal:
            self._out.append(frame)
        else:
            statement = prepared.statement
            assert statement is not None
            if not self._start(statement, None):
                return False
            self._out.append(statement.describe_frame)
        self._owe(steps.DESCRIBE_SHOWN)
        self._is_unsynced = True
        return True

    def _execute(self, body: bytes, frame: bytes) -> bool:
        name, _ = text(body, 0, len(body))
        prepared = self._portal(name)
        ruling = prepared.ruling
        verdict = ruling.verdict
        if not self._goes_to_server(ruling):
            if isinstance(verdict, Answer):
                self._say_answer(verdict, with_columns=False)
                return True
            assert isinstance(verdict, Own)
            done = self._control(ruling, verdict, is_simple=False)
            if done is None:
                return False
            self._is_unsynced = self._is_unsynced or done
            return True
        tag = complete(verdict.tag) if isinstance(verdict, Own) else b""
        self._out.append(frame)
        self._owe(self._execution(ruling, tag))
        self._is_unsynced = True
        return True

    def _close(self, body: bytes, frame: bytes) -> bool:
        name, _ = text(body, 1, len(body))
        if not _is_portal(body):
            self._statements.pop(name, None)
            self._say(CLOSE_COMPLETE)
            return True
        is_cursor = name not in self._portals and self._transaction.is_open
        prepared = self._portals.pop(name, CURSOR if is_cursor else None)
        if prepared is None or self.backend is None or not self._goes_to_server(prepared.ruling):
            self._say(CLOSE_COMPLETE)
            return True
        self._out.append(frame)
        self._owe(steps.CLOSE_SHOWN)
        self._is_unsynced = True
        return True

    def _sync(self, body: bytes, frame: bytes) -> bool:  # noqa: ARG002
        self._is_skipping = False
        if not self.is_copying:
            self._end_turn(is_with_server=False)
        return True

    def _flush_message(self, body: bytes, frame: bytes) -> bool:  # noqa: ARG002
        if self._is_unsynced and self.backend is not None:
            self._out.append(frame)
        return True

    def _columns(self, ruling: Ruling) -> bytes:
        verdict = ruling.verdict
        if isinstance(verdict, Answer) and verdict.columns:
            return row_description(verdict.columns)
        if isinstance(verdict, Own) and verdict.verb == "show":
            return row_description((verdict.name,))
        return NO_DATA

    def _statement(self, name: bytes) -> Prepared:
        prepared = self._statements.get(name)
        if prepared is None:
            raise Trouble("26000", f"prepared statement {_shown(name)} does not exist")
        return prepared

    def _portal(self, name: bytes) -> Prepared:
        prepared = self._portals.get(name)
        if prepared is None and self._transaction.is_open:
            return CURSOR  # made by DECLARE: the server knows
        if prepared is None:
            raise Trouble("34000", f"portal {_shown(name)} does not exist")
        return prepared

    # --- COPY, and what is not offered --------------------------------------------------------------------------------

    def _copy(self, body: bytes, frame: bytes) -> bool:  # noqa: ARG002
        # Outside of COPY the server ignores these too: what was on its way when COPY failed.
        if not (self.is_copying or self._is_unsynced or self._copies_simply):
            return True
        self._out.append(frame)
        if frame[0] in COPY_DONE:
            backend = self.backend
            if (
                not self.is_copying
                and backend is not None
                and backend.steps
                and backend.steps[-1] is not steps.COPY_END
            ):
                self._owe(steps.COPY_END)
            self.is_copying = False
            if self._copies_simply:
                self._copies_simply = False
                self._end_turn(is_with_server=True)
        return True

    def _call(self, body: bytes, frame: bytes) -> bool:  # noqa: ARG002
        raise Trouble("0A000", "function calls of the protocol are not offered", hint="use SELECT")

    def _password(self, body: bytes, frame: bytes) -> bool:  # noqa: ARG002
        raise Fatal("08P01", "a password was sent where none was asked for")


def _is_portal(body: bytes) -> bool:
    if body[:1] not in (b"S", b"P"):
        raise Trouble("08P01", "a message names neither a statement nor a portal")
    return body[:1] == b"P"


def _shown(name: bytes) -> str:
    return f'"{name[:63].decode("utf-8", "replace")}"' if name else "without a name"


_HANDLERS: Final = {
    ord("Q"): Conversation._query,
    ord("P"): Conversation._parse,
    ord("B"): Conversation._bind,
    ord("D"): Conversation._describe,
    ord("E"): Conversation._execute,
    ord("C"): Conversation._close,
    ord("S"): Conversation._sync,
    ord("H"): Conversation._flush_message,
    ord("d"): Conversation._copy,
    ord("c"): Conversation._copy,
    ord("f"): Conversation._copy,
    ord("F"): Conversation._call,
    ord("p"): Conversation._password,
}
