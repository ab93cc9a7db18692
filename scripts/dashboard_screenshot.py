"""The picture of Ray's dashboard in docs/operations.md: `python scripts/dashboard_screenshot.py`.

Starts a private cluster with the dashboard, runs jobs, and has Debian's chromium draw the page of actors, headless. The
dashboard wants Ray's token, which a browser without hands cannot type: a proxy on loopback adds it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.support.dashboard import TOKEN_FILE, watched_cluster

PICTURE = Path("docs/dashboard.png")
MOST_BYTES = 300_000
HEADLESS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


class TokenProxy(BaseHTTPRequestHandler):
    """Passes GETs on to the dashboard with the token."""

    def __init__(self, target: str, *args: object) -> None:
        self._target = target
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        headers = {"Authorization": f"Bearer {TOKEN_FILE.read_text().strip()}"}
        request = urllib.request.Request(self._target + self.path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, kind, body = answer.status, answer.headers.get("Content-Type", ""), answer.read()
        except urllib.error.HTTPError as error:
            status, kind, body = error.code, "text/plain", error.read()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


def draw(url: str, picture: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sp-") as profile:
        command = ["chromium", *HEADLESS, f"--user-data-dir={profile}", "--window-size=1440,860"]
        command += ["--virtual-time-budget=20000", f"--screenshot={picture.absolute()}", url]
        subprocess.run(command, check=True, timeout=180, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURE)
    picture = parser.parse_args().out
    with tempfile.TemporaryDirectory(prefix="sp-") as folder, watched_cluster(Path(folder)) as cluster:
        for database in ("flights", "airline", "bookings"):
            cluster.sandpool("sql", "-d", database, "select 1")
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), partial(TokenProxy, cluster.dashboard))
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        draw(f"http://127.0.0.1:{proxy.server_port}/#/actors", picture)
        proxy.shutdown()
    size_bytes = picture.stat().st_size
    print(f"{picture}: {size_bytes:,} bytes")
    if size_bytes > MOST_BYTES:
        raise SystemExit(f"the picture has more than {MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
