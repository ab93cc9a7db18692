"""Jobs that run in a sandbox: strict fields, each error with the culprit's name. `sandpool.job.code`, `.limits`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandpool.errors import InvalidJob
from sandpool.job import CommandJob, Gpu, Limits, PythonJob, digest
from sandpool.job.fields import check_object
from sandpool.wire import decode_job, encode_job


def python(**changes: Any) -> PythonJob:
    return PythonJob(**{"code": "1", **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", ""), ("code", "x" * (768 * 1024 + 1)), ("name", ""), ("name", "a\0b"),
        ("image", ""), ("image", "../data"), ("image", "Data"), ("image", "data@zz"), ("image", "data@12"),
        ("inputs", {"/etc/passwd": "results:a/b"}), ("inputs", {"../x": "results:a/b"}),
        ("inputs", {"": "results:a/b"}),
        ("inputs", {".hidden": "results:a/b"}), ("inputs", {"a//b": "results:a/b"}),
        ("inputs", {f"f{n}": "results:a/b" for n in range(65)}),
        ("outputs", ("/etc/*",)), ("outputs", ("a/../b",)), ("outputs", ("",)), ("outputs", ("x" * 513,)),
        ("outputs", tuple(f"f{n}" for n in range(65))),
        ("env", {"1A": "x"}), ("env", {"A=B": "x"}), ("env", {"A": "x\0"}), ("env", {"A": "x" * 40_000}),
        ("databases", ("Flights",)), ("databases", tuple(f"d{n}" for n in range(17))),
        ("timeout_s", 0.0), ("timeout_s", 86_401.0), ("volume", "a/b"), ("max_attempts", 0), ("labels", {"A": "x"}),
        ("node_labels", {"A": "x"}), ("id", "../x"),
    ],
)  # fmt: skip
def test_a_field_out_of_its_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidJob) as raised:
        python(**{field: value})
    assert raised.value.field == field


@pytest.mark.parametrize(
    "source", ["", "results", "results:", ":a/b", "results:/a", "results:a//b", "results:../b", "results:a/.b", "R:a",
               "results:a/b//", "results:a b", "results:" + "a" * 1025]
)  # fmt: skip
def test_what_names_no_object_of_a_volume_is_refused(source: str) -> None:
    with pytest.raises(InvalidJob, match="inputs"):
        python(inputs={"x": source})
    with pytest.raises(InvalidJob, match=r"file|code"):
        PythonJob(file=source)


def test_an_object_is_a_volume_and_a_key() -> None:
    assert check_object("results:acme/j1/1-a/part-00000.parquet", "x") == ("results", "acme/j1/1-a/part-00000.parquet")
    assert check_object("data-sets:flights/", "x") == ("data-sets", "flights/")


def test_code_is_given_once() -> None:
    assert PythonJob(file="results:acme/x.py").file == "results:acme/x.py"
    for wrong in ({}, {"code": "1", "file": "results:a/x.py"}):
        with pytest.raises(InvalidJob, match="either"):
            PythonJob(**wrong)
    with pytest.raises(InvalidJob, match=r"PythonJob\.read"):
        PythonJob(file="x.py")
    with pytest.raises(InvalidJob, match="file='VOLUME:KEY'"):
        python(code="x" * 800_000)


def test_a_file_of_this_machine_becomes_code(tmp_path: Path) -> None:
    script = tmp_path / "delays.py"
    script.write_text("print('ä')", "utf-8")
    job = PythonJob.read(script, image="base")
    assert (job.code, job.name, job.image) == ("print('ä')", "delays.py", "base")
    script.write_bytes(b"\xff")
    with pytest.raises(InvalidJob, match="UTF-8"):
        PythonJob.read(script)
    script.write_bytes(b"")
    assert PythonJob.read(script).code == "\n"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("argv", {"argv": ()}), ("argv", {"argv": ("",)}), ("argv", {"argv": ("a", "b\0")}),
        ("argv", {"argv": ("x",) * 1025}), ("argv", {"argv": ("x" * 40_000,)}),
        ("stdin", {"argv": ("cat",), "stdin": bytes(512 * 1024 + 1)}),
    ],
)  # fmt: skip
def test_a_command_needs_a_program_that_fits(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob) as raised:
        CommandJob(**fields)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory_bytes", 1), ("cpus", 0.0), ("cpus", float("nan")), ("processes", 0), ("output_bytes", 1 << 31),
     ("files", -1), ("memory_bytes", 1e9), ("processes", True), ("cpus", "2")],
)  # fmt: skip
def test_a_limit_out_of_its_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidJob) as raised:
        Limits(**{name: value})
    assert raised.value.field == f"limits.{name}"


def test_both_ends_of_the_wire_find_the_same_digest() -> None:
    job = python(limits=Limits(cpus=3, memory_bytes=1 << 30), outputs=["*"], inputs={"x": "results:a/b"})
    assert digest(decode_job(encode_job(job))) == digest(job)


def test_a_graphics_card_is_asked_for_within_reason() -> None:
    assert python(gpu=Gpu()).gpu == Gpu(count=1)
    for wrong in ({"count": 0}, {"count": 65}, {"memory_bytes": -1}, {"model": "x" * 65}):
        with pytest.raises(InvalidJob, match="gpu"):
            Gpu(**wrong)


@given(
    code=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    outputs=st.lists(st.from_regex(r"\A[a-z*/?]{1,9}[a-z]\Z").filter(lambda t: not t.startswith("/")), max_size=3),
    env=st.dictionaries(st.from_regex(r"\A[A-Z_]{1,9}\Z"), st.text("ab=\nä", max_size=5), max_size=3),
    cpus=st.none() | st.floats(0.05, 256),
)
def test_every_code_job_survives_the_wire(
    code: str, outputs: list[str], env: dict[str, str], cpus: float | None
) -> None:
    job = PythonJob(code=code, outputs=tuple(outputs), env=env, limits=Limits(cpus=cpus))
    assert decode_job(encode_job(job)) == job
    command = CommandJob(argv=(code.replace("\0", "-"),), stdin=code.encode(), env=env)
    assert decode_job(encode_job(command)) == command


def test_other_code_image_or_inputs_are_other_work_and_urgency_is_not() -> None:
    works = [
        python(),
        python(code="2"),
        python(image="base"),
        python(inputs={"x": "results:a/b"}),
        python(env={"A": ""}),
    ]
    assert len({digest(job) for job in works}) == len(works)
    assert digest(python(timeout_s=5, priority="interactive", labels={"a": "b"})) == digest(python())
    with pytest.raises(AttributeError):
        python().code = "2"  # type: ignore[misc]
    assert msgspec.structs.replace(python(id="x"), code="2").code == "2"
