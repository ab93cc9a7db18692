"""The GPU inventory over NVIDIA's real binding, in its real process; only the library below the binding is a fake."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cluster.cli import findings
from cluster.cli.findings import Finding
from tests.support.nvml import GIB, build_fake_nvml, h100, script
from workers.gpu.device import NONE_HERE, GpuProcess, Inventory
from workers.gpu.watch import GpuWatch, usable

Say = Callable[[str], None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def say(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """What NVML says from now on."""
    path = tmp_path / "script"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("FAKE_NVML", str(path))

    def write(text: str) -> None:
        draft = tmp_path / "draft"
        draft.write_text(text)
        os.replace(draft, path)

    return write


@pytest.fixture
async def watch() -> AsyncIterator[GpuWatch]:
    made = GpuWatch(interval_s=0.1, deadline_s=20.0, pause_s=0.1)
    yield made
    await made.close()


async def until(watch: GpuWatch, holds: Callable[[Inventory], bool]) -> Inventory:
    async with asyncio.timeout(30):
        while not holds(watch.inventory):
            await asyncio.sleep(0.02)
    return watch.inventory


async def test_every_fact_of_two_gpus_arrives_and_changes_are_seen(say: Say, watch: GpuWatch) -> None:
    say(script(h100(0, processes=f"4711:{GIB},4712"), h100(1)))
    first, second = (await watch.start()).gpus
    assert (first.model, first.minor, first.memory_bytes, first.free_bytes) == (
        "NVIDIA H100 80GB HBM3",
        0,
        80 * GIB,
        79 * GIB,
    )
    assert (first.utilisation_percent, first.temperature_c, first.ecc_uncorrected, first.compute_mode) == (
        *(7, 41, 0),
        "default",
    )
    assert first.processes == (GpuProcess(4711, GIB), GpuProcess(4712)) and second.processes == ()
    assert watch.inventory.driver == "550.54.15" and watch.inventory.reason == ""
    say(script(h100(0, free=10 * GIB), h100(1)))
    await until(watch, lambda inventory: inventory.gpus[0].free_bytes == 10 * GIB)


async def test_a_divided_gpu_appears_as_its_instances(say: Say, watch: GpuWatch) -> None:
    instances = {"instances": 7}
    for number in (0, 1):
        instances |= {
            f"m{number}.uuid": f"MIG-aaaa-{number}",
            f"m{number}.name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
            f"m{number}.total": 10 * GIB,
            f"m{number}.free": 9 * GIB,
            f"m{number}.gi": 7 + number,
            f"m{number}.ci": 0,
        }
    say(script(h100(0, **instances)))
    parts = (await watch.start()).gpus
    assert [(part.uuid, part.mig, part.memory_bytes, part.instance) for part in parts] == [
        ("MIG-aaaa-0", "1g.10gb", 10 * GIB, (7, 0)),
        ("MIG-aaaa-1", "1g.10gb", 10 * GIB, (8, 0)),
    ]
    assert {(part.parent, part.minor, part.model) for part in parts} == {(h100(0)["uuid"], 0, h100(0)["name"])}


async def test_an_error_of_the_driver_makes_its_gpu_unusable_and_no_other(say: Say, watch: GpuWatch) -> None:
    say(script(h100(0), h100(1), xid="1:79"))
    await watch.start()
    inventory = await until(watch, lambda inventory: any(gpu.unhealthy for gpu in inventory.gpus))
    assert [gpu.minor for gpu in usable(inventory)] == [0]
    assert "79" in inventory.gpus[1].unhealthy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (script(), "the driver is there, but no GPU"),
        (script(count=4_000_000_000), "NVML says that there are 4000000000 GPUs"),
        (script(h100(0), fail_nvmlInitWithFlags=999), "NVML does not start"),
        (script(h100(0), fail_nvmlInitWithFlags=9), NONE_HERE),
        (script(h100(0), fail_nvmlDeviceGetCount_v2=999), "NVML: "),
        (script(h100(0, uuid="")), "1 of 1 GPUs give no answer that makes sense"),
        (script(h100(0, total=0)), "1 of 1 GPUs give no answer that makes sense"),
        (script(h100(0, total=2**64 - 1)), "1 of 1 GPUs give no answer that makes sense"),
        (script(h100(0), fail_nvmlDeviceGetHandleByIndex_v2=15), "1 of 1 GPUs give no answer that makes sense"),
        (script(h100(0), crash_nvmlDeviceGetMemoryInfo=1), "the process that asks NVML ended"),
    ],
)
async def test_a_driver_in_trouble_makes_a_cpu_node_that_says_why(
    say: Say, watch: GpuWatch, text: str, reason: str
) -> None:
    say(text)
    inventory = await watch.start()
    assert inventory.gpus == () and reason in inventory.reason


async def test_what_one_gpu_does_not_answer_is_unknown_and_the_rest_stays(say: Say, watch: GpuWatch) -> None:
    say(
        script(
            h100(0, processes="#4000000000"),
            fail_nvmlDeviceGetTemperature=3,
            fail_nvmlDeviceGetUtilizationRates=15,
            fail_nvmlEventSetCreate=3,
        )
    )
    (gpu,) = (await watch.start()).gpus
    assert (gpu.temperature_c, gpu.utilisation_percent, gpu.processes) == (None, None, ())
    assert usable(watch.inventory) == (gpu,)


async def test_a_call_that_never_returns_holds_up_nobody_and_is_tried_again(say: Say) -> None:
    say(script(h100(0), hang_nvmlDeviceGetTemperature=1))
    watch = GpuWatch(interval_s=0.1, deadline_s=1.0, pause_s=0.1)
    try:
        inventory = await watch.start()
        assert inventory.gpus == () and "no answer" in inventory.reason
        say(script(h100(0)))
        healed = GpuWatch(interval_s=0.1, deadline_s=20.0)
        assert len((await healed.start()).gpus) == 1
        await healed.close()
        watch._deadline_s = 20.0
        await until(watch, lambda inventory: len(inventory.gpus) == 1)
    finally:
        await watch.close()
    assert children() == set(), "no process is left, not even one that hung"


async def test_a_node_without_the_driver_says_so(monkeypatch: pytest.MonkeyPatch, watch: GpuWatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    assert await watch.start() == Inventory(reason=NONE_HERE)


async def test_the_process_ends_with_the_one_that_started_it(say: Say, tmp_path: Path) -> None:
    say(script(h100(0), hang_nvmlDeviceGetTemperature=1))
    code = (
        "import subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-m', 'workers.gpu.inventory', '1']); print(p.pid, flush=True); "
        "time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    async with asyncio.timeout(30):
        while b"libnvidia-ml" not in memory_map(pid):  # it is in the driver now, and stays there
            await asyncio.sleep(0.05)
        parent.kill()
        await parent.wait()
        while command_line(pid):
            await asyncio.sleep(0.05)
    assert command_line(pid) == b""


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def memory_map(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return b""


def children() -> set[int]:
    """Processes of ours that ask NVML."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(entry.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(entry.parent.name))
        except (OSError, ProcessLookupError):
            continue
    return {pid for pid in found if b"workers.gpu.inventory" in command_line(pid)}


def test_doctor_names_the_gpus_or_what_ails_them(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "GPU_DRIVER", tmp_path / "nvidiactl")
    assert findings.gpus() == Finding("gpus", "ok", f"none; {NONE_HERE}")
    (tmp_path / "nvidiactl").touch()
    say(script(h100(0), h100(1)))
    assert findings.gpus() == Finding("gpus", "ok", "2 x NVIDIA H100 80GB HBM3, driver 550.54.15")
    say(script(h100(0), h100(1, ecc=3)))
    ill = findings.gpus()
    assert ill.state == "warning" and "3 memory errors" in ill.detail and ill.remedy
    say(script(h100(0), hang_nvmlDeviceGetTemperature=1))
    monkeypatch.setattr(findings, "GPU_TIMEOUT_S", 1.0)
    assert findings.gpus().detail == "NVML does not answer: TimeoutExpired"
