"""Jobs in real sandboxes, from task to attempt: every ending, inputs, outputs, and what hostile code makes of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandpool.outcome import Ending
from workers.attempt import Attempt
from workers.images.store import ImageStore
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.image import Image
from workers.sandbox.jobs.desk import Desk
from workers.sandbox.limits import Limits
from workers.sandbox.task import Input, SandboxTask, decode_task, encode_task
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

MIB = 1 << 20


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return open_volume(VolumeSpec(name="results", url=f"file://{tmp_path}/volume"))


@pytest.fixture
async def desk(short_folder: Path, image_store: ImageStore, base_image: Image, volume: Volume) -> AsyncIterator[Desk]:
    name = short_folder.name.lower().replace("_", "x")
    spec = HostSpec(folder=str(short_folder / "host"), images="", name=name, cpus=8, memory_bytes=4 << 30)
    host = Host(spec, image_store)
    await host.open()
    yield Desk(host, {"results": volume})
    await host.close()


@pytest.fixture
def task(limits: Limits) -> Any:
    def make(code: str = "", **changes: Any) -> SandboxTask:
        fields: dict[str, Any] = {
            "tenant": "acme", "job_id": "j1", "attempt_id": "1-a", "kind": "command" if "argv" in changes else "code",
            "image": "base", "limits": limits, "timeout_s": 10.0, "volume": "results", "code": code,
            "most_input_bytes": 64 * MIB, "most_files": 100, "most_files_bytes": 64 * MIB,
        }  # fmt: skip
        return decode_task(encode_task(SandboxTask(**{**fields, **changes})))

    return make


def said(attempt: Attempt) -> Any:
    assert attempt.said is not None
    return attempt.said


async def test_code_ends_with_its_value_its_output_and_what_it_used(desk: Desk, task: Any) -> None:
    attempt = await desk.run(task("import os, sys\nprint('out')\nprint('err', file=sys.stderr)\nos.getcwd(), 6 * 7"))
    assert (attempt.ending, attempt.error) == (Ending.Succeeded, None)
    assert (said(attempt).stdout, said(attempt).stderr) == ("out\n", "err\n")
    assert said(attempt).value == "('/home/sandpool/out', 42)"
    usage = attempt.usage
    assert usage.image.startswith("base@")
    assert usage.run_s > usage.hand_out_s > 0
    assert [timing.stage for timing in attempt.timings] == ["restore", "inputs", "code", "upload"]
    assert 0 < sum(timing.took_s for timing in attempt.timings) <= usage.run_s
    assert usage.cpu_s > 0
    assert usage.peak_memory_bytes > 10 * MIB
    assert usage.output_bytes == 8
    assert desk.running == 0


async def test_an_error_names_the_users_own_lines(desk: Desk, task: Any) -> None:
    attempt = await desk.run(task("def f():\n    return 1 / 0\n\nf()\n", name="delays.py"))
    assert (attempt.ending, attempt.error.code) == (Ending.Failed, "code.raised")
    assert attempt.error.message == "ZeroDivisionError: division by zero"
    assert 'File "delays.py", line 4' in said(attempt).stderr
    assert 'File "delays.py", line 2, in f' in said(attempt).stderr
    assert "/opt/sandpool" not in said(attempt).stderr
    attempt = await desk.run(task("x = (1,\n"))
    assert (attempt.ending, attempt.error.message[:12]) == (Ending.Failed, "SyntaxError:")
    attempt = await desk.run(task("import sys; sys.exit(3)"))
    assert (attempt.ending, attempt.error.code, said(attempt).exit_code) == (Ending.Failed, "code.exit", 3)
    assert (await desk.run(task("import sys; sys.exit(0)"))).ending is Ending.Succeeded


async def test_every_limit_has_an_ending_of_its_own(desk: Desk, task: Any, limits: Limits) -> None:
    endings = {
        "while True: pass": (Ending.TimedOut, "code.timeout"),
        "import time; print('begun'); time.sleep(60)": (Ending.TimedOut, "code.timeout"),
        "try:\n    while True: pass\nexcept BaseException:\n    while True: pass": (Ending.TimedOut, "code.timeout"),
        "x = b'x' * (1 << 30)": (Ending.OutOfMemory, "code.memory"),
        "x = bytearray(1 << 60)": (Ending.OutOfMemory, "code.memory"),
        "while True: print('x' * 1000)": (Ending.OutputCapped, "output.text"),
        "f = open('fill', 'wb')\nwhile True: f.write(b'x' * (1 << 20))": (Ending.Failed, "code.raised"),
        "open('/etc/shadow').read()": (Ending.Failed, "code.raised"),
        "import socket; socket.create_connection(('10.0.0.1', 80), 2)": (Ending.Failed, "code.raised"),
        "import os; os._exit(0)": (Ending.Failed, "code.ended_sandbox"),
        "import os, signal; os.kill(os.getppid() or 1, signal.SIGKILL)": None,
        "import os\nwhile True: os.fork()": None,
    }
    for code, expected in endings.items():
        attempt = await desk.run(task(code, timeout_s=1.5))
        if expected is None:  # it depends on who is killed first; it is never a success, and never the host's end
            assert attempt.ending in (Ending.Failed, Ending.TimedOut, Ending.OutOfMemory), (code, attempt)
        else:
            assert (attempt.ending, attempt.error.code) == expected, (code, attempt)
    assert said(attempt) is not None
    assert (await desk.run(task("1"))).ending is Ending.Succeeded


async def test_a_command_ends_by_its_status(desk: Desk, task: Any) -> None:
    attempt = await desk.run(task(argv=("/bin/sh", "-c", "cat; echo $A; pwd; exit 4"), stdin=b"in ", env={"A": "b"}))
    assert (attempt.ending, attempt.error.code, said(attempt).exit_code) == (Ending.Failed, "code.exit", 4)
    assert said(attempt).stdout == "in b\n/home/sandpool/out\n"
    assert (await desk.run(task(argv=("true",)))).ending is Ending.Succeeded
    assert said(await desk.run(task(argv=("no-such-program",)))).exit_code == 127
    attempt = await desk.run(task(argv=("/bin/sh", "-c", "kill -9 $$")))
    assert (attempt.ending, attempt.error.message) == (Ending.Failed, "ended by signal 9")
    attempt = await desk.run(task(argv=("sleep", "60"), timeout_s=0.5))
    assert attempt.ending is Ending.TimedOut
    attempt = await desk.run(task(argv=("cat", "/dev/zero")))
    assert attempt.ending is Ending.OutputCapped


async def test_inputs_come_from_volumes_and_are_read_only(desk: Desk, task: Any, volume: Volume) -> None:
    await volume.acreate("acme/data/a.csv", b"1,2\n")
    await volume.acreate("acme/data/deep/b.csv", b"3\n")
    await volume.acreate("acme/code.py", b"print(open('/in/one.csv').read())")
    inputs = (Input("one.csv", "results", "acme/data/a.csv"), Input("all", "results", "acme/data/"))
    code = (
        "print(*(open(f'/in/{name}').read() for name in ('one.csv', 'all/a.csv', 'all/deep/b.csv')))\n"
        "try:\n    open('/in/one.csv', 'a')\nexcept OSError as e:\n    print(type(e).__name__)\n"
    )
    attempt = await desk.run(task(code, inputs=inputs))
    assert (attempt.ending, attempt.usage.input_bytes) == (Ending.Succeeded, 10), attempt
    assert said(attempt).stdout.split() == ["1,2", "1,2", "3", "PermissionError"]
    attempt = await desk.run(task("", code_file=Input("", "results", "acme/code.py"), inputs=inputs[:1]))
    assert said(attempt).stdout == "1,2\n\n"
    missing = await desk.run(task("1", inputs=(Input("x", "results", "acme/nothing"),)))
    assert (missing.ending, missing.error.code) == (Ending.Failed, "input.missing")
    large = await desk.run(task("1", inputs=inputs, most_input_bytes=5))
    assert (large.ending, large.error.code) == (Ending.Failed, "input.too_large")
    wrong = await desk.run(task("1", inputs=(Input("x", "results", "acme/data/a.csv", "0" * 64),)))
    assert (wrong.ending, wrong.error.code) == (Ending.Failed, "input.changed")


async def test_code_too_long_for_a_message_runs_from_a_volume(desk: Desk, task: Any, volume: Volume) -> None:
    await volume.acreate("acme/long.py", b"#" * (2 << 20) + b"\nprint('ran')\nraise ValueError('line 3')\n")
    attempt = await desk.run(task("", code_file=Input("", "results", "acme/long.py"), name="long.py"))
    assert (said(attempt).stdout, attempt.error.message) == ("ran\n", "ValueError: line 3")
    assert 'File "long.py", line 3' in said(attempt).stderr


async def test_outputs_go_into_the_volume_with_their_checksums(desk: Desk, task: Any, volume: Volume) -> None:
    code = (
        "import os\nos.makedirs('tables/deep')\nopen('a b.png', 'wb').write(b'png')\n"
        "open('tables/deep/x.csv', 'w').write('1\\n')\nopen('ä.txt', 'w').write('ä')\n"
        "open('large.bin', 'wb').write(b'ab' * (3 << 20))\nopen('not-asked', 'w')\n"
    )
    attempt = await desk.run(task(code, outputs=("*.png", "tables", "*.txt", "large.bin")))
    files = {file.path: file for file in attempt.manifest.files}
    assert set(files) == {"a b.png", "tables/deep/x.csv", "ä.txt", "large.bin"}, attempt
    for path, content in {"a b.png": b"png", "ä.txt": "ä".encode(), "large.bin": b"ab" * (3 << 20)}.items():
        assert volume.get(files[path].key) == content
        assert (files[path].size_bytes, files[path].sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert files[path].key.startswith("acme/j1/1-a/out/")


async def test_links_devices_and_missing_outputs_are_never_followed(desk: Desk, task: Any, volume: Volume) -> None:
    code = (
        "import os\nos.symlink('/etc/passwd', 'link.txt')\nos.symlink('/', 'root')\nos.mkfifo('fifo.txt')\n"
        "open('good.txt', 'w').write('good')\nos.symlink('..', 'up')\n"
    )
    attempt = await desk.run(task(code, outputs=("**",)))
    assert [file.path for file in attempt.manifest.files] == ["good.txt"]
    assert (attempt.ending, attempt.manifest.omitted) == (Ending.Succeeded, 4)
    odd = await desk.run(task(code, outputs=("link.txt", "good.txt"), attempt_id="2-b"))
    assert (odd.ending, odd.error.code, len(odd.manifest.files)) == (Ending.Failed, "output.kind", 1)
    missing = await desk.run(task(code, outputs=("plot.png", "good.txt"), attempt_id="3-c"))
    assert (missing.ending, missing.error.code, len(missing.manifest.files)) == (Ending.Failed, "output.missing", 1)


ODD_NAMES = """
for name in (b"caf\\xe9.csv", b"a\\nb", "\u202e.txt".encode(), b"x" * 255, b"-rf", b" ", b"*", b"a\\\\b"):
    open(b"/home/sandpool/out/" + name, "w").write("1")
