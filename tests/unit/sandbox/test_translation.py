"""What runsc says -> our errors. The texts were said by runsc 20240729."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.errors import (
    CheckpointRefused,
    RunscFailed,
    SandboxError,
    SnapshotSpaceExhausted,
    SnapshotUnusable,
    UnknownSandbox,
)
from workers.sandbox.translation import MAX_DETAIL, translate, why_not_started

SAID = [
    ("state", 'loading container: file does not exist', UnknownSandbox),
    ("exec", "loading sandbox: container does not exist", UnknownSandbox),
    ("delete", 'loading container "x": file does not exist', UnknownSandbox),
    (
        "checkpoint",
        'checkpoint failed: checkpointing container "x": encoding error: runtime error: invalid memory address or nil '
        "pointer dereference:\ngoroutine 14 [running]:\n" + "gvisor.dev/gvisor/pkg/state.safely.func1()\n" * 200,
        CheckpointRefused,
    ),
    ("checkpoint", "checkpoint failed: write pages.img: no space left on device", SnapshotSpaceExhausted),
    ("restore", "starting container: decoding error: unexpected EOF", SnapshotUnusable),
    ("run", "something new", RunscFailed),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "said", "expected"), SAID)
def test_each_known_text_has_its_error(verb: str, said: str, expected: type[SandboxError]) -> None:
    error = translate(verb, 128, said)
    assert type(error) is expected
    assert error.detail


def test_messages_of_a_json_log_are_read_and_its_chatter_left_out() -> None:
    log = "\n".join(
        json.dumps(entry)
        for entry in (
            {"msg": "Version go1.22", "level": "info"},
            {"msg": "creating container: no such thing", "level": "error"},
        )
    )
    assert translate("run", 128, log).detail == "creating container: no such thing"


@given(st.sampled_from(["run", "restore", "exec", "checkpoint", "delete", "list"]), st.integers(0, 255), st.text())
def test_any_text_becomes_one_of_our_errors(verb: str, code: int, said: str) -> None:
    error = translate(verb, code, said)
    assert isinstance(error, SandboxError)
    assert len(error.detail) <= MAX_DETAIL


@given(st.text(min_size=1))
def test_what_the_host_said_never_reaches_the_tenant(said: str) -> None:
    marked = f"/srv/host-path/{said}"
    assert "/srv/host-path" not in translate("run", 128, marked).info().message


def test_a_program_that_cannot_be_started_is_told_from_a_failure_of_runsc() -> None:
    said = "executing command in sandbox: failed to load /no/such: no such file or directory"
    assert why_not_started(said) == "no such file or directory"
    assert why_not_started("connecting to control server: connection refused") is None
