"""Whoever has Ray's token can run code as Sandpool: the file is its owner's alone, whoever made it."""

from __future__ import annotations

import stat
from pathlib import Path

from cluster.node_token import secure_token


def test_a_missing_token_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = secure_token(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text()) == 64
    assert secure_token(tmp_path).read_text() == path.read_text(), "the second call keeps it"


def test_a_token_that_everybody_could_read_is_closed_and_kept(tmp_path: Path) -> None:
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("made by Ray")
    path.chmod(0o644)
    assert secure_token(tmp_path) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_text() == "made by Ray"
