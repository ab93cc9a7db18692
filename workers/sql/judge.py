"""The policy as a service: verdicts from a cache or from a parser process that is killed when a statement costs too
much.

Used by the scheduler, the broker and `sandpool policy check`. One process, statements pipelined to it; when it dies,
the statement that it was working on is denied and the others go to its successor. It decides nothing itself
(policy/verdict.py and policy/session/decide.py do).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import OrderedDict, deque
from dataclasses import dataclass, field

import msgspec

from sandpool.outcome import Verdict
from workers.child import Child, start_child
from workers.errors import WorkerError
from workers.sql.parser_frames import HEADER, Answer, AskFrame, CatalogFrame, PolicyFrame, ReadyFrame
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import Dialect, Policy
from workers.sql.policy.prescan import MAX_BYTES
from workers.sql.policy.session.sqlstates import sqlstate_of
from workers.sql.policy.session.verdict import Refuse, SessionFacts, SessionVerdict, Several

_Key = tuple[str, str, str, bool, str, str]
"""Versions of policy and catalog, dialect (a session's protocol and database), writes, tenant if it matters, text."""
_Any = Verdict | SessionVerdict

START_TIMEOUT_S = 60.0
_MAX_KNOWN = 256
"""Policies and catalogs that one process may hold before a fresh one takes over."""
_START_ATTEMPTS = 3
_GUILTY = frozenset({-signal.SIGPROF, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT})
"""Deaths by the statement's own doing: out of CPU time, out of stack, out of memory. Any other may be somebody's
kill."""
_TOO_COMPLEX = Verdict(
    allowed=False,
    rule="statement.too-complex",
    reason="checking the statement takes too much time or memory; split it or nest it less",
)
_FAILED = Verdict(
    allowed=False, rule="check.failed", reason="the checking process failed on this statement; rephrase in plainer SQL"
)
_OVERLOADED = Verdict(
    allowed=False, rule="check.overloaded", reason="too many statements wait for a check; try again later"
)


class JudgeUnavailable(WorkerError):
    """The parser process does not start. Nothing is allowed without it."""

    code = "judge.unavailable"
    retry = True


@dataclass(slots=True, eq=False)
class _Ask:
    key: _Key
    policy: Policy
    catalog: Catalog | None
    tenant: str
    facts: SessionFacts | None
    answer: asyncio.Future[_Any]
    is_retried: bool = False


@dataclass(slots=True, eq=False)
class _Process:
    child: Child
    known: set[str] = field(default_factory=set)


class Judge:
    """Verdicts for many callers on one event loop. Use as `async with Judge() as judge`, or `start()` and `close()`."""

    def __init__(
        self,
        *,
        cpu_limit_s: float = 0.5,
        wall_limit_s: float = 10.0,
        queue_limit: int = 1024,
        queue_timeout_s: float = 10.0,
        cache_size: int = 8192,
        cache_bytes: int = 32 << 20,
        headroom_rows: int = 0,
    ) -> None:
        """`cpu_limit_s` of CPU time for one statement, and `wall_limit_s` in case the process hangs without using
        any."""
        self._cpu_limit_s = cpu_limit_s
        self._wall_limit_s = wall_limit_s
        self._queue_timeout_s = queue_timeout_s
        self._slots = asyncio.Semaphore(queue_limit)
        self._cache_size = cache_size
        self._cache_bytes = cache_bytes
        self._headroom_rows = headroom_rows
        self._cache: OrderedDict[_Key, _Any] = OrderedDict()
        self._cached_bytes = 0
        self._asked: dict[_Key, asyncio.Future[_Any]] = {}
        self._unsent: deque[_Ask] = deque()
        self._sent: deque[_Ask] = deque()
        """Asked of the present process, oldest first: that one it is working on."""
        self._wake = asyncio.Event()
        self._asking = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._closed = False
        self._decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
        self._encoder = msgspec.msgpack.Encoder()
        self.restarts = 0
        """Parser processes that ended before their time."""

    async def __aenter__(self) -> Judge:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Starts the parser process. Raises JudgeUnavailable when it does not come up."""
        if self._owner is None:
            self._owner = asyncio.create_task(self._run(), name="judge")
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait({ready, self._owner}, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if not self._ready.is_set():
            await self.close()
            raise JudgeUnavailable(
                "the parser process does not start", hint="run `python -m workers.sql.parser_process 1` to see why"
            )

    async def close(self) -> None:
        """Ends the process; statements still waiting are denied."""
        self._closed = True
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.gather(self._owner, return_exceptions=True)
        self._give_up()

    def cached(
        self, text: str, dialect: Dialect, policy: Policy, catalog: Catalog | None, tenant: str, *, writes: bool = False
    ) -> Verdict | None:
        """The verdict where it is known already; takes about a microsecond and never waits."""
        return self._recall(_key(text, dialect, policy, catalog, tenant, writes))  # type: ignore[return-value]

    async def judge(
        self, text: str, dialect: Dialect, policy: Policy, catalog: Catalog | None, tenant: str, *, writes: bool = False
    ) -> Verdict:
        """The verdict; denies when the check fails, takes too long or cannot begin in time. Never raises for a
        statement."""
        key = _key(text, dialect, policy, catalog, tenant, writes)
        return self._recall(key) or await self._ask(key, policy, catalog, tenant, None)  # type: ignore[return-value]

    def cached_session(
        self, text: str, facts: SessionFacts, policy: Policy, catalog: Catalog | None, tenant: str
    ) -> SessionVerdict | None:
        """What the broker does with this text where it is known already; never waits."""
        return self._recall(_key(text, _mode(facts), policy, catalog, tenant, facts.writes))  # type: ignore[return-value]

    async def judge_session(
        self, text: str, facts: SessionFacts, policy: Policy, catalog: Catalog | None, tenant: str
    ) -> SessionVerdict:
        """What the broker does with this text; refuses when the check fails, takes too long or cannot begin in
        time."""
        key = _key(text, _mode(facts), policy, catalog, tenant, facts.writes)
        return self._recall(key) or await self._ask(key, policy, catalog, tenant, facts)  # type: ignore[return-value]

    def _recall(self, key: _Key) -> _Any | None:
        verdict = self._cache.get(key)
        if verdict is not None:
            self._cache.move_to_end(key)
        return verdict

    async def _ask(
        self, key: _Key, policy: Policy, catalog: Catalog | None, tenant: str, facts: SessionFacts | None
    ) -> _Any:
        refused = _unreadable(key[-1], tenant)
        if refused is not None:
            return _fitting(refused, facts)
        known = self._asked.get(key)
        if known is not None:
            return await asyncio.shield(known)
        if self._closed or self._owner is None or self._owner.done():
            return _fitting(_FAILED, facts)
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            return _fitting(_OVERLOADED, facts)
        answer: asyncio.Future[_Any] = asyncio.get_running_loop().create_future()
        self._asked[key] = answer
        self._unsent.append(_Ask(key, policy, catalog, tenant, facts, answer))
        self._wake.set()
        return await asyncio.shield(answer)

    # --- the owner task: one process after another
    # ---------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._keep_process()
        finally:
            # Whatever ended it: nobody may wait for an answer that can no longer come.
            self._closed = True
            self._give_up()

    async def _keep_process(self) -> None:
        failures = 0
        while not self._closed:
            process: _Process | None = None
            try:
                process = await self._spawn()
                failures = 0
                await self._feed(process)
            except (OSError, asyncio.IncompleteReadError, TimeoutError, msgspec.MsgspecError) as error:
                failures += process is None
                if process is not None:
                    is_hung = isinstance(error, TimeoutError)
                    await process.child.end(grace_s=0.0 if is_hung else 1.0)
                    self._bury(process.child.returncode, hung=is_hung)
                if failures >= _START_ATTEMPTS:
                    return
            finally:
                if process is not None:
                    await process.child.end()

    async def _spawn(self) -> _Process:
        # Where our code lies, and nothing else of our environment: the process needs no secret.
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        child = await start_child(["-m", "workers.sql.parser_process", str(self._cpu_limit_s)], environment=environment)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                if not isinstance(await self._receive(child), ReadyFrame):
                    raise OSError("the parser process does not answer")
        except BaseException:
            await child.end()
            raise
        self._ready.set()
        return _Process(child)

    async def _feed(self, process: _Process) -> None:
        """Sends what waits, receives what is answered, until the process fails or has seen too many policies."""
        while self._sent:
            self._unsent.appendleft(self._sent.pop())
        receiver = asyncio.create_task(self._collect(process), name="judge-answers")
        try:
            while len(process.known) < _MAX_KNOWN:
                self._wake.clear()
                self._send(process)
                waker = asyncio.ensure_future(self._wake.wait())
                try:
                    await asyncio.wait({waker, receiver}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waker.cancel()
                if receiver.done():
                    receiver.result()
            # Full: a fresh process takes over. What this one has not answered yet is asked again there.
        finally:
            receiver.cancel()
            await asyncio.gather(receiver, return_exceptions=True)

    def _send(self, process: _Process) -> None:
        stdin = process.child.stdin
        while self._unsent:
            ask = self._unsent.popleft()
            policy, catalog, dialect, writes, _, text = ask.key
            dialect = "postgres" if ask.facts is not None else dialect
            if policy not in process.known:
                process.known.add(policy)
                document = ask.policy.model_dump_json(by_alias=True).encode()
                self._frame(stdin, PolicyFrame(policy, document))
            if ask.catalog is not None and catalog not in process.known:
                process.known.add(catalog)
                self._frame(stdin, CatalogFrame(catalog, ask.catalog))
            self._sent.append(ask)
            asked = AskFrame(0, text, dialect, policy, catalog, ask.tenant, writes, self._headroom_rows, ask.facts)  # type: ignore[arg-type]
            self._frame(stdin, asked)
        self._asking.set()

    def _frame(self, stdin: asyncio.WriteTransport, frame: PolicyFrame | CatalogFrame | AskFrame) -> None:
        body = self._encoder.encode(frame)
        stdin.write(HEADER.pack(len(body)) + body)

    async def _collect(self, process: _Process) -> None:
        """Answers come in the order of the asks. The clock of a statement starts with the answer before it."""
        while True:
            while not self._sent:
                self._asking.clear()
                await self._asking.wait()
            async with asyncio.timeout(self._wall_limit_s):
                answer = await self._receive(process.child)
            if isinstance(answer, ReadyFrame):
                raise OSError("the parser process is out of step")
            self._settle(self._sent.popleft(), answer.verdict, keep=True)

    async def _receive(self, child: Child) -> Answer:
        (length,) = HEADER.unpack(await child.reader.readexactly(HEADER.size))
        return self._decoder.decode(await child.reader.readexactly(length))

    def _bury(self, status: int | None, *, hung: bool) -> None:
        """The process died or hangs. The statement at its hands is denied where it is to blame, else tried once
        more."""
        self.restarts += 1
        if not self._sent:
            return
        ask = self._sent[0]
        is_guilty = status in _GUILTY
        if is_guilty or hung or ask.is_retried:
            self._settle(self._sent.popleft(), _TOO_COMPLEX, keep=is_guilty)
        else:
            ask.is_retried = True

    def _give_up(self) -> None:
        for queue in (self._sent, self._unsent):
            while queue:
                self._settle(queue.popleft(), _FAILED, keep=False)

    def _settle(self, ask: _Ask, verdict: _Any, *, keep: bool) -> None:
        self._slots.release()
        self._asked.pop(ask.key, None)
        if isinstance(verdict, Verdict):
            verdict = _fitting(verdict, ask.facts)
        if not ask.answer.done():
            ask.answer.set_result(verdict)
        if keep and (not isinstance(verdict, Verdict | Refuse) or verdict.rule != "check.failed"):
            self._remember(ask.key, verdict)

    def _remember(self, key: _Key, verdict: _Any) -> None:
        self._cache[key] = verdict
        self._cached_bytes += _weight(key, verdict)
        while len(self._cache) > self._cache_size or self._cached_bytes > self._cache_bytes:
            old_key, old = self._cache.popitem(last=False)
            self._cached_bytes -= _weight(old_key, old)


def _key(text: str, mode: str, policy: Policy, catalog: Catalog | None, tenant: str, writes: bool) -> _Key:
    return (
        policy.version,
        catalog.version if catalog else "",
        mode,
        writes,
        tenant if policy.uses_tenant else "",
        text,
    )


def _mode(facts: SessionFacts) -> str:
    return f"{facts.protocol} {facts.database}"


def _unreadable(text: str, tenant: str) -> Verdict | None:
    """A denial of what no frame could carry."""
    if len(text) > MAX_BYTES:
        reason = f"the text has {len(text)} characters; at most {MAX_BYTES} bytes are allowed: pass data as parameters"
        return Verdict(allowed=False, rule="text.too-long", reason=reason)
    for name, said in (("text", text), ("tenant's name", tenant)):
        try:
            said.isascii() or said.encode()
        except UnicodeEncodeError:
            reason = f"the {name} is not valid Unicode; send UTF-8"
            return Verdict(allowed=False, rule="text.encoding", reason=reason)
    return None


def _fitting(denial: Verdict, facts: SessionFacts | None) -> _Any:
    """A denial as the asker expects it: jobs get a verdict, sessions an error."""
    if facts is None or denial.allowed:
        return denial
    return Refuse(sqlstate_of(denial.rule), denial.rule, denial.reason)


def _weight(key: _Key, verdict: _Any) -> int:
    parts = verdict.parts if isinstance(verdict, Several) else (verdict,)
    return len(key[-1]) + sum(len(getattr(part, "sql", "")) for part in parts) + 500
