"""Code that turns against its own runner, its session or its host's patience: one trick, one test.

Whatever it does, the session ends typed and in time, or goes on; the next sandbox and the host do not notice.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sandpool.outcome import Ending
from tests.sandbox.live import SESSION_LIMITS, Mounts, listener_of, start_live
from workers.sandbox.bundle import Bind
from workers.sandbox.errors import FileRefused, ProtocolBroken, RunnerAbsent, SessionError
from workers.sandbox.image import Image
from workers.sandbox.limits import MIB, Limits
from workers.sandbox.sandboxes import Sandbox, Sandboxes
from workers.sandbox.session import Session

Live = tuple[Sandbox, Session]
HOST = """
import os, socket, stat, struct
for number in range(3, 64):
    try:
        host = socket.socket(fileno=os.dup(number))
        if host.getpeername() == "/run/sandpool/runner.sock":
            break
    except OSError:
        pass
"""
CONNECTION = "session.runner_lost"


def peak_mib() -> float:
    """Most memory that this process ever used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def require_neighbour(sandboxes: Sandboxes, image: Image, limits: Limits, mounts: Mounts) -> None:
    """The host still makes sandboxes that work."""
    sandbox, session = await start_live(sandboxes, image, limits, mounts("neighbour"))
    assert (await session.run_code("1 + 1")).text == "2"
    await session.close()
    await sandboxes.destroy(sandbox.id)


@pytest.mark.parametrize(
    ("code", "expected", "usable"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", CONNECTION, False),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)", CONNECTION, False),
        ("os.kill(-1, signal.SIGKILL)", "ProcessLookupError", True),
        ("os.abort()", CONNECTION, False),
        ("ctypes.string_at(0)", CONNECTION, False),
        ("os.execv('/bin/sleep', ['sleep', '60'])", CONNECTION, False),
        ("os.closerange(3, 100); time.sleep(30)", CONNECTION, False),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "session.runner_absent", False),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nwhile True: pass", "session.runner_absent", False),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", "session.runner_absent", False),
        ("signal.setitimer(signal.ITIMER_REAL, 0.1); time.sleep(30)", CONNECTION, False),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(30)", "KeyboardInterrupt", True),
        ("threading.Thread(target=os._exit, args=(0,)).start(); time.sleep(30)", CONNECTION, False),
    ],
    ids=lambda value: str(value)[:45] if isinstance(value, str) and len(value) > 25 else None,
)
async def test_signal_games_with_the_runner_end_its_session_in_time(
    first: Live, code: str, expected: str, usable: bool
) -> None:
    sandbox, session = first
    imports = "import ctypes, os, signal, sys, threading, time\n"
    started = time.monotonic()
    execution = await session.run_code(imports + code, timeout_s=1)
    assert time.monotonic() - started < 1 + SESSION_LIMITS.grace_s + SESSION_LIMITS.frame_s + 3
    assert execution.error is not None
    assert (execution.error.kind, session.usable) == (expected, usable)
    assert execution.ending in (Ending.Failed, Ending.TimedOut)
    assert sandbox.id.startswith("sb-")


async def test_a_crash_of_the_runner_ends_the_session_and_never_the_host(
    first: Live, sandboxes: Sandboxes, base_image: Image, limits: Limits, mounts: Mounts
) -> None:
    sandbox, session = first
    running = asyncio.create_task(session.run_command(["/bin/sleep", "30"]))
    watching = asyncio.create_task(session.read_file("/dev/null"))
    execution = await session.run_code("import os\nos.abort()")
    assert execution.error is not None
    assert execution.error.kind == CONNECTION
    assert (await running).error is not None
    with pytest.raises(SessionError):
        await watching
        await session.run_code("1")
    await require_neighbour(sandboxes, base_image, limits, mounts)
    assert not (await sandboxes.destroy(sandbox.id)).out_of_memory


async def test_an_impostor_in_place_of_the_runner_gets_no_more_than_the_runner_had(
    first: Live, sandboxes: Sandboxes, mounts: Mounts
) -> None:
    """A process that the code left behind connects first when the host listens again."""
    sandbox, session = first
    impostor = """
import os, socket, struct, time
if os.fork() == 0:
    while True:
        host = socket.socket(socket.AF_UNIX)
        try:
            host.connect("/run/sandpool/runner.sock")
            break
        except OSError:
            host.close()
    header = b'{"kind":"hello","version":2,"python":"impostor","pid":-1}'
    host.sendall(struct.pack(">II", len(header), 0) + header)
    time.sleep(60)
"""
    await session.run_code(impostor)
    await session.release()
    with pytest.raises(SessionError) as refused:
        meeting = await listener_of([*mounts("unused")[:1], sandbox.mounts[1]]).accept(10, SESSION_LIMITS)
        execution = await meeting.run_code("1", timeout_s=1)
        raise RunnerAbsent(str(execution.error))  # the runner was faster: then it is the one that answers
    assert isinstance(refused.value, ProtocolBroken | RunnerAbsent)
    await sandboxes.destroy(sandbox.id)


