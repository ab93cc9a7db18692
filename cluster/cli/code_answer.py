"""Prints what came of code: what it wrote, its value, its files, its ending. Called by `run` and `result`.

What code wrote goes where it wrote it: stdout to standard output, stderr to standard error; on a terminal with every
character shown that would command it. Everything from a sandbox is hostile: files are written below --out-dir only,
through no link, over nothing that exists.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import click
import msgspec

from cluster.cli.endings import ending_lines
from cluster.cli.exits import Exit, exit_for
from cluster.cli.invocation import Invocation
from cluster.cli.live_text import LiveText
from cluster.cli.ranges import span_text
from cluster.cli.safe_text import one_line, visible
from sandpool.errors import ResultUnavailable
from sandpool.outcome import Display, File, Outcome, without_data

MOST_LISTED = 20


class LiveAnswer:
    """What is printed while the job runs: a `waiting.Viewer`."""

    def __init__(self) -> None:
        self.attempt = 0
        self.stdout, self.stderr = LiveText(sys.stdout), LiveText(sys.stderr)

    def offsets(self) -> tuple[int, int]:
        return self.stdout.taken_bytes, self.stderr.taken_bytes

    def show(self, attempt: int, stdout: bytes, stderr: bytes) -> None:
        if self.attempt not in (0, attempt):
            self._begin_again(attempt)
            return  # these are not its first bytes; the next call brings those
        self.attempt = attempt
        self.stdout.write(stdout)
        self.stderr.write(stderr)

    def finish(self, attempt: int, stdout: str, stderr: str) -> None:
        """The rest of what this attempt wrote."""
        if self.attempt not in (0, attempt):
            self._begin_again(attempt)
        self.stdout.finish(stdout)
        self.stderr.finish(stderr)

    def _begin_again(self, attempt: int) -> None:
        """An attempt that was lost is tried again from the beginning."""
        self.stdout.end_line()
        self.stderr.end_line()
        click.echo(f"attempt {attempt} begins anew", err=True)
        self.attempt = attempt
        self.stdout, self.stderr = LiveText(sys.stdout), LiveText(sys.stderr)


def print_code_answer(
    invocation: Invocation, outcome: Outcome, out_dir: Path | None, live: LiveAnswer | None = None
) -> Exit:
    """Print all of it, but what `live` has printed already, and save what there is to save.

    Raises ResultUnavailable, OSError for what cannot be saved.
    """
    saved = list(_save(outcome, out_dir)) if out_dir is not None else []
    if invocation.as_json:
        invocation.emit(code_document(outcome, saved))
        return exit_for(outcome.ending)
    live = live or LiveAnswer()
    live.finish(outcome.attempt, _whole(outcome, "stdout"), _whole(outcome, "stderr"))
    if outcome.value:
        _write(sys.stdout, f"{outcome.value}\n")
    sys.stdout.flush()
    for line in (*ending_lines(outcome), *_files(outcome, saved)):
        invocation.say(line)
    usage = outcome.usage
    pieces = [f"ran {span_text(usage.run_s)}", f"{usage.cpu_s:.2f} s of CPU", f"{usage.peak_memory_bytes >> 20} MiB"]
    pieces += [usage.image] if usage.image else []
    invocation.say(" · ".join([*pieces, f"attempt {outcome.attempt}", f"job {outcome.job_id}"]))
    return exit_for(outcome.ending)


def code_document(outcome: Outcome, saved: list[str] | None = None) -> dict[str, Any]:
    """The outcome as one JSON object, `said` unfolded, what is always asked for always there."""
    document: dict[str, Any] = msgspec.to_builtins(without_data(outcome))
    document.pop("said", None)
    usage = {name: getattr(outcome.usage, name) for name in outcome.usage.__struct_fields__}
    return {
        **document,
        "ending": str(outcome.ending),
        "exit_code": outcome.exit_code,
        "stdout": _whole(outcome, "stdout"),
        "stderr": _whole(outcome, "stderr"),
        "value": outcome.value,
        "usage": usage,
        "saved": saved or [],
    }


def _whole(outcome: Outcome, name: str) -> str:
    """What code wrote; from the volume where the outcome holds only its beginning, if the volume can be read here."""
    text: str = getattr(outcome, name)
    file: File | None = getattr(outcome.said, f"{name}_file") if outcome.said else None
    if file is None:
        return text
    try:
        content = outcome.read_file(file)
    except ResultUnavailable:
        return text
    return content.decode("utf-8", "backslashreplace")


def _write(stream: TextIO, text: str) -> None:
    if not text:
        return
    if stream.isatty():
        text = "".join(f"{visible(line)}\n" for line in text.removesuffix("\n").split("\n"))
    stream.write(text.encode("utf-8", "backslashreplace").decode())


def _save(outcome: Outcome, folder: Path) -> Iterator[str]:
    """The names below `folder` of everything that was saved."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in outcome.manifest.files:
        yield _save_one(folder, file.path, outcome.read_file(file))
    for display in outcome.manifest.displays:
        yield _save_one(folder, display_name(display), outcome.read_file(display))


def display_name(display: Display) -> str:
    """`value.html`, `figure-1.png`: by what it is, not by what the sandbox calls it."""
    suffix = PurePosixPath(display.key).suffix
    return f"value{suffix}" if display.item == 0 else f"figure-{display.item}{suffix}"


def _save_one(folder: Path, path: str, content: bytes) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise click.UsageError(f"--out-dir: the job has a file {one_line(path, 80)!r}, whose name leads elsewhere")
    target = folder
    for name in parts[:-1]:
        target = target / name
        target.mkdir(exist_ok=True)
        if target.is_symlink():
            raise click.UsageError(f"--out-dir: {one_line(str(target), 200)} is a symbolic link; name an empty folder")
    target = target / parts[-1]
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        raise click.UsageError(f"--out-dir: {one_line(str(target), 200)} is there already") from error
    with open(descriptor, "wb") as stream:
        stream.write(content)
    return str(target)


def _files(outcome: Outcome, saved: list[str]) -> list[str]:
    if saved:
        return [f"saved {one_line(name)}" for name in saved[:MOST_LISTED]]
    manifest = outcome.manifest
    lines = [f"output {one_line(file.path, 200)} ({file.size_bytes:,} bytes)" for file in manifest.files[:MOST_LISTED]]
    lines += [f"displayed {each.type} ({each.size_bytes:,} bytes)" for each in manifest.displays[:MOST_LISTED]]
    hidden = len(manifest.files) + len(manifest.displays) - len(lines)
    lines += [f"and {hidden} more"] if hidden > 0 else []
    if lines:
        lines.append(f"hint: --out-dir DIR saves them; they lie in volume {outcome.volume}")
    if manifest.omitted:
        lines.append(f"{manifest.omitted} outputs were left out: links, devices, or over a limit")
    return lines
