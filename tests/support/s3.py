"""A private S3 server for tests: MiniStack as a child process on a free loopback port, its data in a folder of its own.

Chosen because it really checks create-only puts (`If-None-Match: *`), which everything here rests on;
tests/integration/test_volumes_s3.py proves that it does, also under a race. Started by the `s3` fixture.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

START_TIMEOUT_S = 60.0
_REGION = "us-east-1"
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass
class S3Server:
    """A running server with one bucket. `url` and `options` are what a VolumeSpec takes."""

    url: str
    options: dict[str, str]
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    def environment(self) -> dict[str, str]:
        """The same as `options` for a process that takes its credentials from the environment."""
        return {
            "AWS_ENDPOINT": self.options["endpoint"],
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": self.options["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.options["secret_access_key"],
        }

    def create_bucket(self, name: str) -> None:
        status, body = self.call("PUT", f"/{name}")
        assert status == 200, body

    def unfinished_uploads(self, bucket: str) -> list[str]:
        """Keys of multipart uploads that were begun and neither completed nor aborted."""
        status, body = self.call("GET", f"/{bucket}?uploads")
        assert status == 200, body
        return [upload.findtext(f"{_XML}Key", "") for upload in ElementTree.fromstring(body).iter(f"{_XML}Upload")]

    def call(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One raw request; this server takes unsigned ones."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def start_s3(folder: Path, bucket: str = "sandpool") -> S3Server:
    """Start a server that keeps everything under `folder`, with one bucket in it. Raises RuntimeError with its log."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    environment = os.environ | {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "SERVICES": "s3",
        "TMPDIR": str(folder),
        "S3_DATA_DIR": str(folder / "objects"),
        "LOG_LEVEL": "WARNING",
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ministack"], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    options = {
        "endpoint": f"http://127.0.0.1:{port}",
        "allow_http": "true",
        "region": _REGION,
        "access_key_id": "test",
        "secret_access_key": "test",
    }
    server = S3Server(f"s3://{bucket}/volume", options, port, process)
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.create_bucket(bucket)
            return server
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                server.stop()
                text = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the S3 server did not come up:\n{text}") from None
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
