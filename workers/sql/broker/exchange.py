"""One session's exchange with the server: what was sent, what is owed for it, what the client is told, in order.

The state that a conversation is made of, and the few moves that change it: take a connection, open the client's
transaction on it, teach it a statement, send, owe, answer. `steering` and `conversation` stand on it; what messages
mean is theirs. Everything happens within one call, without waiting: what is not there yet is answered by False or None.

An error of the broker's own inside a transaction is made one of the server's (a statement that cannot be parsed is sent
in its place), so that transaction, savepoints and pipeline are in the state that the client expects.

Long because these moves share one state, which would have to be passed around otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import cast

from workers.sql.broker import steps
from workers.sql.broker.backend import Backend, Holder
from workers.sql.broker.costs import FRESH_S, cost_in, estimate_frames, has_cost
from workers.sql.broker.door import Door, Services
from workers.sql.broker.errors import Trouble
from workers.sql.broker.frames import (
    EMPTY_QUERY,
    EXECUTE_ALL,
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
)
from workers.sql.broker.prepared import Prepared, Ruling, ServerStatement
from workers.sql.broker.settings import Wish, reports, wish_of, wish_sql
from workers.sql.broker.steps import ControlStep, EstimateStep, Execution, LocalStep, ParseStep
from workers.sql.broker.transaction import Transaction
from workers.sql.estimate import too_costly
from workers.sql.policy.session import Answer, Forward, Own, Refuse, local_settings_sql
from workers.sql.policy.session.settings import begin_sql
from workers.sql.policy.session.verdict import CURSOR_KINDS

LOST = error_response(Trouble("08006", "the connection to the database was lost", hint="try again"))
ABORT = parse(b"", b"!")
"""Fails on every server: what is sent in place of a refused statement inside a transaction."""


class Exchange(ABC):
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

    # --- what the transport does --------------------------------------------------------------------------------------

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
    def give_back(self, backend: Backend) -> None:
        """The connection is not needed any more."""

    @abstractmethod
    def await_estimate(self) -> None:
        """Call again when an estimate came, upon `relieve`."""

    @abstractmethod
    def look(self) -> None:
        """See anew whether anything goes on."""

    # --- the connection -----------------------------------------------------------------------------------------------

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

    def part_if_idle(self) -> None:
        """Give back a connection that nothing needs."""
        if self.backend is not None and not self.backend.steps and not self._transaction.is_open:
            self.ready()

    def cut_off(self, trouble: Trouble) -> None:
        """Show this error instead of the rest of what runs."""
        head = self.backend.steps[0] if self.is_busy and self.backend is not None else None
        if isinstance(head, Execution) and head.is_shown:
            head.is_shown = False
            head.substitute = error_response(trouble)

    # --- how things stand ---------------------------------------------------------------------------------------------

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

    @property
    def current_settings(self) -> Mapping[str, str]:
        """The session's settings with what SET LOCAL says in this transaction."""
        local = self._transaction.local
        return {**self.settings, **local} if local else self.settings

    @property
    def statement_limit_s(self) -> float:
        """How long a statement may run: the client may only ask for less."""
        most_s = self.services.limits.statement_s
        asked_ms = int(self.current_settings.get("statement_timeout", "0"))
        return min(most_s, asked_ms / 1000) if asked_ms else most_s

    def _is_failed(self) -> bool:
        return self._transaction.is_failed

    def _goes_to_server(self, ruling: Ruling) -> bool:
        verdict = ruling.verdict
        return isinstance(verdict, Forward) or (
            isinstance(verdict, Own) and verdict.verb == "show" and verdict.name not in self.current_settings
        )

    # --- what the connection tells ------------------------------------------------------------------------------------

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
        elif self._is_unsynced and self.backend is not None and self.backend.answers.is_stuck:
            self._is_skipping = True

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

    # --- on the way to the server -------------------------------------------------------------------------------------

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

    def _end_turn(self, *, is_with_server: bool) -> None:
        if is_with_server or self._is_unsynced:
            self._out.append(SYNC)
            self._owe(steps.SYNC_SHOWN)
            self._is_unsynced = False
        else:
            self._say(READY[self.ready_status])

    # --- on the way to the client -------------------------------------------------------------------------------------

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

    def _notice(self, sqlstate: str, said: str) -> None:
        self._say(error_response(Trouble(sqlstate, said), kind=b"N"))

    def _denied(self, ruling: Ruling, refuse: Refuse) -> Trouble:
        self.door.trail.refused(ruling, refuse)
        return Trouble(refuse.sqlstate, refuse.message, hint=refuse.hint, rule=refuse.rule)

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

    # --- settings -----------------------------------------------------------------------------------------------------

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


def _nothing() -> None:
    pass
