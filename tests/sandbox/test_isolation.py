"""What a sandbox must not see or reach: one hole, one test."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from tests.sandbox.inside import Inside
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Sandboxes

METADATA_ADDRESS = "169.254.169.254"


def host_addresses() -> list[str]:
    """Addresses by which a process on this machine reaches it."""
    found = {"127.0.0.1", *(str(item[4][0]) for item in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET))}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found.add(probe.getsockname()[0])
        except OSError:
            pass  # a machine without any route
    return sorted(found)


async def test_files_of_the_host_are_invisible(inside: Inside, tmp_path: Path) -> None:
    marker = tmp_path / "host-file"
    marker.write_text("only the host may see this")
    here = str(Path(__file__))
    assert (
        await inside.ask(f"answer([os.path.exists(p) for p in ({str(marker)!r}, {here!r}, '/root/.ssh')])")
        == [False] * 3
    )


async def test_the_environment_of_the_host_is_invisible(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDPOOL_TEST_SECRET", "host-secret")
    inside = Inside(sandboxes, await sandboxes.create(base_image, limits))
    everything = await inside.run("/bin/sh", "-c", "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null")
    assert b"host-secret" not in everything.stdout
    names = {line.split(b"=")[0] for line in (await inside.run("/usr/bin/env")).stdout.split(b"\n") if line}
    assert names == {b"PATH", b"HOME", b"USER", b"TMPDIR", b"LANG", b"PYTHONDONTWRITEBYTECODE"}


async def test_processes_of_the_host_are_invisible(inside: Inside) -> None:
    seen = await inside.ask("answer([int(p) for p in os.listdir('/proc') if p.isdigit()])")
    assert len(seen) <= 3
    assert os.getpid() not in seen or max(seen) < 50
    assert await inside.ask(f"answer(attempt(os.kill, {2**22 - 5}, 0))") == "ESRCH"


async def test_nobody_is_root_inside(inside: Inside) -> None:
    status = (await inside.run("/bin/cat", "/proc/self/status")).stdout.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {str(inside.sandbox.image.uid)} != {"0"}
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert (
        await inside.ask("answer([attempt(os.setuid, 0), attempt(os.setgid, 0), attempt(os.setgroups, [0])])")
        == ["EPERM"] * 3
    )


async def test_there_is_no_network_but_loopback(inside: Inside) -> None:
    assert await inside.ask("answer(sorted(name for _, name in socket.if_nameindex()))") == ["lo"]
    reach = f"""
def reach(address, port):
    with socket.socket() as s:
        s.settimeout(1)
        return attempt(s.connect, (address, port))
answer([reach(a, p) for a, p in (("192.0.2.1", 80), ("1.1.1.1", 443), ("{METADATA_ADDRESS}", 80), ("10.0.0.1", 22))])
"""
    assert set(await inside.ask(reach)) <= {"ENETUNREACH", "EHOSTUNREACH"}


async def test_loopback_inside_works(inside: Inside) -> None:
    code = """
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
    other, _ = server.accept()
    client.sendall(b"hello")
    answer(other.recv(5).decode())
"""
    assert await inside.ask(code) == "hello"


async def test_services_that_listen_on_the_host_are_unreachable(inside: Inside) -> None:
    """Stands for Ray, RabbitMQ, PostgreSQL: whatever listens here, on any address."""
    reached = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    code = f"""
def reach(address):
    with socket.socket() as s:
        s.settimeout(1)
        return attempt(s.connect, (address, {port}))
answer([reach(a) for a in {host_addresses()!r}])
"""
    answers = await inside.ask(code)
    server.close()
    assert set(answers) <= {"ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH"}
    assert not reached.is_set()


async def test_abstract_sockets_of_the_host_are_unreachable(inside: Inside) -> None:
    name = f"\0sandpool-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        assert await inside.ask(f"answer(attempt(socket.socket(socket.AF_UNIX).connect, {name!r}))") == "ECONNREFUSED"


async def test_raw_and_packet_sockets_are_refused(inside: Inside) -> None:
    code = """
families = [(socket.AF_INET, 1), (socket.AF_INET6, 58), (socket.AF_PACKET, 3)]
kinds = [(family, socket.SOCK_RAW, protocol) for family, protocol in families]
answer([attempt(socket.socket, *kind) for kind in kinds])
"""
    assert set(await inside.ask(code)) <= {"EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"}


async def test_names_cannot_be_resolved(inside: Inside) -> None:
    code = """
try:
    answer(socket.gethostbyname("example.com"))
except socket.gaierror as error:
    answer("no")
"""
    assert await inside.ask(code) == "no"


async def test_other_sandboxes_are_invisible(sandboxes: Sandboxes, base_image: Image, limits: Limits) -> None:
    first, second = [Inside(sandboxes, await sandboxes.create(base_image, limits)) for _ in range(2)]
    await first.run("/bin/sh", "-c", "for d in /tmp /dev/shm $HOME; do echo secret > $d/of-first; done")
    bind = "import socket,time; s=socket.socket(socket.AF_UNIX); s.bind('\\0first'); s.listen()"
    listen = f"{bind}; open('/tmp/up', 'w'); time.sleep(60)"
    until_it_listens = "while ! [ -e /tmp/up ]; do sleep 0.05; done"
    await first.run("/bin/sh", "-c", f'/usr/bin/python3 -c "{listen}" >/dev/null 2>&1 & {until_it_listens}')
    code = f"""
files = [d for d in ("/tmp", "/dev/shm", os.environ["HOME"]) if os.listdir(d)]
shared = attempt(socket.socket(socket.AF_UNIX).connect, "\\0first")
known = open("/proc/self/mountinfo").read() + open("/proc/self/cgroup").read() + os.uname().nodename
answer([files, shared, {first.sandbox.id!r} in known, {second.sandbox.id!r} in known])
"""
    assert await second.ask(code) == [[], "ECONNREFUSED", False, False]


async def test_system_v_memory_is_not_shared_between_sandboxes(
    sandboxes: Sandboxes, base_image: Image, limits: Limits
) -> None:
    first, second = [Inside(sandboxes, await sandboxes.create(base_image, limits)) for _ in range(2)]
    create, attach = "answer(syscall(29, 4242, 4096, 0o1666))", "answer(syscall(29, 4242, 4096, 0o666))"
    assert await first.ask(create) == "done"
    assert await second.ask(attach) == "ENOENT"


async def test_the_clock_and_the_name_of_the_machine_cannot_be_set(inside: Inside) -> None:
    code = """
import time
answer([attempt(time.clock_settime, 0, 0.0), attempt(socket.sethostname, "other"), os.uname().nodename])
"""
    assert await inside.ask(code) == ["EPERM", "EPERM", "sandpool"]
