"""What a sandbox must not change: its image, the host's files, its own rights."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.sandbox.inside import Inside
from workers.images import tree
from workers.sandbox.bundle import Bind
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Sandboxes

WRITABLE = ["/dev/shm", "/home/sandpool", "/tmp"]
HARMLESS_DEVICES = {"full", "fuse", "null", "ptmx", "random", "tty", "urandom", "zero"}
"""All of them gVisor's own; `fuse` serves only who may mount."""


async def test_only_the_memory_file_systems_can_be_written(inside: Inside) -> None:
    code = """
found = []
for folder, below, _ in os.walk("/"):
    if folder.startswith("/proc/") and folder.count("/") > 1:
        below.clear()
    elif attempt(os.close, os.open(folder, os.O_RDONLY)) == "done" and attempt(os.mkdir, folder + "/x") == "done":
        os.rmdir(folder + "/x")
        found.append(folder)
answer(sorted(found))
"""
    assert await inside.ask(code) == WRITABLE


async def test_the_root_file_system_holds_against_every_kind_of_write(inside: Inside) -> None:
    code = """
answer([
    attempt(open, "/etc/passwd", "a"),
    attempt(open, "/usr/bin/new", "w"),
    attempt(os.unlink, "/etc/passwd"),
    attempt(os.rename, "/etc/passwd", "/etc/other"),
    attempt(os.chmod, "/etc/passwd", 0o777),
    attempt(os.link, "/etc/passwd", "/tmp/passwd"),
    attempt(os.symlink, "/tmp", "/usr/lib/link"),
    attempt(os.truncate, "/etc/passwd", 0),
    attempt(os.utime, "/etc/passwd"),
])
"""
    assert set(await inside.ask(code)) <= {"EROFS", "EACCES", "EPERM", "EXDEV"}


async def test_the_image_on_the_host_is_the_same_after_hostile_work(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, tmp_path: Path
) -> None:
    before = await asyncio.to_thread(tree.content_digest, base_image.rootfs)
    inside = Inside(
        sandboxes,
        await sandboxes.create(base_image, limits, mounts=[Bind(source=tmp_path, target="/out", writable=True)]),
    )
    await inside.run(
        "/bin/sh", "-c", "rm -rf --no-preserve-root / ; chmod -R 777 / ; mkdir /in/x /opt/x /run/sandpool/y"
    )
    await inside.destroy()
    assert await asyncio.to_thread(tree.content_digest, base_image.rootfs) == before


async def test_there_is_no_setuid_program(inside: Inside) -> None:
    found = await inside.run("/usr/bin/find", "/", "-xdev", "-perm", "/6000")
    assert b"Permission denied" in found.stderr  # it looked everywhere it may
    assert found.stdout == b""


async def test_a_setuid_program_made_inside_gives_no_rights(inside: Inside) -> None:
    script = "cp /usr/bin/id $HOME/id && chmod 6755 $HOME/id && $HOME/id -u"
    assert (await inside.run("/bin/sh", "-c", script)).stdout == b"%d\n" % inside.sandbox.image.uid


async def test_device_nodes_made_inside_lead_to_no_device(inside: Inside) -> None:
    """A disk, the memory of the kernel, /dev/kvm, the console, an input device: gVisor has none of them."""
    code = """
block, character = stat.S_IFBLK, stat.S_IFCHR
devices = {
    "disk": (block, 8, 0), "vda": (block, 254, 0), "mem": (character, 1, 1), "kmsg": (character, 1, 11),
    "port": (character, 1, 4), "kvm": (character, 10, 232), "console": (character, 5, 1), "input": (character, 13, 0),
}
for name, (kind, major, minor) in devices.items():
    attempt(os.mknod, "/tmp/" + name, kind | 0o666, os.makedev(major, minor))
answer({name: attempt(lambda: os.close(os.open("/tmp/" + name, os.O_RDWR))) for name in devices})
"""
    assert set((await inside.ask(code)).values()) <= {"ENXIO", "ENODEV", "EACCES", "EPERM", "ENOENT"}


async def test_only_harmless_devices_can_be_opened(inside: Inside) -> None:
    code = """
blocks = [n for n in os.listdir("/dev") if stat.S_ISBLK(os.lstat("/dev/" + n).st_mode)]
opened = []
for name in os.listdir("/dev"):
    mode = os.lstat("/dev/" + name).st_mode
    if stat.S_ISCHR(mode) and attempt(lambda: os.close(os.open("/dev/" + name, os.O_RDWR | os.O_NONBLOCK))) == "done":
        opened.append(name)
answer([blocks, opened])
"""
    blocks, opened = await inside.ask(code)
    assert blocks == []
    assert set(opened) <= HARMLESS_DEVICES


