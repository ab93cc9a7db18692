"""`sandpool sandbox ...` against real hosts of a running Ray: what scripts see, and what they are told without one."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from tests.sandbox.conftest import IMAGES, ROOT
from workers.sandbox.image import Image

CONFIG = """\
folder = "."
[broker]
url = "amqp://nobody:x@127.0.0.1:1/"
[ray]
cpus = 1
[sandboxes]
images = "{images}"
folder = "{folder}/h"
memory_bytes = 1_500_000_000
cpus = 4
[volumes.results]
url = "file://./volume"
[databases.none]
dsn = "postgresql://nobody:x@127.0.0.1:1/none"
policy = "policy.toml"
[tenants.acme]
databases = ["none"]
[tenants.zeta]
databases = ["none"]
"""
CLUSTER = """
import asyncio, json, sys
from pathlib import Path
import ray
from click.testing import CliRunner
from cluster.cli.root import root
from cluster.conductor import start_ray
from cluster.dispatch import NAMESPACE
from cluster.dispatch_hosts import Hosts
from cluster.hosting import host_spec
from cluster.membership import Member
from cluster.settings import load
from workers.volumes.spec import VolumeSpec
settings = load(Path("sandpool.toml"))
start_ray(settings.ray, Path(settings.folder))
def serve():
    "Command lines by stdin, one JSON document each: a process for each would spend seconds on connecting to Ray."
    for line in sys.stdin:
        asked = json.loads(line)
        done = CliRunner().invoke(root, asked["argv"], input=asked["stdin"].encode())
        print(json.dumps([done.exit_code, done.stdout]), flush=True)
async def main():
    volumes = {"results": VolumeSpec(name="results", url=Path("volume").absolute().as_uri())}
    hosts = Hosts(host_spec(settings), volumes, grace_s=1.0)
    node = ray.get_runtime_context().get_node_id()
    hosts.place([Member("here", node, "machine"), Member("there", node, "machine")], NAMESPACE)
    await hosts.open()
    print("up", flush=True)
    await asyncio.to_thread(serve)
    await asyncio.gather(*(hosts.leave(node, 5) for node in ("here", "there")))
asyncio.run(main())
ray.shutdown()
"""
Call = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def folder(base_image: Image) -> Iterator[Path]:
    folder = Path(mkdtemp(prefix="sp-"))
    (folder / "volume").mkdir()
    shutil.copy(ROOT / "configs" / "policies" / "flights.toml", folder / "policy.toml")
    (folder / "sandpool.toml").write_text(CONFIG.format(images=IMAGES.resolve(), folder=folder))
    (folder / "sandpool.toml").chmod(0o600)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def env(folder: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT), "HOME": str(folder)}


@pytest.fixture(scope="module")
def call(folder: Path, env: dict[str, str]) -> Iterator[Call]:
    """Runs `sandpool sandbox ARGUMENTS --json` on a Ray with two hosts; exit code and document."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    sink, source = process.stdin, process.stdout
    assert source.readline() == b"up\n", (folder / "log").read_text()[-3000:]

    def run(verb: str, *arguments: str, tenant: str = "acme", stdin: str = "") -> tuple[int, Any]:
        argv = ["sandbox", verb, "--json", "--config", "sandpool.toml", "--tenant", tenant, *arguments]
        sink.write(json.dumps({"argv": argv, "stdin": stdin}).encode() + b"\n")
        sink.flush()
        code, said = json.loads(source.readline())
        return code, json.loads(said)

    yield run
    sink.close()
    assert process.wait(60) == 0, (folder / "log").read_text()[-3000:]


def command(folder: Path, env: dict[str, str], *arguments: str) -> tuple[int, Any]:
    """The same in a process of its own."""
    argv = [sys.executable, "-m", "cluster", "sandbox", *arguments, "--json", "--config", "sandpool.toml"]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, timeout=100, check=False)
    return done.returncode, json.loads(done.stdout)


