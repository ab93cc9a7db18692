"""Databases inside a sandbox: a way by TCP to each socket, for clients that know nothing else, and the module
`sandpool` for code without a driver.

Asked for by the host before the code of a job that has databases, and whenever a kept sandbox goes on. It moves bytes
and never reads them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time

FIRST_PORT = 5432
LIBRARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "library")
BUFFER_BYTES = 1 << 18
LAST_WORDS_S = 1.0
LET_GO_S = 3.0

_names: list[str] = []
"""By the number of their port."""
_listeners: list[socket.socket] = []
_held: set[socket.socket] = set()
"""Connections to the host."""


def open_databases(names: list[str], folder: str) -> None:
    """Listen on 127.0.0.1 from FIRST_PORT on, one port for each name; let `import sandpool` work. Asked again, by what
    goes on from a snapshot, the ports lead to the databases that are named now."""
    _names[:] = names
    for number in range(len(_listeners), len(names)):
        listener = socket.create_server(("127.0.0.1", FIRST_PORT + number), backlog=128)
        _listeners.append(listener)
        threading.Thread(target=_accept, args=(listener, number, folder), name=f"tcp {number}", daemon=True).start()
    if LIBRARY in sys.path:
        return
    sys.path.append(LIBRARY)
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{known}:{LIBRARY}" if known else LIBRARY


def let_go() -> None:
    """See every connection to the host end, for one that is open keeps the sandbox from being saved. The host has hung
    up: what it said last is still handed on."""
    began_s = time.monotonic()
    while _held:
        waited_s = time.monotonic() - began_s
        if waited_s > LET_GO_S:
            raise TimeoutError("a connection to a database does not end")
        for server in list(_held) if waited_s > LAST_WORDS_S else ():
            _shut(server)
        time.sleep(0.005)


def _accept(listener: socket.socket, number: int, folder: str) -> None:
    while True:
        client, _ = listener.accept()
        if number >= len(_names):
            client.close()
            continue
        path = f"{folder}/{_names[number]}/.s.PGSQL.5432"
        server = socket.socket(socket.AF_UNIX)
        _held.add(server)
        try:
            server.connect(path)
        except OSError:
            client.close()
            server.close()
            _held.discard(server)
            continue
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_relay, args=(client, server), daemon=True).start()


def _relay(client: socket.socket, server: socket.socket) -> None:
    other = threading.Thread(target=_move, args=(client, server), daemon=True)
    other.start()
    _move(server, client)
    other.join()
    client.close()
    server.close()
    _held.discard(server)


def _move(source: socket.socket, target: socket.socket) -> None:
    """Until either end is over; then both are, for neither means anything without the other."""
    try:
        while data := source.recv(BUFFER_BYTES):
            target.sendall(data)
    except OSError:
        pass
    finally:
        _shut(source)
        _shut(target)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
