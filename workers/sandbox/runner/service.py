"""Serves the host: takes requests from the link, runs code in the main thread, everything else beside it.

Started by `__main__`. The receiving thread never does work that could hold it, so that an interrupt always gets
through. When the connection is lost without a `release`, nobody waits any more: code is interrupted, commands end.
"""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import re
import resource
import sys
import threading
import time
from typing import Any

from .bundles import Bundle, bundle_of, figures
from .cells import NOTHING, Cells, describe
from .commands import Commands
from .files import serve_file
from .frames import VERSION, FrameInvalid, Header, chunks
from .interrupts import Interrupts
from .link import Link
from .seeds import reseed
from .streams import Streams
from .watches import Watches

MOST_WAITING = 64
MOST_ITEMS = 64
MIME_TYPE = re.compile(r"[a-z]+/[A-Za-z0-9!#$&^_.+;= -]{1,180}")
"""What the host takes: another one would end the session."""
Request = tuple[Header, bytes]


def serve(path: str) -> None:
    """Never returns."""
    service = Service(Link(path))
    threading.Thread(target=service.receive_forever, name="receiver", daemon=True).start()
    service.run_forever()


class Service:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._pid = os.getpid()
        self._epoch = ""
        self._streams = Streams(link)
        self._interrupts = Interrupts()
        self._cells = Cells(self._display)
        self._commands = Commands(link)
        self._watches = Watches(link)
        self._code: queue.Queue[Request] = queue.Queue(MOST_WAITING)
        self._files: queue.Queue[Request] = queue.Queue(MOST_WAITING)
        self._request = 0
        self._items = 0
        self._left_bytes = 0
        self._omitted = 0
        threading.Thread(target=self._serve_files, name="files", daemon=True).start()

    def run_forever(self) -> None:
        """In the main thread: one piece of code after another."""
        while True:
            header, payload = self._code.get()
            if header["kind"] == "run":
                self._run(header, payload)
            elif self._cells.forget(header["context"]):
                self._link.send("ok", id=header["id"])
            else:
                self._link.send("failed", id=header["id"], error="ENOENT", message="no such context")
            if os.getpid() != self._pid:
                os._exit(0)  # the code forked, and this is the child, which has nothing to serve

    def receive_forever(self) -> None:
        while True:
            self._link.connect()
            self._link.send("hello", version=VERSION, python=platform.python_version(), pid=self._pid)
            released = False
            try:
                while not released:
                    frame = self._link.receive()
                    if frame is None:
                        break
                    released = self._dispatch(*frame)
            except (FrameInvalid, KeyError, TypeError, ValueError, queue.Full) as error:
                # Only a host of another version does this; it sees the connection end.
                print(f"runner: {type(error).__name__}: {error}", file=sys.__stderr__)
            if released:
                self._link.close()
            else:
                self._link.abort()
                with contextlib.suppress(queue.Empty):
                    while True:
                        self._code.get_nowait()
                self._interrupts.request(self._request)
                self._commands.end_all()
            self._watches.end_all()

    def _dispatch(self, header: Header, payload: bytes) -> bool:
        """Whether the host wants the connection closed."""
        kind = header["kind"]
        if kind in ("run", "forget"):
            self._code.put_nowait((header, payload))
        elif kind == "interrupt":
            self._interrupts.request(header["id"])
        elif kind == "command":
            self._commands.start(header)
        elif kind == "stdin":
            self._commands.feed(header["id"], payload, header["last"])
        elif kind == "signal":
            self._commands.signal(header["id"], header["number"])
        elif kind == "resize":
            self._commands.resize(header["id"], header["rows"], header["columns"])
        elif kind == "watch":
            self._watches.start(header)
        elif kind == "unwatch":
            self._watches.end(header["id"])
        elif kind in ("read", "write", "list", "stat"):
            self._files.put_nowait((header, payload))
        elif kind in ("welcome", "reseed"):
            self._refresh(header, payload)
        elif kind == "release":
            return True
        else:
            raise FrameInvalid(f"unknown kind {kind[:40]!r}")
        return False

    def _refresh(self, header: Header, entropy: bytes) -> None:
        """Another epoch means: perhaps a copy, in any case another moment. Never twins."""
        if header["kind"] == "welcome" and header["epoch"] == self._epoch:
            entropy = b""
        if entropy:
            reseed(entropy)
        self._epoch = header.get("epoch", self._epoch)
        self._link.send("ready" if header["kind"] == "welcome" else "ok", id=header.get("id", 0))

    def _serve_files(self) -> None:
        while True:
            serve_file(self._link, *self._files.get())

    def _run(self, header: Header, payload: bytes) -> None:
        self._request, self._items, self._omitted = header["id"], 0, 0
        self._left_bytes = header["result_bytes"]
        self._streams.begin(self._request)
        started_s = time.process_time()
        ending: dict[str, Any] = {"ending": "done"}
        text = b""
        try:
            with self._interrupts.armed(self._request):
                value = self._cells.run(header["context"], header["name"], payload.decode())
                if value is not NOTHING:
                    self._show(value, value=True)
                for figure in figures():
                    self._send_item(figure)
        except SystemExit as error:
            ending = {"ending": "exited", "code": _exit_code(error)}
        except BaseException as error:  # noqa: BLE001 - whatever the code raises is its answer
            kind, message, trace = describe(error)
            interrupted = isinstance(error, KeyboardInterrupt)
            ending = {"ending": "interrupted" if interrupted else "raised", "error": kind, "message": message}
            text = trace.encode()
        self._streams.finish()
        usage = {
            "cpu_s": max(0.0, time.process_time() - started_s),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        request, self._request = self._request, 0
        self._link.send("done", text, id=request, omitted=self._omitted, **ending, **usage)

    def _display(self, value: Any) -> None:
        """`display(value)` of the user's code: one more item of its results."""
        if self._request and threading.current_thread() is threading.main_thread():
            self._show(value)

    def _show(self, shown: Any, *, value: bool = False) -> None:
        bundle, left_out = bundle_of(shown, self._left_bytes)
        self._omitted += left_out
        self._send_item(bundle, value)

    def _send_item(self, bundle: Bundle, value: bool = False) -> None:
        """Each type whole or not at all: what would go over the limit is counted and left out."""
        if self._items >= MOST_ITEMS:
            self._omitted += len(bundle)
            return
        number, self._items = self._items, self._items + 1
        for kind, content in bundle.items():
            if len(content) > self._left_bytes or not MIME_TYPE.fullmatch(kind):
                self._omitted += 1
                continue
            self._left_bytes -= len(content)
            for chunk in chunks(content):
                with self._interrupts.held():
                    self._link.send("item", chunk, id=self._request, item=number, type=kind, value=value)


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 - what Python itself does at the end of a program
    return 1