def test_without_a_cluster_it_says_what_to_do(folder: Path, env: dict[str, str]) -> None:
    code, answer = command(folder, env, "ls", "--tenant", "acme")
    assert code == 3, answer
    assert "sandpool up" in answer["error"]["message"]
    code, answer = command(folder, env, "ls")
    assert (code, "acme, zeta" in answer["error"]["message"]) == (2, True)


@pytest.mark.timeout(300)
def test_a_sandbox_lives_through_the_whole_command_line(call: Call, folder: Path, env: dict[str, str]) -> None:
    code, made = call("create", "--limit", "memory_bytes=268435456", "--lifetime", "600")
    assert (code, made["state"], made["memory_bytes"]) == (0, "running", 256 << 20)
    code, ran = command(folder, env, "code", made["id"], "--tenant", "acme", "-c", "n = 41\nprint('hello')\nn + 1")
    assert (code, ran["ending"], ran["stdout"], ran["value"]) == (0, "Succeeded", "hello\n", "42")
    code, ran = call("code", made["id"], stdin="1 / 0")
    assert (code, ran["ending"], ran["error"]["kind"]) == (11, "Failed", "ZeroDivisionError")
    assert call("pause", made["id"])[1]["state"] == "paused"
    code, copy = call("fork", made["id"])
    assert code == 0
    assert call("resume", made["id"])[1]["state"] == "running"
    assert call("timeout", made["id"], "--forever")[1]["expires_at_s"] is None
    code, saved = call("snapshot", made["id"], "--label", "mine")
    assert code == 0
    code, again = call("create", "--from", saved["id"])
    code, ran = call("exec", "--stdin", again["id"], "--", "/bin/sh", "-c", "cat; exit 3", stdin="fed")
    assert (code, ran["code"], ran["stdout"]) == (11, 3, "fed")
    code, listed = call("ls")
    assert {one["id"] for one in listed} == {made["id"], copy["id"], again["id"], saved["id"]}
    code, refused = call("code", made["id"], "-c", "1", tenant="zeta")
    assert (code, refused["error"]["kind"]) == (2, "sandbox.unknown")
    assert call("ls", tenant="zeta") == (0, [])
    large = call("create", "--limit", "memory_bytes=1400000000")[1]["id"]  # on the other host
    code, refused = call("create", "--limit", "memory_bytes=1400000000")
    assert (code, refused["error"]["kind"]) == (3, "host.full")
    code, refused = call("create", "--image", "none")
    assert (code, refused["error"]["kind"]) == (2, "image.unknown")
    for database, kind in (("none", "database.unreachable"), ("other", "UsageError")):
        code, refused = call("create", "--db", database)
        assert (code, refused["error"]["kind"]) == (2, kind)
    assert call("rm", made["id"], copy["id"], again["id"], saved["id"], large)[0] == 0
    assert call("ls") == (0, [])


