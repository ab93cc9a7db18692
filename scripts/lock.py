"""`make lock`: pyproject.toml (both) -> requirements.in -> requirements.lock, hashed and without any index address.

The two pyproject files are the only place where a dependency is named; a style test fails when requirements.in is old.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Made by `make lock` from pyproject.toml and sdk/python/pyproject.toml: change those, not this.\n"
OWN = "sandpool"


def name_of(requirement: str) -> str:
    """`sqlglot[c]>=30` -> `sqlglot`."""
    return re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0].lower()


def collect_requirements(root: Path) -> list[str]:
    """Every requirement of both distributions and all groups, without our own, sorted and without repetitions."""
    found: set[str] = set()
    for path in (root / "pyproject.toml", root / "sdk/python/pyproject.toml"):
        document = tomllib.loads(path.read_text())
        found |= set(document["project"].get("dependencies", ()))
        for extra in document["project"].get("optional-dependencies", {}).values():
            found |= set(extra)
        for group in document.get("dependency-groups", {}).values():
            found |= set(group)
    return sorted(line for line in found if name_of(line) != OWN)


def render_input(root: Path) -> str:
    return HEADER + "".join(f"{line}\n" for line in collect_requirements(root))


def compile_lock(root: Path, *, upgrade: bool) -> None:
    (root / "requirements.in").write_text(render_input(root))
    command = ["uv", "pip", "compile", "requirements.in", "--output-file=requirements.lock", "--quiet"]
    command += ["--generate-hashes", "--no-emit-index-url", "--universal", "--python-version=3.11"]
    command += ["--custom-compile-command=make lock", *(["--upgrade"] if upgrade else [])]
    subprocess.run(command, cwd=root, check=True, timeout=600)


def main() -> None:
    parser = argparse.ArgumentParser(description="Renew requirements.in and requirements.lock. Needs `uv`.")
    parser.add_argument("--upgrade", action="store_true", help="also take newer versions of what is locked already")
    compile_lock(ROOT, upgrade=parser.parse_args().upgrade)


if __name__ == "__main__":
    main()