async def test_a_read_only_mount_holds(sandboxes: Sandboxes, base_image: Image, limits: Limits, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "input").write_text("original")
    (tmp_path / "input").chmod(0o666)
    inside = Inside(sandboxes, await sandboxes.create(base_image, limits, mounts=[Bind(source=tmp_path, target="/in")]))
    code = """
file = "/in/input"
answer([
    open(file).read(), attempt(open, file, "w"), attempt(os.unlink, file), attempt(os.truncate, file, 0),
    attempt(open, "/in/new", "w"), attempt(os.chmod, file, 0o600), attempt(os.rename, file, "/in/other"),
    attempt(os.open, file, os.O_RDONLY | os.O_TRUNC), attempt(os.link, file, "/in/second"),
])
"""
    text, *refused = await inside.ask(code)
    assert text == "original"
    assert set(refused) <= {"EROFS", "EACCES", "EPERM"}
    assert (tmp_path / "input").read_text() == "original"


async def test_links_inside_a_writable_mount_lead_nowhere_on_the_host(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, tmp_path: Path
) -> None:
    outputs, neighbour = tmp_path / "out", tmp_path / "neighbour"
    for folder in (outputs, neighbour):
        folder.mkdir()
        folder.chmod(0o777)
    (neighbour / "secret").write_text("of the host")
    mount = Bind(source=outputs, target="/out", writable=True)
    inside = Inside(sandboxes, await sandboxes.create(base_image, limits, mounts=[mount]))
    code = f"""
os.symlink("../neighbour/secret", "/out/up")
os.symlink({str(neighbour / "secret")!r}, "/out/absolute")
os.symlink("/", "/out/root")
def read(path):
    with open(path) as file: return file.read()
answer([attempt(read, "/out/up"), attempt(read, "/out/absolute"), attempt(read, "/out/../neighbour/secret"),
        attempt(open, "/out/root/etc/new", "w"), open("/out/plain", "w").write("result")])
"""
    assert (await inside.ask(code))[:3] == ["ENOENT"] * 3
    assert (outputs / "plain").read_text() == "result"
    assert (outputs / "plain").stat().st_uid == base_image.uid
    assert {entry.name for entry in outputs.iterdir() if entry.is_symlink()} == {"up", "absolute", "root"}
    assert [entry.name for entry in neighbour.iterdir()] == ["secret"]


async def test_a_folder_swapped_for_a_link_while_in_use_stays_inside(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, tmp_path: Path
) -> None:
    """The classic race against a file server: a folder becomes a symbolic link between check and use."""
    outputs, target = tmp_path / "out", tmp_path / "target"
    for folder in (outputs, target):
        folder.mkdir()
        folder.chmod(0o777)
    mount = Bind(source=outputs, target="/out", writable=True)
    inside = Inside(sandboxes, await sandboxes.create(base_image, limits, mounts=[mount]))
    code = f"""
import threading, time
os.mkdir("/out/real"); os.symlink({str(target)!r}, "/out/link")
end = time.monotonic() + 1.5
def swap():
    while time.monotonic() < end:
        for name in ("/out/real", "/out/link"):
            attempt(os.rename, name, "/out/here")
            attempt(os.rename, "/out/here", name)
threading.Thread(target=swap).start()
while time.monotonic() < end:
    attempt(lambda: os.close(os.open("/out/here/escaped", os.O_CREAT | os.O_WRONLY)))
answer("tried")
"""
    assert await inside.ask(code) == "tried"
    assert list(target.iterdir()) == []


async def test_mounts_and_roots_cannot_be_changed(inside: Inside) -> None:
    code = """
n, tmp = b"none", b"/tmp"
answer([
    attempt(os.chroot, "/tmp"), syscall(165, n, b"/etc", b"tmpfs", 0, 0), syscall(166, b"/proc", 0),
    syscall(155, tmp, tmp), syscall(165, n, b"/", n, 32 | 4096, 0),
])
"""
    assert set(await inside.ask(code)) == {"EPERM"}


async def test_a_user_namespace_gives_no_way_to_write_the_image(inside: Inside) -> None:
    code = """
syscall(272, 0x10000000 | 0x20000)
for file, text in (("setgroups", "deny"), ("uid_map", f"0 {os.getuid()} 1"), ("gid_map", f"0 {os.getgid()} 1")):
    attempt(lambda: open(f"/proc/self/{file}", "w").write(text))
syscall(165, b"none", b"/", b"none", 32, 0)
answer([attempt(open, "/etc/passwd", "a"), attempt(open, "/usr/bin/new", "w"), attempt(os.chmod, "/etc/passwd", 0o777)])
"""
    assert set(await inside.ask(code)) <= {"EROFS", "EACCES", "EPERM"}


async def test_names_of_any_kind_come_out_as_they_are(
    sandboxes: Sandboxes, base_image: Image, limits: Limits, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    mount = Bind(source=tmp_path, target="/out", writable=True)
    inside = Inside(sandboxes, await sandboxes.create(base_image, limits, mounts=[mount]))
    names = ["Grüße", "空", "a\nb", "-rf", " ", "é" * 100]
    code = f"for n in {names!r}: open('/out/' + n, 'w').close()\nopen(b'/out/\\xff\\xfe', 'w').close(); answer(1)"
    assert await inside.ask(code) == 1
    assert set(os.listdir(os.fsencode(tmp_path))) == {*(os.fsencode(name) for name in names), b"\xff\xfe"}