"""


async def test_a_name_that_is_no_utf8_is_said_to_be_one_and_every_other_name_is_kept(desk: Desk, task: Any) -> None:
    attempt = await desk.run(task(ODD_NAMES, outputs=("*",)))
    assert attempt.error is not None
    assert (attempt.ending, attempt.error.code) == (Ending.Failed, "output.missing")
    assert attempt.error.message == "caf?.csv: gone, or its name is no UTF-8"
    kept = {file.path for file in attempt.manifest.files}
    assert kept == {"a\nb", "\u202e.txt", "x" * 255, "-rf", " ", "*", "a\\b"}


async def test_too_many_and_too_large_outputs_end_capped_with_what_fits(desk: Desk, task: Any) -> None:
    many = await desk.run(task("for n in range(10_000): open(f'{n:05}', 'w')", outputs=("*",), timeout_s=60))
    assert (many.ending, many.error.code, len(many.manifest.files)) == (Ending.OutputCapped, "output.files", 100)
    assert many.manifest.partial
    code = "open('a', 'w').write('x')\nf = open('b', 'wb')\nf.truncate(20 << 20)"
    large = await desk.run(task(code, outputs=("*",), most_files_bytes=MIB, attempt_id="2-b"))
    assert (large.ending, large.error.code) == (Ending.OutputCapped, "output.bytes")
    assert [file.path for file in large.manifest.files] == ["a"]


async def test_an_output_that_vanishes_is_said_and_the_others_are_kept(desk: Desk, task: Any) -> None:
    code = (
        "import os, threading, time\nopen('a', 'w').write('a')\nopen('b', 'w').write('b')\n"
        "def vanish():\n    while True:\n        try:\n            os.unlink('b')\n        except OSError:\n"
        "            pass\n        open('b', 'w').close()\n"
        "threading.Thread(target=vanish, daemon=True).start()\n"
    )
    for number in range(3):
        attempt = await desk.run(task(code, outputs=("*",), attempt_id=f"{number}-v"))
        assert "a" in [file.path for file in attempt.manifest.files]
        assert attempt.ending is Ending.Succeeded or attempt.error.code == "output.missing"


ENDLESS = """
import os
import sandpool_runner.service as service
def endless(link, header, payload):
    link.send("entries", b"[]", id=header["id"], next="6161")
