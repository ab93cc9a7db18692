"""Jobs that run in a sandbox: Python code, or any program. Built by services, decoded from the wire; no I/O here.

A sandbox sees its inputs read-only below `/in`. Its working folder is `/home/sandpool/out` (also in the variable
SANDPOOL_OUT): what `outputs` matches there when the code has ended goes into the job's volume.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec

from sandpool.errors import InvalidJob
from sandpool.job.fields import (
    Group,
    Priority,
    check_labels,
    check_name,
    check_object,
    check_submission,
    check_texts,
    new_job_id,
    require,
)
from sandpool.job.limits import Gpu, Limits

MAX_CODE_BYTES = 768 * 1024
"""Keeps an envelope under the broker's size; longer code lies in a volume and is named by `file`."""
MAX_STDIN_BYTES = 512 * 1024
MAX_ENV_BYTES = 32 * 1024
MAX_INPUTS = 64
MAX_OUTPUTS = 64

_IMAGE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}(@[0-9a-f]{8,64})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_INPUT = re.compile(r"(?!\.)[A-Za-z0-9_.=+@-]{1,128}(/(?!\.)[A-Za-z0-9_.=+@-]{1,128}){0,7}")


class _Sandboxed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What both kinds have."""

    image: str = "data"
    """Name of an image, or `name@digest`."""
    inputs: dict[str, str] = {}
    """Path below /in -> `VOLUME:KEY`. A key that ends with a slash stands for everything below it."""
    outputs: tuple[str, ...] = ()
    """Globs (`**` crosses folders) of files to keep, relative to the working folder."""
    env: dict[str, str] = {}
    limits: Limits = Limits()
    databases: tuple[str, ...] = ()
    """Registered databases that the code may reach, each by a socket inside its sandbox."""
    gpu: Gpu | None = None
    id: str = msgspec.field(default_factory=new_job_id)
    priority: Priority = "batch"
    timeout_s: float = 60.0
    """Longest run time of one attempt in seconds."""
    deadline: datetime | None = None
    """Moment (with a time zone) after which nobody wants the result; None: none."""
    volume: str = "results"
    retention_s: int | None = None
    """Seconds to keep the result after its ending; None: the volume's own default."""
    max_attempts: int = 3
    labels: dict[str, str] = {}
    """Free-form, shown in listings and events; no meaning to the scheduler."""
    group: Group | None = None
    node_labels: dict[str, str] = {}
    """Labels that the node must have."""

    def __post_init__(self) -> None:
        check_submission(self)
        require(bool(_IMAGE.fullmatch(self.image)), "image", f"{self.image[:80]!r} is no NAME or NAME@DIGEST")
        require(len(self.inputs) <= MAX_INPUTS, "inputs", f"at most {MAX_INPUTS}")
        for path, source in self.inputs.items():
            require(
                bool(_INPUT.fullmatch(path)), "inputs", f"{path[:80]!r} is no relative path of A-Z a-z 0-9 _ . = + @ -"
            )
            check_object(source, f"inputs[{path}]")
        check_texts(self.outputs, "outputs", most=MAX_OUTPUTS, longest=512)
        for glob in self.outputs:
            require(".." not in glob.split("/") and not glob.startswith("/"), "outputs", f"{glob!r} leaves its folder")
        check_env(self.env)
        check_labels(self.node_labels, "node_labels")
        require(len(self.databases) <= 16, "databases", "at most 16")
        for name in self.databases:
            check_name(name, "databases", "database")


class PythonJob(_Sandboxed, frozen=True, kw_only=True):
    """Python code in a sandbox of its own. Its value is that of its last expression, as in a notebook.

    Give `code` (the text) or `file` (`VOLUME:KEY` of it). Raises InvalidJob when a field is out of its range.
    """

    code: str = ""
    file: str = ""
    name: str = "main.py"
    """File name in tracebacks."""

    def __post_init__(self) -> None:
        _Sandboxed.__post_init__(self)
        require(bool(self.code) != bool(self.file), "code", "give either `code` or `file`")
        size = len(self.code.encode("utf-8", "surrogatepass"))
        hint = "put it into a volume and name it by file='VOLUME:KEY'"
        require(size <= MAX_CODE_BYTES, "code", f"{size} bytes, at most {MAX_CODE_BYTES}: {hint}")
        if self.file:
            local = "; for a file of this machine use PythonJob.read(path)"
            require(":" in self.file, "file", f"{self.file[:80]!r} is no VOLUME:KEY{local}")
            check_object(self.file, "file")
            require(not self.file.endswith("/"), "file", "one file, not a folder")
        check_texts([self.name], "name", most=1, longest=255)

    @classmethod
    def read(cls, path: str | Path, **fields: object) -> Self:
        """The job that runs a Python file of this machine. Raises InvalidJob when it is too long or no text."""
        try:
            code = Path(path).read_text("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidJob("code", f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
        return cls(code=code or "\n", **{"name": Path(path).name, **fields})  # type: ignore[arg-type]


class CommandJob(_Sandboxed, frozen=True, kw_only=True):
    """A program in a sandbox of its own. It succeeds when its exit status is 0.

    Raises InvalidJob when a field is out of its range.
    """

    argv: tuple[str, ...]
    stdin: bytes = b""

    def __post_init__(self) -> None:
        _Sandboxed.__post_init__(self)
        require(bool(self.argv), "argv", "at least the program")
        require(len(self.argv) <= 1024, "argv", "at most 1024")
        size = sum(len(text.encode("utf-8", "surrogatepass")) + 1 for text in self.argv)
        require(size <= MAX_ENV_BYTES, "argv", f"at most {MAX_ENV_BYTES} bytes together: put long ones into an input")
        require(bool(self.argv[0]) and not any("\0" in text for text in self.argv), "argv", "a program, and no NUL")
        hint = "put it into a volume, name that in `inputs` and read it from /in"
        require(len(self.stdin) <= MAX_STDIN_BYTES, "stdin", f"at most {MAX_STDIN_BYTES} bytes: {hint}")


def check_env(env: dict[str, str]) -> None:
    """Raises InvalidJob unless these can be environment variables of a program inside."""
    for name, value in env.items():
        require(bool(_VARIABLE.fullmatch(name)), "env", f"{name[:80]!r} is no name of a variable")
        require("\0" not in value, "env", f"{name}: no NUL")
    size = sum(len(f"{name}={value}".encode("utf-8", "surrogatepass")) + 1 for name, value in env.items())
    require(size <= MAX_ENV_BYTES, "env", f"at most {MAX_ENV_BYTES} bytes together")
