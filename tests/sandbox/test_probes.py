"""System calls, /proc and /sys: what leads from a sandbox to the host's kernel, and does not."""

from __future__ import annotations

import os
import platform

from tests.sandbox.inside import Inside

REFUSED = {"EPERM", "EACCES", "ENOSYS", "EROFS", "ENOENT", "ENODEV", "EINVAL", "ENOTSUP", "EOPNOTSUPP"}


async def test_system_calls_into_the_kernel_are_refused(inside: Inside) -> None:
    code = """
calls = {
    "init_module": (175, 0, 0, 0), "finit_module": (313, 0, 0, 0), "delete_module": (176, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0), "reboot": (169, 0xFEE1DEAD, 672274793, 0x1234567, 0),
    "swapon": (167, b"/tmp/x", 0), "bpf": (321, 0, 0, 0), "perf_event_open": (298, 0, 0, -1, -1, 0),
    "iopl": (172, 3), "ioperm": (173, 0, 1, 1), "acct": (163, b"/tmp/x"), "quotactl": (179, 0, 0, 0, 0),
    "userfaultfd": (323, 0), "io_uring_setup": (425, 1, 0), "open_by_handle_at": (304, -100, 0, 0),
    "keyctl_persistent": (250, 22, 0, 0), "settimeofday": (164, 0, 0), "vhangup": (153,),
}
answer({name: syscall(*call) for name, call in calls.items()})
"""
    outcome = await inside.ask(code)
    # None of them reaches the host; settimeofday with no time does nothing anywhere.
    assert {
        name: result for name, result in outcome.items() if result not in REFUSED | {"EFAULT", "EBADF", "ESRCH"}
    } in (
        {},
        {"settimeofday": "done"},
    )


async def test_the_kernel_inside_is_not_the_kernel_of_the_host(inside: Inside) -> None:
    release, version = await inside.ask("answer([os.uname().release, open('/proc/version').read()])")
    assert release != platform.release()
    assert platform.version() not in version


async def test_ptrace_reaches_no_process_of_the_host(inside: Inside) -> None:
    attach, seize = 16, 0x4206
    pids = (os.getpid(), os.getppid())
    code = f"answer([syscall(101, call, pid, 0, 0) for call in ({attach}, {seize}) for pid in {pids}])"
    assert set(await inside.ask(code)) <= {"ESRCH", "EPERM", "EIO"}


async def test_memory_of_other_processes_cannot_be_read(inside: Inside) -> None:
    code = f"""
class Place(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("length", ctypes.c_size_t)]
buffer = ctypes.create_string_buffer(16)
place = Place(ctypes.addressof(buffer), 16)
answer(syscall(310, {os.getpid()}, ctypes.byref(place), 1, ctypes.byref(place), 1, 0))
"""
    assert await inside.ask(code) in ("ESRCH", "EPERM", "ENOSYS")


async def test_kernel_settings_cannot_be_written(inside: Inside) -> None:
    code = """
found = []
for top in ("/proc/sys", "/sys"):
    for folder, _, names in os.walk(top):
        for name in names:
            if attempt(lambda: os.close(os.open(os.path.join(folder, name), os.O_WRONLY))) == "done":
                found.append(os.path.join(folder, name))
answer(found)
"""
    # What is left opens, but belongs to the sandbox's own kernel and changes nothing outside.
    assert [name for name in await inside.ask(code) if not name.startswith("/proc/sys/net/")] == []


async def test_dangerous_files_of_proc_are_not_there(inside: Inside) -> None:
    code = """
def read(path):
    with open(path, "rb") as file: return file.read(16)
paths = [
    "/proc/kcore", "/proc/kallsyms", "/proc/kmsg", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/iomem",
    "/proc/kpagecount", "/proc/modules", "/proc/config.gz", "/proc/mtrr",
    "/sys/kernel/debug", "/sys/firmware/efi", "/sys/fs/bpf",
]
answer({path: attempt(read, path) for path in paths})
"""
    assert {path for path, result in (await inside.ask(code)).items() if result == "done"} == set()


async def test_sysrq_cannot_be_triggered(inside: Inside) -> None:
    assert await inside.ask("answer(attempt(lambda: os.open('/proc/sysrq-trigger', os.O_WRONLY)))") in REFUSED


async def test_the_log_of_the_kernel_is_not_the_hosts(inside: Inside) -> None:
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: ASYNC230
        boot_id = file.read().strip()
    log = await inside.run("/bin/dmesg")
    assert b"Linux version" not in log.stdout
    assert boot_id.encode() not in (await inside.run("/bin/cat", "/proc/sys/kernel/random/boot_id")).stdout


async def test_paths_of_the_image_on_the_host_are_not_shown(inside: Inside) -> None:
    shown = await inside.run(
        "/bin/cat", "/proc/self/mountinfo", "/proc/self/maps", "/proc/self/cgroup", "/proc/cmdline"
    )
    assert str(inside.sandbox.image.rootfs).encode() not in shown.stdout
    assert b"sandpool/" not in shown.stdout.replace(b"/home/sandpool", b"")
    links = await inside.ask("answer([os.readlink(f'/proc/self/{n}') for n in ('exe', 'cwd', 'root')])")
    assert links == [await inside.ask("answer(os.path.realpath(sys.executable))"), "/home/sandpool", "/"]