@pytest.mark.timeout(300)
def test_what_runs_is_shown_while_it_runs_and_ends_with_who_watches(
    call: Call, folder: Path, env: dict[str, str]
) -> None:
    made = call("create")[1]["id"]

    def running() -> str:
        count = "sum(b'echo first' in open(file, 'rb').read() for file in glob.glob('/proc/[0-9]*/cmdline'))"
        return str(call("code", made, "-c", f"import glob\n{count}")[1]["value"])

    argv = [sys.executable, "-m", "cluster", "sandbox", "exec", "--config", "sandpool.toml", "--tenant", "acme", made]
    with subprocess.Popen(
        [*argv, "--", "/bin/sh", "-c", "echo first; while :; do sleep 0.1; done"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        assert (process.poll(), running()) == (None, "1")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    deadline_s = time.monotonic() + 20
    while running() != "0":
        assert time.monotonic() < deadline_s, "it runs on for nobody"
    assert call("rm", made)[0] == 0


@pytest.mark.timeout(300)
def test_a_sandbox_is_pushed_into_a_volume_and_goes_on_on_another_node(call: Call) -> None:
    code, answer = call("create", "--lifetime", "600")
    assert code == 0, answer
    made = answer["id"]
    (home,) = [one["node"] for one in call("ls")[1] if one["id"] == made]
    other = "there" if home == "here" else "here"
    call("code", made, "-c", "n = 41; open('kept', 'w').write('file')")
    code, refused = call("push", made)
    assert (code, refused["error"]["kind"]) == (2, "sandbox.state"), "only what is saved can be sent"
    call("pause", made)
    code, pushed = call("push", made)
    assert (code, pushed["id"]) == (0, made)
    code, refused = call("pull", made, tenant="zeta")
    assert (code, refused["error"]["kind"]) == (2, "sandbox.unknown")
    code, arrived = call("pull", made, "--node", other)
    assert code == 0, arrived
    call("code", made, "-c", "n += 1")  # it runs on where it was
    call("pause", made)
    call("push", made)
    code, newer = call("pull", made, "--node", other)
    nodes = {one["id"]: one["node"] for one in call("ls")[1]}
    assert (nodes[made], nodes[arrived["id"]], nodes[newer["id"]]) == (home, other, other)
    for snapshot, value in ((arrived["id"], "41"), (newer["id"], "42")):
        copy = call("create", "--from", snapshot)[1]["id"]
        assert call("code", copy, "-c", "str(n) + open('kept').read()")[1]["value"] == repr(value + "file")
        call("rm", copy, snapshot)
    assert call("pull", made, "--node", "nowhere")[0] == 3
    code, refused = call("push", made, "--volume", "other")
    assert (code, "results" in refused["error"]["message"]) == (2, True)
    call("rm", made)


@pytest.mark.timeout(300)
def test_a_command_in_a_terminal_gets_keys_size_and_ctrl_c_and_leaves_ours_as_it_was(
    call: Call, folder: Path, env: dict[str, str]
) -> None:
    made = call("create")[1]["id"]
    argv = [sys.executable, "-m", "cluster", "sandbox", "exec", "-t", "--config", "sandpool.toml", "--tenant", "acme"]
    shell = [made, "--", "/bin/sh", "-c", 'echo ready; while read -r line; do eval "$line"; done']
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 97))
    before = termios.tcgetattr(theirs)
    said = b""

    def read_until(wanted: bytes) -> None:
        nonlocal said
        deadline_s = time.monotonic() + 30
        while wanted not in said:
            if not select.select([ours], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                process.kill()
                raise AssertionError(f"{wanted!r} is not in {said!r}")
            said += os.read(ours, 65536)
        said = said.partition(wanted)[2]

    with subprocess.Popen([*argv, *shell], cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        read_until(b"ready\r\n")
        os.write(ours, b"stty size\r")
        read_until(b"\n33 97\r\n")
        termios.tcsetwinsize(theirs, (20, 60))
        os.write(ours, b"trap 'echo no; ' INT; sleep 0.5; stty size; echo $((40 + 2)) $TERM\r")
        read_until(b"\n20 60\r\n42 ")
        os.write(ours, b"trap 'echo caught' INT; echo waits$((1 + 1)); sleep 100\r")
        read_until(b"\nwaits2\r\n")
        os.write(ours, b"\x03")
        read_until(b"caught\r\n")
        os.write(ours, b"\rexit 3\r")  # gVisor gives the interrupt character to whoever reads next, too
        ended = threading.Timer(60, process.kill)
        ended.start()
        assert process.wait() == 11
        ended.cancel()
    assert termios.tcgetattr(theirs) == before
    with subprocess.Popen([*argv, *shell], cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        read_until(b"ready\r\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait() != 0
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    done = subprocess.run([*argv, made, "--", "true"], cwd=folder, env=env, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 2
    assert call("rm", made)[0] == 0
