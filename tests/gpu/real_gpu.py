"""What the GPU code does on a machine that has a GPU: `python3 tests/gpu/real_gpu.py`, two minutes at most.

Not collected by pytest: no machine of the suite has a GPU. Needs Python 3.11 or newer, nvidia-ml-py, msgspec and
structlog on PYTHONPATH, root, and for the last two steps runsc. Each step prints a line and fails by itself; the exit
code is 0 when the inventory steps passed. The last line is everything as JSON, for docs/specification.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.gpu.desk import GpuDesk
from workers.gpu.device import Gpu
from workers.gpu.driver import open_passage
from workers.gpu.errors import GpuBusy
from workers.gpu.inventory import ONCE
from workers.gpu.passage import LIBRARIES_AT, RUNSC_FLAGS, GpuPassage
from workers.gpu.shares import Share
from workers.gpu.watch import GpuWatch, usable
from workers.sandbox.bundle import Bind, CgroupPlace, Command, build_spec
from workers.sandbox.image import Image
from workers.sandbox.limits import GIB, Limits

LIMITS = Limits(memory_bytes=32 * GIB, cpus=4, processes=512, tmp_bytes=GIB, wall_s=60)
PROGRAM = r"""
import ctypes, json, os
cuda = ctypes.CDLL("libcuda.so.1")
def check(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        raise SystemExit(f"{name} -> {code}")
check("cuInit", 0)
count = ctypes.c_int(); check("cuDeviceGetCount", ctypes.byref(count))
device = ctypes.c_int(); check("cuDeviceGet", ctypes.byref(device), 0)
name = ctypes.create_string_buffer(100); check("cuDeviceGetName", name, 100, device)
uuid = (ctypes.c_ubyte * 16)(); check("cuDeviceGetUuid_v2", ctypes.byref(uuid), device)
context = ctypes.c_void_p(); check("cuCtxCreate_v2", ctypes.byref(context), 0, device)
size = 256 << 20
memory = ctypes.c_uint64(); check("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(size))
sent = os.urandom(1 << 20); got = ctypes.create_string_buffer(len(sent))
check("cuMemcpyHtoD_v2", memory, sent, ctypes.c_size_t(len(sent)))
check("cuMemcpyDtoH_v2", got, memory, ctypes.c_size_t(len(sent)))
print(json.dumps({"devices": count.value, "name": name.value.decode(), "uuid": bytes(uuid).hex(),
                  "copied": got.raw == sent, "dev": sorted(os.listdir("/dev"))}))
"""


def inventory_once() -> Any:
    """The inventory process, once, and how long it took."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "workers.gpu.inventory", ONCE], capture_output=True, timeout=30)
    answer = json.loads(done.stdout)
    assert answer.get("gpus"), answer
    return {"seconds": round(time.monotonic() - started, 3), "raw": answer}


async def watched() -> tuple[Gpu, ...]:
    watch = GpuWatch(interval_s=0.5)
    try:
        inventory = await watch.start()
        assert usable(inventory), inventory
        await asyncio.sleep(1.2)
        assert usable(watch.inventory), watch.inventory
        return usable(watch.inventory)
    finally:
        await watch.close()


async def desk_passage(folder: Path) -> GpuPassage:
    """Through the desk, as a host does it: a second taker of the whole GPU is refused."""
    desk = GpuDesk(folder)
    await desk.open()
    try:
        uuid = next(status.gpu.uuid for status in desk.status() if not status.gpu.unhealthy)
        hold = await desk.take([Share(uuid)], "acme")
        with contextlib.suppress(GpuBusy):
            await desk.take([Share(uuid)], "acme")
            raise AssertionError("a whole GPU was handed out twice")
        return hold.passage
    finally:
        await desk.close()


def make_root(folder: Path) -> Path:
    """A root file system of this machine's Python and the C library, copied: no network is needed."""
    root = folder / "root"
    for name in ("proc", "sys", "dev", "tmp", "home/sandpool", "opt/nvidia", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    python = Path(os.path.realpath(sys.executable))
    library = Path(os.__file__).parent
    extensions = [str(path) for path in (library / "lib-dynload").glob("*.so")]
    linked = subprocess.run(["ldd", str(python), *extensions], capture_output=True, text=True).stdout
    files = {
        Path(word) for line in linked.splitlines() for word in line.split() if word.startswith("/") and ":" not in word
    }
    for path in {python, *files}:
        target = root / str(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for name in ("libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1"):
        for place in ("/lib/x86_64-linux-gnu", "/lib64", "/usr/lib/x86_64-linux-gnu"):
            if (Path(place) / name).exists():
                target = root / place.lstrip("/") / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(place) / name, target)
    unwanted = shutil.ignore_patterns("test", "idlelib", "site-packages", "dist-packages", "__pycache__")
    shutil.copytree(library, root / str(library).lstrip("/"), dirs_exist_ok=True, ignore=unwanted)
    return root


def bare(passage: GpuPassage) -> Any:
    """The same program without a sandbox: what the machine itself can do."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        env={"LD_LIBRARY_PATH": str(passage.libraries), "CUDA_VISIBLE_DEVICES": passage.uuids[0]},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-500:]
    return json.loads(done.stdout)


def sandboxed(runsc: str, folder: Path, passage: GpuPassage, *more: str) -> Any:
    """The specification that a host would use, run by runsc."""
    image = Image(name="gpu", digest="a" * 64, rootfs=make_root(folder), env={}, ceiling=LIMITS)
    command = Command(argv=(os.path.realpath(sys.executable), "-I", "-c", PROGRAM))
    mounts = [Bind(source=passage.libraries, target=LIBRARIES_AT)]
    spec = build_spec(image, LIMITS, command, mounts, CgroupPlace(path=""), passage)
    bundle = folder / f"bundle{len(more)}{abs(hash(more)) % 10000}"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(spec))
    state = folder / "state"
    state.mkdir(exist_ok=True)
    flags = ["--network=none", "--ignore-cgroups", "--overlay2=none", *RUNSC_FLAGS]
    flags += ["--debug", f"--debug-log={bundle}/log/"]
    done = subprocess.run(
        [runsc, f"--root={state}", *flags, *more, "run", f"--bundle={bundle}", f"sb-{bundle.name}"],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        logs = sorted((bundle / "log").glob("*"))
        words = ("unsupported", "nvproxy", "panic", "FATAL", "rror")
        told = [
            line
            for log in logs
            for line in log.read_text(errors="replace").splitlines()
            if any(w in line for w in words)
        ]
        raise AssertionError((done.stdout + done.stderr)[-600:] + "\n" + "\n".join(told[-12:]))
    return json.loads(done.stdout)


def main() -> int:
    told: dict[str, Any] = {"python": sys.version.split()[0]}
    failed = []

    def step(name: str, do: Callable[[], Any]) -> Any:
        started = time.monotonic()
        try:
            result = do()
        except Exception as error:
            failed.append(name)
            told[name] = f"FAILED {type(error).__name__}: {error}"
            print(
                f"{name}: FAILED after {time.monotonic() - started:.1f} s\n{traceback.format_exc()[-1500:]}", flush=True
            )
            return None
        print(f"{name}: ok, {time.monotonic() - started:.2f} s: {str(result)[:700]}", flush=True)
        told[name] = result if isinstance(result, dict | list | str | int) else str(result)
        return result

    folder = Path(tempfile.mkdtemp(prefix="sp-"))
    step("inventory once", inventory_once)
    gpus = step("watch", lambda: asyncio.run(watched()))
    passage = step("desk and passage", lambda: asyncio.run(desk_passage(folder / "gpus")))
    essential = list(failed)
    if gpus and passage is None:
        passage = step("passage alone", lambda: open_passage(gpus[:1], folder=folder / "gpus"))
    if passage is not None:
        step("bare", lambda: bare(passage))
        runsc = os.environ.get("RUNSC") or shutil.which("runsc")
        if runsc:
            for more in (
                (),
                ("--nvproxy-driver-version=latest",),
                ("--platform=ptrace", "--nvproxy-driver-version=latest"),
            ):
                name = " ".join(("sandbox", *more))
                if step(name, lambda more=more: sandboxed(runsc, folder, passage, *more)) is not None:
                    break
    print(json.dumps(told, default=str), flush=True)
    return 1 if essential else 0


if __name__ == "__main__":
    sys.exit(main())
