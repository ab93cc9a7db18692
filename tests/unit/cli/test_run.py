"""`sandpool run`: what it sends, prints, saves and exits with. The code is JSON that the scripted host answers with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandpool.outcome import Ending
from tests.unit.cli.conftest import House


def script(folder: Path, **answer: Any) -> str:
    path = folder / "job.py"
    path.write_text(json.dumps(answer))
    return str(path)


def test_output_value_and_ending_are_printed_where_they_belong(house: House, tmp_path: Path) -> None:
    result = house.call("run", script(tmp_path, said={"stdout": "out\n", "stderr": "err\n", "value": "42"}))
    assert (result.exit_code, result.stdout) == (0, "out\n42\n")
    assert result.stderr.startswith("err\n")
    assert "job " in result.stderr


def test_what_code_writes_is_printed_while_it_runs_and_once(house: House, tmp_path: Path) -> None:
    whole = "one\nGrü" + "ße\n" + "last\n"
    path = script(tmp_path, live=["one\nGrü", "ße\n"], said={"stdout": whole, "stderr": "err\n", "value": "4"})
    result = house.call("run", path)
    assert (result.exit_code, result.stdout) == (0, whole + "4\n")
    assert result.stderr.startswith("err\n")


@pytest.mark.parametrize(
    ("ending", "code"),
    [("Failed", 11), ("TimedOut", 12), ("OutOfMemory", 13), ("OutputCapped", 14), ("Cancelled", 15)],
)
def test_each_ending_has_its_exit_code_and_one_json_object(
    house: House, tmp_path: Path, ending: str, code: int
) -> None:
    error = {"code": "code.x", "message": "why", "hint": "what to do"}
    path = script(tmp_path, ending=ending, error=error, said={"stdout": "o", "stderr": "e", "exit_code": 3})
    result = house.call("run", path, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ending"], document["stdout"], document["stderr"]) == (code, ending, "o", "e")
    assert document["error"] == error and document["exit_code"] == 3
    assert {"run_s", "cpu_s", "peak_memory_bytes", "wait_s", "output_bytes"} <= document["usage"].keys()
    plain = house.call("run", path)
    assert plain.exit_code == code and f"{ending} by code.x: why" in plain.stderr


def test_every_option_reaches_the_sandbox(house: House, tmp_path: Path) -> None:
    options = ["--image", "base", "--in", "a=results:acme/x", "--in", "b=results:acme/y/", "--out", "*.png",
               "--timeout", "7", "--env", "A=b=c", "--memory", "256", "--cpus", "2", "--id", "one"]  # fmt: skip
    assert house.call("run", script(tmp_path), *options).exit_code == 0
    (task,) = house.bench.tasks
    assert (task.image, task.job_id, task.timeout_s, task.name) == ("base", "one", 7, "job.py")
    assert [(each.path, each.volume, each.key) for each in task.inputs] == [
        ("a", "results", "acme/x"), ("b", "results", "acme/y/")
    ]  # fmt: skip
    assert (task.outputs, task.env) == (("*.png",), {"A": "b=c"})
    assert (task.limits.memory_bytes, task.limits.cpus) == (256 << 20, 2)


def test_outputs_are_saved_below_their_folder_and_over_nothing(house: House, tmp_path: Path) -> None:
    path = script(tmp_path, files={"a.txt": "kept", "deep/b.txt": "too"})
    folder = tmp_path / "saved"
    result = house.call("run", path, "--out-dir", str(folder), "--json")
    assert result.exit_code == 0, result.output
    assert (folder / "a.txt").read_text() == "kept" and (folder / "deep" / "b.txt").read_text() == "too"
    assert len(json.loads(result.stdout)["saved"]) == 2
    again = house.call("run", path, "--out-dir", str(folder))
    assert (again.exit_code, "there already" in again.stderr) == (2, True)
    listed = house.call("run", path)
    assert "output a.txt (4 bytes)" in listed.stderr and "--out-dir" in listed.stderr


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/../../b", "link/x"])
def test_a_hostile_file_name_is_written_nowhere(house: House, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    result = house.call("run", script(tmp_path, files={name: "x"}), "--out-dir", str(folder))
    assert result.exit_code == 2
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and "volume" not in str(path)) == [
        "job.py"
    ]


@pytest.mark.parametrize(
    "options",
    [["--in", "a"], ["--in", "a=b"], ["--in", "a=results:x", "--in", "a=results:y"], ["--timeout", "0"],
     ["--out", "/x"], ["--image", "NO"], ["--env", "1=2"]],
)  # fmt: skip
def test_a_job_that_cannot_be_is_a_usage_error(house: House, tmp_path: Path, options: list[str]) -> None:
    result = house.call("run", script(tmp_path), *options)
    assert (result.exit_code, house.bench.tasks) == (2, [])


def test_a_missing_file_and_one_that_is_no_text_are_said(house: House, tmp_path: Path) -> None:
    assert "No such file" in house.call("run", str(tmp_path / "none.py")).stderr
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe")
    assert house.call("run", str(tmp_path / "bytes.py")).exit_code == 2
    (tmp_path / "long.py").write_text("#" * 800_000)
    assert "file='VOLUME:KEY'" in house.call("run", str(tmp_path / "long.py")).stderr


def test_code_from_standard_input_runs(house: House) -> None:
    result = house.call("run", "-", stdin=json.dumps({"said": {"stdout": "piped\n"}}))
    assert (result.exit_code, result.stdout) == (0, "piped\n")


def test_a_database_that_is_not_the_tenants_is_denied(house: House, tmp_path: Path) -> None:
    result = house.call("run", script(tmp_path), "--db", "secret", "--json")
    assert (result.exit_code, json.loads(result.stdout)["ending"]) == (10, str(Ending.Denied))


def test_a_code_job_is_submitted_from_a_file_and_its_result_printed(house: House, tmp_path: Path) -> None:
    job = {"kind": "python", "id": "sent", "code": json.dumps({"said": {"stdout": "later\n"}})}
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert house.call("submit", str(tmp_path / "job.json")).stdout == "sent\n"
    result = house.call("result", "sent", "--wait", "5")
    assert (result.exit_code, result.stdout) == (0, "later\n")
    (tmp_path / "job.json").write_text('{"kind": "notebook"}')
    assert house.call("submit", str(tmp_path / "job.json")).exit_code == 2
