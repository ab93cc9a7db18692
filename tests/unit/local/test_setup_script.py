"""The system part of `make setup`: what is missing is named with its remedy, and no mirror is invented."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MIRROR = "http://mirror.example/debian"


def bash(script: str, apt: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; source scripts/system.sh; {script}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "APT_FOLDER": str(apt or "/nowhere")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def backports(apt: Path) -> subprocess.CompletedProcess[str]:
    return bash("refresh_lists() { :; }; add_backports bookworm", apt)


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_every_program_that_can_be_missing_has_a_remedy() -> None:
    run = bash('has_program() { false; }; for program in $(missing_programs); do remedy "$program"; done')
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert [line.split(":")[0].split(" ")[0] for line in lines] == [
        "rabbitmq-server", "postgresql", "runsc", "mmdebstrap", "pgbouncer", "bubblewrap", "gcc",
    ]  # fmt: skip
    assert all("apt-get install" in line for line in lines)


def test_without_root_nothing_is_installed() -> None:
    run = bash("id() { echo 1000; }; can_install && echo would || echo would not")
    assert run.stdout == "would not\n"


def test_backports_come_from_the_mirror_and_the_key_of_a_deb822_source(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(
        "# a comment\nTypes: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main\n\n"
        f"Types: deb\n# mirror: elsewhere\nURIs: {MIRROR}\nSuites: bookworm bookworm-updates\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    run = backports(apt)
    assert run.returncode == 0, run.stderr
    assert (apt / "sources.list.d/sandpool-backports.sources").read_text() == (
        f"Types: deb\nURIs: {MIRROR}\nSuites: bookworm-backports\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_backports_come_from_the_mirror_of_a_one_line_source(apt: Path) -> None:
    (apt / "sources.list").write_text(
        f"# deb http://old.example bookworm main\ndeb-src {MIRROR} bookworm main\n"
        f"deb [signed-by=/k.gpg] {MIRROR} bookworm main contrib\ndeb {MIRROR} bookworm-updates main\n"
    )
    run = backports(apt)
    assert run.returncode == 0, run.stderr
    assert (apt / "sources.list.d/sandpool-backports.list").read_text() == (
        f"deb [signed-by=/k.gpg] {MIRROR} bookworm-backports main contrib\n"
    )


def test_a_machine_without_a_source_to_copy_gets_none(apt: Path) -> None:
    (apt / "sources.list.d/other.sources").write_text(f"Types: deb\nURIs: {MIRROR}\nSuites: trixie\nComponents: main\n")
    run = backports(apt)
    assert run.returncode == 1
    assert "found no apt source for bookworm" in run.stderr
    assert sorted(path.name for path in apt.rglob("*backports*")) == []
