"""The machine's apt sources -> lines for a new system."""

from __future__ import annotations

import pytest

from workers.images.sources import lines_for

DEB822 = """
# a comment: http://wrong/
Types: deb deb-src
URIs: http://mirror/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror/security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://disabled/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source/debian
Suites: bookworm
Components: main
"""
ONE_LINERS = """
deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm main contrib # text
deb http://mirror/security bookworm-security main
deb-src http://mirror/debian bookworm main
# deb http://wrong/debian bookworm main
deb http://other/repo nodistro main
deb http://mirror/debian bookworm-backports main
deb http://mirror/nonfree bookworm contrib
deb broken
"""


def test_deb822_sources_are_read() -> None:
    assert lines_for("bookworm", {"debian.sources": DEB822}) == [
        "deb [signed-by=/usr/share/keyrings/debian.gpg] http://mirror/debian bookworm main",
        "deb [signed-by=/usr/share/keyrings/debian.gpg] http://mirror/debian bookworm-updates main",
        "deb http://mirror/security bookworm-security main",
    ]


def test_one_line_sources_are_read() -> None:
    assert lines_for("bookworm", {"sources.list": ONE_LINERS}) == [
        "deb [signed-by=/k.gpg] http://mirror/debian bookworm main",
        "deb http://mirror/security bookworm-security main",
    ]


def test_the_same_source_in_two_files_counts_once() -> None:
    files = {"sources.list": "deb http://m/d bookworm main\n", "a.list": "deb http://m/d bookworm main\n"}
    assert lines_for("bookworm", files) == ["deb http://m/d bookworm main"]


@pytest.mark.parametrize("suite", ["trixie", "", "book"])
def test_a_suite_that_the_machine_does_not_have_gives_nothing(suite: str) -> None:
    assert lines_for(suite, {"debian.sources": DEB822, "sources.list": ONE_LINERS}) == []
