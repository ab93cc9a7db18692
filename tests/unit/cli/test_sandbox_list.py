"""What `sandpool sandbox` shows and refuses without asking any host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.cli.root import root
from cluster.cli.sandbox import rows_of
from workers.sandbox.keeping import SavedView
from workers.sandbox.requests import Views


def test_a_label_that_would_command_the_terminal_is_shown_as_escapes() -> None:
    saved = SavedView(
        id="sn-1", label="a\x1b]0;owned\x07\nsb-2  Running", image="base@1", created_at_s=0.0, disk_bytes=1
    )
    ((_, shown, *_),) = rows_of({"n": Views(snapshots=[saved])})
    assert shown.isprintable() and "owned" in shown


CONFIG = """
[broker]
url = "amqp://nobody:x@127.0.0.1:1/"
[volumes.results]
url = "file://./volume"
[databases.hidden]
engine = "sqlite"
source = "results:f.sqlite"
policy = "policy.toml"
[databases.foreign]
engine = "sqlite"
source = "results:f.sqlite"
policy = "policy.toml"
[tenants.acme]
databases = ["hidden"]
"""


@pytest.mark.parametrize(
    ("database", "said"), [("hidden", "SqlJob"), ("foreign", "no database"), ("no", "no database")]
)
def test_a_database_file_of_which_its_policy_hides_something_is_refused_before_any_host_is_asked(
    tmp_path: Path, database: str, said: str
) -> None:
    (tmp_path / "sandpool.toml").write_text(CONFIG)
    (tmp_path / "policy.toml").write_text('tables = ["flights"]')
    argv = ["sandbox", "create", "--json", "--config", str(tmp_path / "sandpool.toml"), "--db", database]
    done = CliRunner().invoke(root, argv)
    assert done.exit_code == 2, done.output
    assert said in json.loads(done.stdout)["error"]["message"]
