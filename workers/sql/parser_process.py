"""The killable process in which statements are parsed and judged: `python -m workers.sql.parser_process`.

Started and fed by workers/sql/judge.py over its stdin and stdout, with frames of `parser_frames`. It holds no secret,
opens
nothing and answers one frame for one frame, in order. A statement that uses more than its share of CPU time ends the
whole
process: the kernel's profiling timer does that even inside a C parser which no Python signal handler could interrupt.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import threading

import msgspec

from workers.sql.parser_frames import (
    HEADER,
    AskFrame,
    CatalogFrame,
    Frame,
    PolicyFrame,
    ReadyFrame,
    SessionFrame,
    VerdictFrame,
)
from workers.sql.policy import Catalog, Policy, judge
from workers.sql.policy.session import judge_session

MEMORY_LIMIT_BYTES = 4 << 30
"""Address space, not resident memory: the big stack and DuckDB's reservations count."""
STACK_BYTES = 256 << 20
RECURSION_LIMIT = 12_000
_ORPHAN_CHECK_S = 5.0


class _Server:
    def __init__(self, cpu_limit_s: float) -> None:
        self._cpu_limit_s = cpu_limit_s
        self._policies: dict[str, Policy] = {}
        self._catalogs: dict[str, Catalog] = {}
        self._decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)
        self._encoder = msgspec.msgpack.Encoder()

    def serve(self) -> None:
        """Answers frames until stdin ends or the parent is gone."""
        parent = os.getppid()
        received = bytearray()
        _write_all(self._framed(ReadyFrame()))
        while True:
            while (body := _take(received)) is not None:
                # Not gathered: an answer held back would die with us, and the parent would blame the wrong statement.
                _write_all(self._handle(body))
            while not select.select([0], [], [], _ORPHAN_CHECK_S)[0]:
                if os.getppid() != parent:
                    return
            chunk = os.read(0, 1 << 20)
            if not chunk:
                return
            received += chunk

    def _handle(self, body: bytes) -> bytes:
        frame = self._decoder.decode(body)
        if isinstance(frame, PolicyFrame):
            self._policies[frame.version] = Policy.model_validate_json(frame.document)
        elif isinstance(frame, CatalogFrame):
            self._catalogs[frame.version] = frame.catalog
        elif isinstance(frame, AskFrame):
            return self._framed(self._answer(frame))
        return b""

    def _answer(self, ask: AskFrame) -> VerdictFrame | SessionFrame:
        policy = self._policies[ask.policy]
        catalog = self._catalogs[ask.catalog] if ask.catalog else None
        signal.setitimer(signal.ITIMER_PROF, self._cpu_limit_s)
        try:
            if ask.facts is not None:
                return SessionFrame(ask.number, judge_session(ask.text, ask.facts, policy, catalog, ask.tenant))
            verdict = judge(
                ask.text,
                ask.dialect,
                policy,
                catalog,
                ask.tenant,
                writes=ask.writes,
                headroom_rows=ask.headroom_rows,
            )
            return VerdictFrame(ask.number, verdict)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _framed(self, frame: ReadyFrame | VerdictFrame | SessionFrame) -> bytes:
        body = self._encoder.encode(frame)
        return HEADER.pack(len(body)) + body


def _take(received: bytearray) -> bytes | None:
    if len(received) < HEADER.size:
        return None
    (length,) = HEADER.unpack_from(received)
    if len(received) < HEADER.size + length:
        return None
    body = bytes(received[HEADER.size : HEADER.size + length])
    del received[: HEADER.size + length]
    return body


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def main() -> None:
    """Sets the process's limits and serves on a thread with a big stack."""
    # Interrupts are for the parent, which closes our stdin when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    sys.setrecursionlimit(RECURSION_LIMIT)
    threading.stack_size(STACK_BYTES)
    server = threading.Thread(target=_Server(cpu_limit_s=float(sys.argv[1])).serve)
    server.start()
    server.join()


if __name__ == "__main__":
    main()
