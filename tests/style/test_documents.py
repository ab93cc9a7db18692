"""What the documents say exists, exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.sources import ROOT, repository_files, text

DOCUMENTS = [path for path in repository_files() if path.suffix == ".md"]
TOP_LEVEL = (
    "cluster/",
    "workers/",
    "queues/",
    "sdk/",
    "images/",
    "tests/",
    "configs/",
    "benchmarks/",
    "docs/",
    "scripts/",
    ".ci/",
)
QUOTED_PATH = re.compile(r"`([A-Za-z0-9_.\-/*{},]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
TARGETS = re.compile(r"`make ([a-z]+)`")


def quoted_paths(document: Path) -> set[str]:
    """Words in backticks that look like a path of this repository; patterns and placeholders left out."""
    found = {word for word in QUOTED_PATH.findall(text(document)) if word.startswith(TOP_LEVEL)}
    return {word for word in found if not re.search(r"[*{}]|NAME|\.\.\.", word)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_path_named_in_a_document_exists(document: Path) -> None:
    missing = sorted(path for path in quoted_paths(document) if not (ROOT / path.split("::")[0]).exists())
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    broken = [
        target
        for target in LINK.findall(text(document))
        if "://" not in target and not target.startswith("mailto:") and not (ROOT / document.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_make_target_named_in_a_document_exists(document: Path) -> None:
    known = set(re.findall(r"^([a-z]+):", text(Path("Makefile")), flags=re.MULTILINE))
    assert set(TARGETS.findall(text(document))) <= known


def test_the_table_of_contributing_names_a_file_and_a_test_in_every_row() -> None:
    table = text(Path("CONTRIBUTING.md")).partition("| I want to")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) >= 8
    for row in rows:
        _, _wish, files, tests, _ = row.split("|")
        assert QUOTED_PATH.search(files), row
        assert all(word.startswith("tests/") for word in QUOTED_PATH.findall(tests)), row
        assert QUOTED_PATH.search(tests), row


def test_every_image_and_policy_folder_says_why_it_is_there() -> None:
    folders = {path.parent for path in repository_files() if path.is_relative_to("images")}
    assert all((ROOT / folder / "README.md").exists() for folder in folders)
