"""Databases inside a sandbox: a way by TCP to each socket, for clients that know nothing else, and the module
`sandpool` for code without a driver.

Asked for by the host once, before the code of a job that has databases. It moves bytes and never reads them.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

FIRST_PORT = 5432
LIBRARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "library")
BUFFER_BYTES = 1 << 18


def open_databases(names: list[str], folder: str) -> None:
    """Listen on 127.0.0.1 from FIRST_PORT on, one port for each name; let `import sandpool` work."""
    for number, name in enumerate(names):
        listener = socket.create_server(("127.0.0.1", FIRST_PORT + number), backlog=128)
        path = f"{folder}/{name}/.s.PGSQL.5432"
        threading.Thread(target=_accept, args=(listener, path), name=f"tcp {name}", daemon=True).start()
    if LIBRARY not in sys.path:
        sys.path.append(LIBRARY)
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{known}:{LIBRARY}" if known else LIBRARY


def _accept(listener: socket.socket, path: str) -> None:
    while True:
        client, _ = listener.accept()
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(path)
        except OSError:
            client.close()
            server.close()
            continue
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=_move, args=(source, target), daemon=True).start()


def _move(source: socket.socket, target: socket.socket) -> None:
    """Until either end is over; then both are, for neither means anything without the other."""
    try:
        while data := source.recv(BUFFER_BYTES):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                each.close()
