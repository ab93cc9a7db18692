"""What a repository must not hold, and files that are made from others and must not fall behind."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from scripts.lock import collect_requirements, name_of, render_input
from tests.support.sources import ROOT, repository_files, text

# Written in pieces, so that this file does not find itself.
MACHINE_PATHS = [
    "/wo" + "rk/main",
    "/wo" + "rk/shared",
    "/tmp/wo" + "rk",
    r"(?<![\w/])/ro" + r"ot/(?!\.ssh)",
]  # a test of a sandbox looks for keys
REGISTRIES = [
    "py" + r"pi\.org",
    r"python" + r"hosted\.org",
    "deb" + r"\.debian\.org",
    "find" + "-links",
    r"docker\.i" + "o",
]
SECRETS = ["BEGIN [A-Z ]*PRIVATE " + "KEY", "AKI" + "A[0-9A-Z]{16}", "gh" + "p_[A-Za-z0-9]{30}"]
BINARY = frozenset({".png", ".parquet", ".arrow", ".ico", ".gz"})
LARGEST_BYTES = 600_000


def readable_files() -> list[Path]:
    return [path for path in repository_files() if path.suffix not in BINARY]


@pytest.mark.parametrize("pattern", [*MACHINE_PATHS, *REGISTRIES, *SECRETS])
def test_no_file_names_a_machine_a_registry_or_a_secret(pattern: str) -> None:
    expression = re.compile(pattern)
    holders = [str(path) for path in readable_files() if expression.search(text(path))]
    assert holders == []


def test_no_file_is_large() -> None:
    assert [str(path) for path in repository_files() if (ROOT / path).stat().st_size > LARGEST_BYTES] == []


def test_the_requirements_are_those_of_the_two_distributions() -> None:
    assert text(Path("requirements.in")) == render_input(ROOT), "run `make lock`"


def test_every_requirement_is_locked_with_a_hash() -> None:
    lock = text(Path("requirements.lock"))
    entries = re.split(r"\n(?=[a-z0-9])", lock)
    locked = {
        re.split(r"[=\[]", entry, maxsplit=1)[0].lower(): entry for entry in entries if "==" in entry.splitlines()[0]
    }
    assert {name_of(line).replace("_", "-") for line in collect_requirements(ROOT)} <= set(locked)
    assert [name for name, entry in locked.items() if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("script", ["scripts/setup.sh", ".ci/run"])
def test_a_script_can_be_run_and_stops_at_the_first_error(script: str) -> None:
    assert (ROOT / script).stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in text(Path(script))