async def test_a_second_connection_to_the_host_is_refused(first: Live) -> None:
    _, session = first
    code = "import socket\nsocket.socket(socket.AF_UNIX).connect('/run/sandpool/runner.sock')"
    execution = await session.run_code(code)
    assert execution.error is not None
    assert execution.error.kind == "ConnectionRefusedError"


async def test_a_forged_end_is_the_codes_own_loss(first: Live) -> None:
    """It can answer for itself, and for nobody else: what it says later belongs to nothing."""
    _, session = first
    code = (
        HOST
        + """
import sys
frame = sys._getframe()
while "header" not in frame.f_locals or "id" not in frame.f_locals["header"]:
    frame = frame.f_back
number = frame.f_locals["header"]["id"]
def say(header):
    header = header.replace("ID", str(number)).encode()
    host.sendall(struct.pack(">II", len(header), 0) + header)
say('{"kind":"done","id":ID,"ending":"done","cpu_s":1e15,"peak_bytes":9223372036854775807}')
"""
    )
    execution = await session.run_code(code)
    assert (execution.ending, execution.value) == (Ending.Succeeded, None)
    assert (await session.run_code("6 * 7")).text == "42"


async def test_descriptors_that_the_code_sends_never_pile_up_on_the_host(first: Live) -> None:
    _, session = first
    before = len(os.listdir("/proc/self/fd"))
    code = (
        HOST
        + """
header = b'{"kind":"output","id":0,"stream":"stdout"}'
frame = struct.pack(">II", len(header), 0) + header
sent = 0
try:
    for _ in range(200):
        socket.send_fds(host, [frame], [1] * 10)
        sent += 1
except OSError as error:
    print(error)
"""
    )
    await session.run_code(code)
    assert len(os.listdir("/proc/self/fd")) <= before + 2


async def test_a_flood_of_frames_costs_the_host_neither_memory_nor_its_loop(first: Live) -> None:
    _, session = first
    await session.run_code("1")
    before = peak_mib()
    code = (
        HOST
        + """
header = b'{"kind":"output","id":0,"stream":"stdout"}'
frame = (struct.pack(">II", len(header), 0) + header) * 1000
while True:
    host.sendall(frame)
"""
    )
    running = asyncio.create_task(session.run_code(code, timeout_s=3))
    longest_s, last = 0.0, time.monotonic()
    while not running.done():
        await asyncio.sleep(0.001)
        longest_s, last = max(longest_s, time.monotonic() - last), time.monotonic()
    execution = await running
    assert execution.error is not None
    assert execution.error.kind in ("session.protocol", "KeyboardInterrupt", "session.runner_absent")
    assert longest_s < 0.5
    assert peak_mib() - before < 16


async def test_a_memory_hog_in_code_is_out_of_memory_and_its_session_is_lost(first: Live, sandboxes: Sandboxes) -> None:
    sandbox, session = first
    execution = await session.run_code("hoard = []\nwhile True: hoard.append(bytearray(1 << 24))", timeout_s=15)
    assert execution.error is not None
    assert (execution.error.kind, session.usable) == (CONNECTION, False)
    assert (await sandboxes.destroy(sandbox.id)).out_of_memory


async def test_the_sockets_and_inputs_of_another_sandbox_cannot_be_reached(
    first: Live, sandboxes: Sandboxes, base_image: Image, limits: Limits, mounts: Mounts, short_folder: Path
) -> None:
    (short_folder / "in").mkdir()
    (short_folder / "in" / "theirs").write_text("of another tenant")
    own = [*mounts("b"), Bind(source=short_folder / "in", target="/in")]
    other, theirs = await start_live(sandboxes, base_image, limits, own)
    _, session = first
    code = f"""
import os, socket
tried = []
for path in ("../b/runner.sock", "../../b/runner.sock", "{short_folder}/b/runner.sock", "../../../{short_folder}/b"):
    try:
        socket.socket(socket.AF_UNIX).connect("/run/sandpool/" + path)
        tried.append(path)
    except OSError:
        pass
tried + [name for name in os.listdir("/in")] + [f for f in ("{short_folder}", "/in/../b") if os.path.exists(f)]
"""
    assert (await session.run_code(code)).text == "[]"
    assert (await theirs.run_code("open('/in/theirs').read()")).text == "'of another tenant'"
    await theirs.close()
    await sandboxes.destroy(other.id)


async def test_links_among_the_inputs_lead_to_the_sandboxs_own_files(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, mounts: Mounts, short_folder: Path
) -> None:
    """Whoever fills the inputs may be fooled into a link: it must not open the host."""
    inbox, secret = short_folder / "in", short_folder / "secret"
    inbox.mkdir()
    secret.write_text("of the host")
    (inbox / "absolute").symlink_to(secret)
    (inbox / "up").symlink_to("../secret")
    (inbox / "passwd").symlink_to("/etc/passwd")
    (inbox / "loop").symlink_to("loop")
    sandbox, session = await start_live(sandboxes, base_image, limits, [*mounts("a"), Bind(source=inbox, target="/in")])
    for name, reason in (("absolute", "ENOENT"), ("up", "ENOENT"), ("loop", "ELOOP"), ("../secret", "ENOENT")):
        with pytest.raises(FileRefused) as refused:
            await session.read_file(f"/in/{name}")
        assert refused.value.reason == reason
    assert b"sandpool:x:10000" in await session.read_file("/in/passwd")
    assert secret.read_text() == "of the host"
    await session.close()
    await sandboxes.destroy(sandbox.id)


