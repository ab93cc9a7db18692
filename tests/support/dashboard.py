"""A cluster with Ray's dashboard, as an operator has it: `sandpool up` in a process of its own on private servers.

Used by tests/e2e/test_dashboard.py and scripts/dashboard_screenshot.py. Speaks to the dashboard with Ray's own token.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.local.household import furnish
from cluster.local.process import OwnedProcess
from cluster.local.stage import Stage

TOKEN_FILE = Path.home() / ".ray" / "auth_token"
START_TIMEOUT_S = 240


@dataclass(frozen=True)
class Watched:
    """What runs."""

    dashboard: str
    """http://host:port"""
    ray_folder: Path
    environment: dict[str, str]

    def sandpool(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cluster", *args]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    def ask(self, path: str) -> Any:
        """One answer of the dashboard's API."""
        return json.loads(fetch(self.dashboard + path))

    def metrics(self) -> str:
        """What every metrics endpoint of this cluster exports now, found as Prometheus finds them. Raises OSError while
        one of them does not answer: Ray names it before it does."""
        found = json.loads((self.ray_folder / "prom_metrics_service_discovery.json").read_text())
        return "\n".join(fetch(f"http://{target}/metrics") for entry in found for target in entry["targets"])


def fetch(url: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN_FILE.read_text().strip()}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


@contextmanager
def watched_cluster(folder: Path) -> Iterator[Watched]:
    """`sandpool up` with the dashboard, on private servers with the flights; all of it ends with the body."""
    # Ray puts sockets below its folder, whose paths may have 107 bytes.
    ray_folder = Path(tempfile.mkdtemp(prefix="sp-"))
    try:
        with Stage(folder / "stage", durable=False) as stage:
            config = furnish(stage, ray_folder=str(ray_folder))
            settings = config.read_text().replace("[ray]\n", "[ray]\ndashboard = true\n")
            config.write_text(f"{settings}\n[telemetry]\ninterval_s = 1\n")
            log = folder / "up.log"
            command = [sys.executable, "-m", "cluster", "up", "--json", "--config", str(config)]
            up = OwnedProcess(
                "sandpool up",
                command,
                folder=Path.cwd(),
                log=log,
                env=dict(os.environ),
                stop_signal=signal.SIGINT,
                grace_s=60,
            )
            with up:
                up.wait_until(lambda: '"state":"up"' in log.read_text(), START_TIMEOUT_S)
                url = re.search(r"Ray dashboard at (http://[^\"]+)", log.read_text())
                assert url is not None, log.read_text()
                yield Watched(url.group(1), ray_folder, {**os.environ, "SANDPOOL_CONFIG": str(config)})
    finally:
        shutil.rmtree(ray_folder, ignore_errors=True)
