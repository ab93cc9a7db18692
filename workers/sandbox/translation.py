"""Translates what runsc says into our own errors. Pure; called by `runsc` for every command that did not end with 0.

The texts are those of runsc 20240729; one that is not known becomes RunscFailed with the text as its detail. To add
one: a row here and its text in tests/unit/sandbox/test_translation.py.
"""

from __future__ import annotations

import json

from workers.sandbox.errors import (
    CheckpointRefused,
    NotPermitted,
    RunscFailed,
    SandboxError,
    SnapshotSpaceExhausted,
    SnapshotUnusable,
    UnknownSandbox,
)

MAX_DETAIL = 2000

_UNKNOWN = ("container does not exist", "file does not exist", "not found", "no such container")
_SPACE = ("no space left on device", "disk quota exceeded")
_UNSAVABLE = ("encoding error", "connectedendpoint")
_NOT_STARTED = (
    "no such file or directory",
    "permission denied",
    "exec format error",
    "not a directory",
    "is a directory",
)
_NOT_RUNNING = ("is not running", "not running", "connection refused", "container stopped", "cannot be checkpointed")


def translate(verb: str, exit_code: int, said: str) -> SandboxError:
    """`said`: stderr as text, or the JSON lines of runsc's log."""
    detail = _plain(said)[:MAX_DETAIL]
    text = detail.lower()
    if any(phrase in text for phrase in _SPACE) and verb == "checkpoint":
        return SnapshotSpaceExhausted(
            "no room on disk for the snapshot", hint="free space or prune snapshots", detail=detail
        )
    if verb in ("state", "exec", "kill", "delete", "start", "checkpoint", "wait") and any(
        phrase in text for phrase in _UNKNOWN
    ):
        return UnknownSandbox("no such sandbox on this host", detail=detail)
    if verb == "checkpoint" and any(phrase in text for phrase in _UNSAVABLE):
        hint = "close every connection to the host before a snapshot"
        return CheckpointRefused("the sandbox holds something that cannot be saved", hint=hint, detail=detail)
    if verb in ("exec", "kill", "checkpoint") and any(phrase in text for phrase in _NOT_RUNNING):
        return UnknownSandbox("the sandbox has ended", detail=detail)
    if verb == "restore":
        return SnapshotUnusable("this snapshot does not restore on this host", hint="make a new one", detail=detail)
    if "permission denied" in text or "operation not permitted" in text:
        return NotPermitted(
            "the host may not run sandboxes", hint="run it as root with writable cgroups", detail=detail
        )
    return RunscFailed(verb, exit_code, detail or "it said nothing")


def why_not_started(said: str) -> str | None:
    """What a shell would say of a program that `runsc exec` could not start; None when runsc itself failed."""
    for phrase in _NOT_STARTED:
        if phrase in said.lower():
            return phrase
    return None


def _plain(said: str) -> str:
    """The messages of a JSON log, or the text as it is."""
    messages = []
    for line in said.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            messages.append(line)
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal", "warning"):
            messages.append(str(entry.get("msg", "")))
    return "\n".join(message for message in messages if message)
