"""One client's side of the protocol, after it was let in: messages in, bytes for client and server out.

Everything here happens within one call, without waiting: a handler that needs a verdict or a connection first answers
False, and is called again with the same message when it is there. `session` is the transport around it. What runs on
the server is the policy's printed text under a name of the broker's own; transaction control and settings are the
broker's.

An error of the broker's own inside a transaction is made one of the server's (a statement that cannot be parsed is sent
in its place), so that transaction, savepoints and pipeline are in the state that the client expects.

Long because its handlers share one state, which would have to be passed around otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from math import inf
from time import monotonic
from typing import Final, cast

from workers.sql.broker import steps
from workers.sql.broker.backend import Backend, Holder
from workers.sql.broker.costs import FRESH_S, cost_in, estimate_frames, has_cost
from workers.sql.broker.door import Door, Services
from workers.sql.broker.errors import Fatal, Trouble
from workers.sql.broker.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    EMPTY_QUERY,
    EXECUTE_ALL,
    NO_DATA,
    NO_PARAMETERS,
    PARSE_COMPLETE,
    READY,
    SYNC,
    bind_nothing,
    clean,
    complete,
    data_row,
    error_response,
    message,
    parse,
    row_description,
    text,
)
from workers.sql.broker.prepared import Prepared, Ruling, ServerStatement
from workers.sql.broker.settings import Wish, reports, shown_value, wish_of, wish_sql
from workers.sql.broker.steps import ControlStep, EstimateStep, Execution, LocalStep, ParseStep
from workers.sql.broker.transaction import Transaction
from workers.sql.estimate import too_costly
from workers.sql.policy.session import Answer, Forward, Own, Refuse, Several, local_settings_sql
from workers.sql.policy.session.settings import begin_sql
from workers.sql.policy.session.verdict import CURSOR_KINDS

LOST = error_response(Trouble("08006", "the connection to the database was lost", hint="try again"))
ABORT = parse(b"", b"!")
"""Fails on every server: what is sent in place of a refused statement inside a transaction."""
CURSOR: Final = Prepared(Ruling("", Forward("", "fetch")), None)
"""A portal that was made by a statement."""
COPY_DONE: Final = frozenset(b"cf")
_QUERY: Final = ord("Q")


class Conversation(ABC):
    """The protocol state of one session."""

    def __init__(self, services: Services, door: Door) -> None:
        self.services = services
        self.door = door
        self.backend: Backend | None = None
        self.settings: dict[str, str] = {}
        self.sent_s = 0.0
        """When something was last sent to the server."""
        self.is_copying = False
        self.wish: Wish = ()
        self._statements: dict[bytes, Prepared] = {}
        self._portals: dict[bytes, Prepared] = {}
        self._transaction = Transaction()
        self._out: list[bytes] = []
        """For the server, at the end of this call."""
        self._is_unsynced = False
        """The server was sent messages of the extended protocol and no Sync yet."""
        self._is_skipping = False
        """After an error, everything up to the next Sync is ignored."""
        self._copies_simply = False
        """COPY FROM STDIN by the simple protocol: the Sync is ours to send."""
        self.is_swamped = False
        """`relieve` is to be called when some of what is owed has come."""
        self.is_estimating = False
        """The message at hand waits for what its statement would cost."""
        self._is_spoiled = False
        """The estimate failed, and the client was told: its statement would have failed in the same way."""

    # --- what the transport does ---------------------------------------------------------------------------------

    @abstractmethod
    def show(self, data: bytes) -> None:
        """Bytes for the client."""

    @abstractmethod
    def rule(self, sql: bytes, protocol: str) -> Ruling | None:
        """The verdict on this text; None: not there yet, call again. Raises Trouble."""

    @abstractmethod
    def lease(self) -> bool:
        """Whether there is a connection; False: not yet, call again. Raises Trouble."""

    @abstractmethod
    def await_estimate(self) -> None:
        """Call again when an estimate came, upon `relieve`."""

    @abstractmethod
    def look(self) -> None:
        """See anew whether anything goes on."""

    @abstractmethod
    def give_back(self, backend: Backend) -> None:
        """The connection is not needed any more."""

    # --- one message ---------------------------------------------------------------------------------------------

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

    def flush(self) -> None:
        """Send what this call has for the server, in one write."""
        if self._out and self.backend is not None:
            self.sent_s = monotonic()
            self.backend.send(self._out[0] if len(self._out) == 1 else b"".join(self._out))
        self._out.clear()

    def hold(self, backend: Backend) -> None:
        """A connection was lent."""
        self.take(backend)
        backend.max_bytes = self.services.limits.max_bytes
        if room := backend.make_room():
            self._out.append(room)
        if backend.wish != self.wish:
            backend.steps.append(ControlStep(lambda sqlstate: backend.break_off() if sqlstate else None))
            self._out.append(message(b"Q", clean(wish_sql(backend.wish, self.wish))))
            backend.wish = self.wish

    def take(self, backend: Backend) -> None:
        """It is this session's now."""
        self.backend = backend
        backend.attach(cast(Holder, self))

    @property
    def is_settled(self) -> bool:
        """Nothing is owed by anybody, and the next statement needs nothing before it."""
        backend = self.backend
        transaction = self._transaction
        return not (
            (backend is not None and backend.steps)
            or self._is_unsynced
            or self._is_skipping
            or transaction.pending is not None
            or transaction.is_failed
        )

    @property
    def ready_status(self) -> str:
        """What ReadyForQuery says now."""
        return self._transaction.status(self.backend.status if self.backend is not None else "I")

    def claim(self, status: str) -> str:
        """What ReadyForQuery says where the server says `status`: a BEGIN that it has not heard of counts."""
        transaction = self._transaction
        if transaction.pending is None and not transaction.is_failed:
            return status
        return transaction.status(status)

    @property
    def is_busy(self) -> bool:
        """The server owes an answer."""
        return self.backend is not None and bool(self.backend.steps)

    @property
    def is_unsynced(self) -> bool:
        return self._is_unsynced

    # --- what the connection tells -------------------------------------------------------------------------------

    def ready(self) -> None:
        """Everything was answered up to a Sync."""
        backend = self.backend
        if backend is None or self._is_unsynced or backend.steps:
            return
        self._transaction.is_open = backend.answers.status != "I"
        if not self._transaction.is_open:
            self._portals.clear()
            self.backend = None
            self.give_back(backend)
        self.look()

    def failed(self) -> None:
        """The server refused something."""
        self._transaction.had_error = True
        self.is_copying = False
        if self._copies_simply and self.backend is not None:
            self._copies_simply = self._is_unsynced = False
            self.backend.steps.append(steps.SYNC_SHOWN)
            self.backend.send(SYNC)

    def copy_in(self) -> None:
        """The server waits for rows. A Sync that was sent already does not count."""
        self.is_copying = self._is_unsynced = True

    def lose(self, owed: list[steps.Step], *, is_told: bool) -> bool:
        """The connection is gone, and with it everything that was open on it. False: the client was told nothing, and
        must be at its next statement.

        Each turn that the server did not end is ended with an error, in the order of the turns.
        """
        was_open = self._transaction.is_open
        self.backend = None
        self._out.clear()
        self._portals.clear()
        self._is_unsynced = self._copies_simply = self.is_copying = False
        self._settle(self._transaction.end(keeps=False))
        self._transaction.is_failed = was_open
        is_touched = False
        for step in owed:
            if step.kind in (steps.SYNC, steps.TURN):
                self.show((b"" if is_told else LOST) + READY[self.ready_status])
                is_touched = is_told = False
            elif isinstance(step, LocalStep) and not is_touched:
                self.show(step.data)
            elif step.kind not in (steps.LOCAL, steps.CONTROL):
                is_touched = True
        if is_touched:
            self.show(b"" if is_told else LOST)
            self._is_skipping = True
        self.look()
        return bool(owed) or not was_open

    def cut_off(self, trouble: Trouble) -> None:
        """Show this error instead of the rest of what runs."""
        head = self.backend.steps[0] if self.is_busy and self.backend is not None else None
        if isinstance(head, Execution) and head.is_shown:
            head.is_shown = False
            head.substitute = error_response(trouble)

    def part_if_idle(self) -> None:
        """Give back a connection that nothing needs."""
        if self.backend is not None and not self.backend.steps and not self._transaction.is_open:
            self.ready()

    @property
    def statement_limit_s(self) -> float:
        """How long a statement may run: the client may only ask for less."""
        most_s = self.services.limits.statement_s
        asked_ms = int(self.settings.get("statement_timeout", "0"))
        return min(most_s, asked_ms / 1000) if asked_ms else most_s

    # --- simple protocol -----------------------------------------------------------------------------------------

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

    def _end_turn(self, *, is_with_server: bool) -> None:
        if is_with_server or self._is_unsynced:
            self._out.append(SYNC)
            self._owe(steps.SYNC_SHOWN)
            self._is_unsynced = False
        else:
            self._say(READY[self.ready_status])

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

    def _run(self, ruling: Ruling, verdict: Forward, *, is_simple: bool, tag: bytes = b"") -> bool | None:
        statement = ruling.statement
        assert statement is not None
        if not self._start(statement, ruling if ruling.verdict is verdict else None):
            return None
        self._out.append(statement.start_frames)
        described = steps.DESCRIBE_ROWS if is_simple else steps.DESCRIBE_HIDDEN
        self._owe(steps.BIND_HIDDEN, described, self._execution(ruling, tag))
        self._copies_simply = statement.is_copy_in and is_simple
        return True

    # --- extended protocol ---------------------------------------------------------------------------------------

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

    # --- COPY, and what is not offered ---------------------------------------------------------------------------

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

    # --- control: the broker's own statements --------------------------------------------------------------------

    def _control(self, ruling: Ruling, own: Own, *, is_simple: bool) -> bool | None:
        """True: the server takes part; None: call again. Raises Trouble."""
        if self._is_failed() and own.verb not in ("commit", "rollback"):
            raise Trouble("25P02", "current transaction is aborted, commands ignored until end of transaction block")
        match own.verb:
            case "begin":
                self._say_begin(own)
                return False
            case "commit" | "rollback":
                return self._end(ruling, own)
            case "savepoint" | "release" | "rollback-to":
                if not self._transaction.is_begun:
                    raise Trouble("25P01", f"{own.tag} can only be used in transaction blocks")
                return self._send_own(ruling, own)
            case "set":
                return self._set(ruling, own)
            case "reset":
                return self._reset(own)
            case "show" if own.name in self.settings:
                value = shown_value(own.name, self.settings[own.name])
                row = Answer((own.name,), ((value,),), own.tag)
                self._say_answer(row, with_columns=is_simple)
                return False
            case "show":
                return self._run(ruling, Forward(own.sql, "select"), is_simple=is_simple, tag=complete(own.tag))
            case "close-all" if self._transaction.is_open:
                return self._send_own(ruling, own)
            case "close-all":
                self._say(complete(own.tag))
                return False
            case "deallocate":
                return self._deallocate(own)
            case "discard":
                if self._transaction.is_begun:
                    raise Trouble("25001", "DISCARD ALL cannot run inside a transaction block")
                self._statements.clear()
                self._change({})
                self._say(complete(own.tag))
                return False

    def _say_begin(self, own: Own) -> None:
        transaction = self._transaction
        if transaction.is_begun:
            self._notice("25001", "there is already a transaction in progress")
            self._say(complete(own.tag))
            return
        transaction.begin(own, self.settings)

        def undo() -> None:
            if transaction.pending is own:
                transaction.pending = None

        self._say(complete(own.tag), undo)

    def _end(self, ruling: Ruling, own: Own) -> bool | None:
        transaction = self._transaction
        keeps = own.verb == "commit"
        if transaction.is_open or self._is_unsynced:
            done = self._send_own(ruling, own)
            if done and not own.chain:
                self._settle(transaction.end(keeps=keeps))
            return done
        if own.chain and not transaction.is_begun:
            raise Trouble("25P01", f"{own.tag} AND CHAIN can only be used in transaction blocks")
        if not transaction.is_begun:
            self._notice("25P01", "there is no transaction in progress")
        tag = "ROLLBACK" if transaction.is_failed else own.tag
        chained = transaction.pending if own.chain else None
        self._settle(transaction.end(keeps=keeps))
        if chained is not None:
            transaction.begin(chained, self.settings)
        self._say(complete(tag))
        return False

    def _send_own(self, ruling: Ruling, own: Own) -> bool | None:
        """Have the server do it, in its place in the stream."""
        if not self.lease():
            return None
        self._begin()
        self._tell(own.sql, self._execution(ruling))
        return True

    def _set(self, ruling: Ruling, own: Own) -> bool | None:
        transaction = self._transaction
        if own.settings and own.settings[0][0].startswith("transaction_"):
            if not transaction.is_begun:
                self._notice("25P01", "SET TRANSACTION can only be used in transaction blocks")
                self._say(complete(own.tag))
                return False
            return self._send_own(ruling, own)
        if own.is_local and not transaction.is_begun:
            self._notice("25P01", "SET LOCAL can only be used in transaction blocks")
            self._say(complete(own.tag))
            return False
        changed = dict(own.settings)
        if transaction.is_open:
            for sql in local_settings_sql(changed):
                self._tell(sql, steps.EXECUTE_HIDDEN)
        elif own.is_local:
            transaction.local.update(changed)
        if not own.is_local:
            self._change({**self.settings, **changed})
        self._say(complete(own.tag))
        if transaction.is_open:
            self._is_unsynced = True
            return True
        return False

    def _reset(self, own: Own) -> bool:
        kept = {name: value for name, value in self.settings.items() if own.name and name != own.name}
        gone = self.settings.keys() - kept.keys()
        if self._transaction.is_open:
            for name, _ in wish_of(dict.fromkeys(gone, ""), {}):
                self._tell(f"SET LOCAL {name} TO DEFAULT", steps.EXECUTE_HIDDEN)
            self._is_unsynced = True
        self._change(kept)
        self._say(complete(own.tag))
        return self._transaction.is_open

    def _deallocate(self, own: Own) -> bool:
        if not own.name:
            self._statements.clear()
        elif self._statements.pop(own.name.encode(), None) is None:
            raise Trouble("26000", f'prepared statement "{own.name}" does not exist')
        self._say(complete(own.tag))
        return False

    def _change(self, settings: dict[str, str]) -> None:
        """Other settings from now on."""
        said = reports(self.settings, settings, self.services.parameters)
        self.settings = settings
        self.wish = wish_of({**settings, **self.services.forced}, self.services.pinned)
        if said:
            self._say(said)

    def _settle(self, back: dict[str, str] | None) -> None:
        if back is not None and back != self.settings:
            self._change(back)

    # --- on the way to the server --------------------------------------------------------------------------------

    def _start(self, statement: ServerStatement, ruling: Ruling | None) -> bool:
        """A connection that knows the statement, in the client's transaction; with the ruling by which it shall run.
        Raises Trouble."""
        verdict = ruling.verdict if ruling is not None else None
        if isinstance(verdict, Forward) and verdict.kind in CURSOR_KINDS and not self._transaction.is_begun:
            raise Trouble("25P01", f"{verdict.kind.upper()} can only be used in transaction blocks")
        if self._transaction.is_failed:
            raise Trouble("25P02", "current transaction is aborted, commands ignored until end of transaction block")
        if self.backend is None and not self.lease():
            return False
        if self._transaction.pending is not None:
            self._begin()
        backend = self.backend
        assert backend is not None
        if statement in backend.known:
            backend.known.move_to_end(statement)
        else:
            self._teach(statement)
        if ruling is None or statement.vetted_until_s > monotonic():
            return True
        return self._vet(statement, ruling)

    def _vet(self, statement: ServerStatement, ruling: Ruling) -> bool:
        """Whether it is cheap enough; False: not known yet, call again. Raises Trouble."""
        verdict, max_cost = ruling.verdict, self.services.max_cost
        if max_cost is None or not isinstance(verdict, Forward) or not has_cost(verdict):
            statement.vetted_until_s = inf
            return True
        if statement.costed_until_s > monotonic():
            if statement.cost is None or statement.cost > max_cost:
                error = too_costly(inf if statement.cost is None else statement.cost, max_cost)
                raise self._denied(ruling, Refuse("54000", error.code, error.message, error.hint))
            statement.vetted_until_s = statement.costed_until_s
            return True

        def end(row: bytes | None) -> None:
            self.is_estimating = False
            self.is_swamped = True
            if row is None:
                self._is_spoiled = True
            else:
                statement.cost = cost_in(row)
                statement.costed_until_s = monotonic() + FRESH_S

        self._out.append(estimate_frames(statement, verdict))
        self._owe(ParseStep(_nothing, is_shown=False), steps.BIND_HIDDEN, EstimateStep(end, ruling.text))
        self._owe(steps.CLOSE_HIDDEN)
        self._is_unsynced = self.is_estimating = True
        self.await_estimate()
        return False

    def _begin(self) -> None:
        """Open on the server what the client said BEGIN for."""
        transaction = self._transaction
        if transaction.pending is None:
            return
        self._tell(begin_sql(transaction.pending, self.settings, writes=self.services.writes), steps.EXECUTE_HIDDEN)
        for sql in local_settings_sql(transaction.local):
            self._tell(sql, steps.EXECUTE_HIDDEN)
        transaction.opened()

    def _teach(self, statement: ServerStatement | None, name: bytes | None = None) -> None:
        """Prepare it on this connection; `name`: because the client said Parse, under this name."""
        backend = self.backend
        assert backend is not None and statement is not None
        if name is not None and statement in backend.known:
            # On its way for a message before this one.
            self._say(PARSE_COMPLETE)
            return
        known = backend.known
        known[statement] = None
        prepared = self._statements.get(name) if name is not None else None

        def undo() -> None:
            known.pop(statement, None)
            if name is not None and self._statements.get(name) is prepared:
                del self._statements[name]

        self._out.append(statement.parse_frame)
        self._owe(ParseStep(undo, statement, is_shown=name is not None))
        self._is_unsynced = True

    def _tell(self, sql: str, execution: steps.Step) -> None:
        """A statement of the broker's own by the extended protocol, unnamed."""
        self._out += [parse(b"", sql.encode()), bind_nothing(b""), EXECUTE_ALL]
        self._owe(ParseStep(_nothing, is_shown=False), steps.BIND_HIDDEN, execution)
        self._is_unsynced = True

    def _owe(self, *owed: steps.Step) -> None:
        assert self.backend is not None
        self.backend.steps.extend(owed)

    def _execution(self, ruling: Ruling, tag: bytes = b"") -> Execution:
        return Execution(self._note, ruling, monotonic(), tag)

    def _note(self, execution: Execution, tag: bytes, sqlstate: str) -> None:
        size = self.backend.answers.shown_bytes if self.backend is not None and tag else 0
        ended_s = monotonic()
        self.door.trail.ran(execution.ruling, tag, sqlstate, size, ended_s - execution.started_s, ended_s)

    # --- on the way to the client --------------------------------------------------------------------------------

    def _say(self, data: bytes, undo: steps.Undo | None = None) -> None:
        """Bytes of the broker's own, in their place behind what the server still owes."""
        if self.backend is not None and self.backend.steps:
            self.backend.steps.append(LocalStep(data, undo))
        else:
            self.show(data)

    def _say_answer(self, answer: Answer, *, with_columns: bool) -> None:
        if not answer.tag:
            self._say(EMPTY_QUERY)
            return
        columns = row_description(answer.columns) if answer.columns and with_columns else b""
        self._say(columns + b"".join(map(data_row, answer.rows)) + complete(answer.tag))

    def _denied(self, ruling: Ruling, refuse: Refuse) -> Trouble:
        self.door.trail.refused(ruling, refuse)
        return Trouble(refuse.sqlstate, refuse.message, hint=refuse.hint, rule=refuse.rule)

    def _notice(self, sqlstate: str, said: str) -> None:
        self._say(error_response(Trouble(sqlstate, said), kind=b"N"))

    def _refuse(self, trouble: Trouble, *, is_simple: bool) -> None:
        """The error in place of an answer."""
        said = error_response(trouble)
        transaction = self._transaction
        if self.backend is not None and (transaction.is_open or self._is_unsynced):
            self._out.append(ABORT)
            self._owe(ParseStep(_nothing, is_shown=False, substitute=said))
            self._is_unsynced = True
        else:
            transaction.fail()
            self._say(said)
        if is_simple:
            self._end_turn(is_with_server=False)
        else:
            self._is_skipping = True

    # --- small questions -----------------------------------------------------------------------------------------

    def _is_failed(self) -> bool:
        return self._transaction.is_failed

    def _goes_to_server(self, ruling: Ruling) -> bool:
        verdict = ruling.verdict
        return isinstance(verdict, Forward) or (
            isinstance(verdict, Own) and verdict.verb == "show" and verdict.name not in self.settings
        )

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


def _is_portal(body: bytes) -> bool:
    if body[:1] not in (b"S", b"P"):
        raise Trouble("08P01", "a message names neither a statement nor a portal")
    return body[:1] == b"P"


def _shown(name: bytes) -> str:
    return f'"{name[:63].decode("utf-8", "replace")}"' if name else "without a name"


def _nothing() -> None:
    pass


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
