"""Under which user a server runs, and where that user can keep its files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cluster.local import account as account_module
from cluster.local.account import Account, may_enter, private_folder, remove_folder, service_account, stand_in
from cluster.local.errors import LocalServiceError

STRANGER = Account("stranger", 54_321, 54_321)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands files to another user")


def test_a_folder_is_closed_to_a_stranger_when_any_folder_above_it_is(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        folder.chmod(0o755)
    tmp_path.chmod(0o700)
    assert not may_enter(inner, STRANGER)
    assert may_enter(inner, None)


@pytest.mark.parametrize(("mode", "passes"), [(0o711, True), (0o701, True), (0o710, False), (0o776, False)])
def test_only_the_execute_bit_that_applies_counts(
    tmp_path: Path, mode: int, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(mode)
    monkeypatch.setattr(Path, "parents", property(lambda _self: ()))
    assert may_enter(tmp_path, STRANGER) is passes


@root_only
def test_a_closed_folder_gets_a_stand_in_that_is_found_again_and_removed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    wanted = tmp_path / "server"
    first = private_folder(wanted, STRANGER)
    try:
        assert first == stand_in(wanted) != wanted
        assert first.stat().st_uid == STRANGER.uid
        assert stat.S_IMODE(first.stat().st_mode) == 0o700
        assert private_folder(wanted, STRANGER) == first
    finally:
        remove_folder(wanted)
    assert not first.exists()


@root_only
def test_a_stand_in_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    squatted = stand_in(tmp_path / "server")
    squatted.mkdir()
    try:
        os.chown(squatted, 54_999, 54_999)
        with pytest.raises(LocalServiceError, match="belongs to another user"):
            private_folder(tmp_path / "server", STRANGER)
    finally:
        squatted.rmdir()


@root_only
def test_a_symbolic_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "server").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalServiceError, match="symbolic link"):
        private_folder(tmp_path / "server", None)


def test_an_ordinary_user_keeps_its_folder_and_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(account_module.os, "geteuid", lambda: 1000)
        assert service_account("postgres") is None
    folder = private_folder(tmp_path / "server", None)
    assert folder == tmp_path / "server"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_root_becomes_nobody_where_the_wanted_account_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module.os, "geteuid", lambda: 0)
    found = service_account("no-such-account-here")
    assert found is not None
    assert found.name == "nobody"
    assert found.uid != 0
