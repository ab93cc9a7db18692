"""Where no server is installed, the demo says so and plays the same acts embedded, and leaves nothing running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_SERVERS = """
import sys
from cluster.local import postgres, rabbitmq
rabbitmq.SCRIPT_FOLDERS = ()
postgres.SYSTEM_FOLDERS = ()
from cluster.demo.__main__ import main
sys.exit(main())
"""
"""A machine on which neither RabbitMQ nor PostgreSQL is installed: what is left of it is the wheel."""


@pytest.mark.timeout(400)
def test_without_servers_the_demo_plays_every_act_embedded(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_SERVERS, "--folder", str(tmp_path / "demo")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    assert "Running embedded" in said and "apt-get install rabbitmq-server" in said
    for act in ("the first job", "200 queries", "the whole table to Parquet", "a write, sent twice", "8 of 8 denied"):
        assert act in said
    assert "nothing is left running" in said
    assert not list(tmp_path.glob("demo/**/postmaster.pid"))
