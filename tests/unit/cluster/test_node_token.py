"""Whoever has Ray's token can run code as Sandpool: the file is its owner's alone, whoever made it."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

import pytest

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


def test_whoever_comes_while_the_token_is_made_reads_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clusters that start at once on a fresh machine."""
    seen: list[str] = []
    make = secrets.token_hex

    def make_late(size: int) -> str:
        monkeypatch.setattr(secrets, "token_hex", make)
        seen.append(secure_token(tmp_path).read_text())
        return make(size)

    monkeypatch.setattr(secrets, "token_hex", make_late)
    assert [secure_token(tmp_path).read_text()] == seen
    assert len(seen[0]) == 64
    assert [file.name for file in (tmp_path / ".ray").iterdir()] == ["auth_token"]
