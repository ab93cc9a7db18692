"""`sandpool sandbox ...` against real hosts of a running Ray: what scripts see, and what they are told without one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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
settings = load(Path("sandpool.toml"))
start_ray(settings.ray, Path(settings.folder))
def serve():
    "Command lines by stdin, one JSON document each: a process for each would spend seconds on connecting to Ray."
    for line in sys.stdin:
        asked = json.loads(line)
        done = CliRunner().invoke(root, asked["argv"], input=asked["stdin"].encode())
        print(json.dumps([done.exit_code, done.stdout]), flush=True)
async def main():
    hosts = Hosts(host_spec(settings), {}, grace_s=1.0)
    hosts.place([Member("here", ray.get_runtime_context().get_node_id(), "machine")], NAMESPACE)
    await hosts.open()
    print("up", flush=True)
    await asyncio.to_thread(serve)
    await hosts.close(5)
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
    """Runs `sandpool sandbox ARGUMENTS --json` on a Ray with one host; exit code and document."""
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
    assert process.wait(60) == 0


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
    code, refused = call("create", "--limit", "memory_bytes=1400000000")
    assert (code, refused["error"]["kind"]) == (3, "host.full")
    code, refused = call("create", "--image", "none")
    assert (code, refused["error"]["kind"]) == (2, "image.unknown")
    assert call("rm", made["id"], copy["id"], again["id"], saved["id"])[0] == 0
    assert call("ls") == (0, [])
