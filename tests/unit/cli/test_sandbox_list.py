"""What `sandpool sandbox` shows and refuses without asking any host."""

from __future__ import annotations

from cluster.cli.sandbox import rows_of
from workers.sandbox.keeping import SavedView
from workers.sandbox.requests import Views


def test_a_label_that_would_command_the_terminal_is_shown_as_escapes() -> None:
    saved = SavedView(
        id="sn-1", label="a\x1b]0;owned\x07\nsb-2  Running", image="base@1", created_at_s=0.0, disk_bytes=1
    )
    ((_, shown, *_),) = rows_of({"n": Views(snapshots=[saved])})
    assert shown.isprintable() and "owned" in shown