TRICKS = {
    "link": "ENOENT",
    "../../../../root/.ssh/id_rsa": "EACCES",
    "/proc/1/mem": "EIO",
    "/dev/zero": "EINVAL",
    "/dev/stdin": "EINVAL",
    "pipe": "EINVAL",
    "/proc/self/fd/99": "ENOENT",
    "folder": "EISDIR",
    "door": "ENXIO",
}


async def test_outputs_that_are_tricks_are_refused_by_name(first: Live) -> None:
    _, session = first
    code = """
import os, socket
os.symlink("/nowhere/at/all", "link"); os.mkfifo("pipe"); os.mkdir("folder")
socket.socket(socket.AF_UNIX).bind("door")
"""
    await session.run_code(code)
    reasons = {}
    for path in TRICKS:
        with pytest.raises(FileRefused) as refused:
            await session.read_file(path)
        reasons[path] = refused.value.reason
    assert reasons == TRICKS
    assert session.usable


async def test_an_output_that_vanishes_while_it_is_read_is_refused(first: Live) -> None:
    _, session = first
    await session.run_code("open('f', 'wb').write(bytes(3_000_000))")
    with pytest.raises(FileRefused) as refused:
        async for _ in session.stream_file("f"):
            await session.run_code("import os\nos.path.exists('f') and os.unlink('f')")
    assert refused.value.reason == "ENOENT"


async def test_ten_thousand_outputs_are_listed_and_odd_names_come_as_they_are(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, mounts: Mounts
) -> None:
    sandbox, session = await start_live(sandboxes, base_image, limits, mounts("a"))
    await session.run_code("import os\nos.mkdir('out')\nfor i in range(10_000): open(f'out/{i:05}', 'w').close()")
    assert len(await session.list_files("out", most=20_000)) == 10_000
    odd = sorted(["Grüße", "空", "a\nb", "-rf", " ", "é" * 127, "..hidden", "con", "a:b", "\u202egnp.exe", "%2e%2e"])
    await session.run_code(f"os.mkdir('odd')\nfor name in {odd!r}: open('odd/' + name, 'w').write(name)")
    assert [entry.name for entry in await session.list_files("odd")] == odd
    for name in odd:
        assert await session.read_file(f"odd/{name}") == name.encode()
    await session.close()
    await sandboxes.destroy(sandbox.id)


async def test_an_output_of_two_gigabytes_streams_in_flat_memory_or_is_refused(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, mounts: Mounts
) -> None:
    """Sparse inside: it costs the sandbox nothing, the host must not care."""
    ample = replace(limits, disk_bytes=2100 * MIB)
    sandbox, session = await start_live(sandboxes, base_image, ample, mounts("a"))
    made = await session.run_code("with open('large', 'wb') as f: f.truncate(2 << 30)")
    assert made.error is None
    with pytest.raises(FileRefused) as refused:
        await session.read_file("large")
    assert refused.value.reason == "EFBIG"
    before, size = peak_mib(), 0
    async for piece in session.stream_file("large"):
        size += len(piece)
        if size >= 256 * MIB:
            break
    assert size >= 256 * MIB
    assert peak_mib() - before < 16
    assert (await session.run_code("1")).text == "1"
    await session.close()
    await sandboxes.destroy(sandbox.id)


async def test_a_time_zone_of_any_kind_harms_only_the_code_that_sets_it(first: Live) -> None:
    _, session = first
    here = time.tzname
    for zone in ("Pacific/Apia", "../../../etc/passwd", ":/proc/self/mem", "A" * 5000, "x\ny", ""):
        await session.run_code(f"import os, time\nos.environ['TZ'] = {zone!r}\ntime.tzset()\ntime.strftime('%Z %c')")
        assert (await session.run_code("1")).text == "1"
        assert (await session.stat("/etc/passwd")).changed_s > 0
        assert (await session.run_command(["/bin/date"], env={"TZ": zone})).code == 0
    assert (time.tzname, session.usable) == (here, True)


async def test_families_of_sockets_that_lead_to_the_kernel_are_refused(first: Live) -> None:
    """Whatever number: only local sockets, IP (loopback) and the route table of the sandbox itself are there."""
    _, session = first
    code = """
import socket
made = set()
for family in range(64):
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(family, kind).close()
            made.add(family)
        except OSError:
            pass
sorted(made)
"""
    assert (await session.run_code(code)).text == str(
        sorted([int(socket.AF_UNIX), int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_NETLINK)])
    )