service.serve_file = endless
for number in range(3):
    os.mkdir(f"folder{number}")
print("kept")
"""


async def test_outputs_that_cannot_be_had_cost_nothing_of_what_was_printed(desk: Desk, task: Any) -> None:
    attempt = await asyncio.wait_for(desk.run(task(ENDLESS, outputs=("**/*.txt",))), 60)
    assert attempt.error is not None
    assert (attempt.ending, attempt.error.code, said(attempt).stdout) == (Ending.Failed, "session.protocol", "kept\n")
    closed = await desk.run(task("open('a.txt', 'w').close(); import os; os.chmod('.', 0)", outputs=("*.txt",)))
    assert (closed.ending, closed.manifest.files, closed.manifest.omitted) == (Ending.Succeeded, (), 1)


async def test_long_texts_are_whole_in_the_volume_and_binary_ones_are_shown(
    desk: Desk, task: Any, volume: Volume, limits: Limits
) -> None:
    wide = replace(limits, output_bytes=MIB)
    attempt = await desk.run(task("print('x' * 300_000)", limits=wide))
    assert len(said(attempt).stdout) == 64 << 10
    assert volume.get(said(attempt).stdout_file.key) == b"x" * 300_000 + b"\n"
    binary = await desk.run(task("import sys; sys.stdout.buffer.write(bytes(range(256))); sys.stdout.flush()"))
    assert said(binary).stdout.startswith("\x00\x01") and said(binary).stdout.endswith("\\xff")
    closed = await desk.run(task("import os; os.close(1); os.close(2); 5"))
    assert (closed.ending, said(closed).value) == (Ending.Succeeded, "5")


async def test_a_cancelled_job_ends_cancelled_with_what_it_printed(desk: Desk, task: Any) -> None:
    running = asyncio.create_task(desk.run(task("import time\nprint('begun', flush=True)\ntime.sleep(60)")))
    async with asyncio.timeout(30):
        while not (await desk.hear("j1", "acme", 0, 0)).stdout:
            await asyncio.sleep(0.02)
    assert not await desk.cancel("j1", "globex")
    assert await desk.cancel("j1", "acme")
    attempt = await running
    assert (attempt.ending, attempt.error.code, said(attempt).stdout) == (Ending.Cancelled, "job.cancelled", "begun\n")
    early = asyncio.create_task(desk.run(task("1")))
    await asyncio.sleep(0)
    assert await desk.cancel("j1", "acme")
    assert (await early).ending is Ending.Cancelled


async def test_no_job_sees_what_another_left(desk: Desk, task: Any) -> None:
    mark = "import os, glob\nopen('/tmp/mark', 'w').write('1')\nopen('mark', 'w').write('1')\nos.environ['MARK'] = '1'"
    look = "import os, glob\nglob.glob('/tmp/*') + glob.glob('/home/sandpool/**', recursive=True) + glob.glob('/in/*')"
    await desk.run(task(mark, env={"SECRET": "x"}))
    for tenant in ("acme", "globex"):
        attempt = await desk.run(task(f"{look} + ['MARK' in os.environ or 'SECRET' in os.environ]", tenant=tenant))
        assert "mark" not in said(attempt).value
        assert said(attempt).value.endswith("False]")


async def test_what_cannot_run_says_why(desk: Desk, task: Any, limits: Limits) -> None:
    unknown = await desk.run(task("1", image="no-such-image"))
    assert unknown.ending is Ending.Failed and "no-such-image" in unknown.error.message
    over = await desk.run(task("1", limits=replace(limits, open_files=60_000)))
    assert (over.error.code, "open_files" in over.error.message) == ("sandbox.spec", True)
    await desk.drain(1)
    closed = await desk.run(task("1"))
    assert closed.error.code == "host.closed" and closed.error.retryable
