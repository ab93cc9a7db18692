"""Which apt sources of this machine hold a Debian suite: their text -> lines for a new system. Pure but for
`read_machine`.

Images are built from the same mirrors that the machine itself uses: no address is ever written by us. Used by `build`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

APT = Path("/etc/apt")


def read_machine(folder: Path = APT) -> dict[str, str]:
    """File name -> text of every source list of this machine."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]
    files += sorted((folder / "sources.list.d").glob("*.sources"))
    return {file.name: file.read_text("utf-8", errors="replace") for file in files if file.is_file()}


def lines_for(suite: str, files: Mapping[str, str]) -> list[str]:
    """One-line entries for the suite, its updates and its security updates.

    Component `main` only. Empty: there is none.
    """
    wanted = (suite, f"{suite}-updates", f"{suite}-security")
    found: list[str] = []
    for name, text in files.items():
        entries = _stanzas(text) if name.endswith(".sources") else _one_liners(text)
        for address, suites, components, options in entries:
            for one in suites:
                line = f"deb {options}{address} {one} main"
                if one in wanted and "main" in components and line not in found:
                    found.append(line)
    return sorted(found, key=lambda line: wanted.index(line.split()[-2]))


_Entry = tuple[str, list[str], list[str], str]


def _one_liners(text: str) -> Iterable[_Entry]:
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        options, rest = "", words[1:]
        if rest and rest[0].startswith("["):
            end = next((i for i, word in enumerate(rest) if word.endswith("]")), 0)
            signed = [word.strip("[]") for word in rest[: end + 1] if word.strip("[]").startswith("signed-by=")]
            options, rest = (f"[{signed[0]}] " if signed else ""), rest[end + 1 :]
        if len(rest) >= 3:
            yield rest[0], [rest[1]], rest[2:], options


def _stanzas(text: str) -> Iterable[_Entry]:
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in kept.split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1].isspace() and key:
                fields[key] += " " + line.strip()
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        key_file = fields.get("signed-by", "")
        options = f"[signed-by={key_file}] " if key_file.startswith("/") else ""
        for address in fields.get("uris", "").split():
            yield address, fields.get("suites", "").split(), fields.get("components", "").split(), options
