"""What a sandbox with GPUs is given: exactly its own device files, the shared ones they need, and no other device.

No GPU is needed: the device files of another kind stand in for the driver's where only their numbers matter.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workers.gpu.device import Gpu
from workers.gpu.driver import open_passage
from workers.gpu.errors import GpuUnavailable
from workers.gpu.passage import LIBRARIES_AT, RUNSC_FLAGS, DeviceFile, GpuPassage
from workers.sandbox.bundle import MOUNT_POINTS, Bind, CgroupPlace, Command, build_process, build_spec
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits
from workers.sandbox.sandboxes import Sandbox, _launch

IMAGE = Image(name="base", digest="a" * 64, rootfs=Path("/srv/images/a/rootfs"), env={}, ceiling=Limits())
UUID = "GPU-5f3a09c2-1111"
PASSAGE = GpuPassage(
    uuids=(UUID,),
    files=(
        DeviceFile("/dev/nvidiactl", 195, 255),
        DeviceFile("/dev/nvidia-uvm", 510, 0),
        DeviceFile("/dev/nvidia1", 195, 1),
    ),
    libraries=Path("/var/lib/sandpool/gpus/nvidia"),
)
COMMAND = Command(argv=("true",), env={"NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "0,1"})


def spec_of(gpus: GpuPassage | None) -> dict[str, Any]:
    mounts = [Bind(source=gpus.libraries, target=LIBRARIES_AT)] if gpus else []
    return build_spec(IMAGE, Limits(), COMMAND, mounts, CgroupPlace(path="/sandpool/n/sb-1"), gpus)


def environment(spec: dict[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in spec["process"]["env"])


def test_a_sandbox_with_one_gpu_of_two_has_the_device_files_of_that_one_alone() -> None:
    linux = spec_of(PASSAGE)["linux"]
    assert [(entry["path"], entry["type"], entry["major"], entry["minor"]) for entry in linux["devices"]] == [
        ("/dev/nvidiactl", "c", 195, 255),
        ("/dev/nvidia-uvm", "c", 510, 0),
        ("/dev/nvidia1", "c", 195, 1),
    ]
    assert {(entry["uid"], entry["fileMode"]) for entry in linux["devices"]} == {(IMAGE.uid, 0o600)}
    first, *allowed = linux["resources"]["devices"]
    assert first == {"allow": False, "access": "rwm"}
    assert [(rule["major"], rule["minor"], rule["access"]) for rule in allowed] == [
        (195, 255, "rw"),
        (510, 0, "rw"),
        (195, 1, "rw"),
    ]


def test_the_job_cannot_name_other_gpus_in_its_environment() -> None:
    told = environment(spec_of(PASSAGE))
    assert told["NVIDIA_VISIBLE_DEVICES"] == told["CUDA_VISIBLE_DEVICES"] == UUID
    assert told["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility" and told["LD_LIBRARY_PATH"] == LIBRARIES_AT
    later = build_process(IMAGE, Limits(), COMMAND, PASSAGE)
    assert f"NVIDIA_VISIBLE_DEVICES={UUID}" in later["env"]


def test_a_sandbox_without_gpus_has_no_device_and_nothing_of_the_driver() -> None:
    spec = spec_of(None)
    assert "devices" not in spec["linux"]
    assert spec["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert all(mount["destination"] != LIBRARIES_AT for mount in spec["mounts"])
    assert LIBRARIES_AT in MOUNT_POINTS


def test_only_a_sandbox_with_gpus_is_started_with_the_proxy_to_the_driver() -> None:
    plain = Sandbox(id="sb-1", image=IMAGE, limits=Limits(), mounts=(), folder=Path("/x/y"))
    assert _launch(plain, (None, None, None)).flags == ()
    assert _launch(replace(plain, gpus=PASSAGE), (None, None, None)).flags == RUNSC_FLAGS == ("--nvproxy",)


@pytest.mark.parametrize("path", ["/dev/sda", "/dev/nvidia", "/dev/nvidia0/../sda", "/dev/nvidia-modeset", "/dev/mem"])
def test_no_other_device_can_be_passed_in(path: str) -> None:
    with pytest.raises(ValueError):
        DeviceFile(path, 1, 1)


@pytest.mark.parametrize("uuids", [(), ("all",), ("0",), ("GPU-1111\n",)])
def test_gpus_are_named_by_uuid_only(uuids: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        GpuPassage(uuids=uuids, files=(), libraries=Path("/x/y"))


# ---- reading the driver's files ----


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with two GPUs, one of them divided. Every regular file below dev/ is taken for a device, numbered by its
    content, since only a driver can make real ones."""
    for path, text in {
        "dev/nvidiactl": "195:255",
        "dev/nvidia-uvm": "510:0",
        "dev/nvidia0": "195:0",
        "dev/nvidia1": "195:1",
        "dev/nvidia-caps/nvidia-cap66": "238:66",
        "dev/nvidia-caps/nvidia-cap67": "238:67",
        "proc/driver/nvidia/capabilities/gpu1/mig/gi7/access": "DeviceFileMinor: 66\nDeviceFileMode: 292\n",
        "proc/driver/nvidia/capabilities/gpu1/mig/gi7/ci0/access": "DeviceFileMinor: 67\n",
        "usr/lib/x86_64-linux-gnu/libcuda.so.1": "cuda",
        "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1": "nvml",
        "usr/lib/x86_64-linux-gnu/libnvidia-glcore.so.550": "graphics",
        "usr/lib/x86_64-linux-gnu/libc.so.6": "not the driver's",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    real = os.stat

    def stat_device(path: Any, *args: Any, **options: Any) -> Any:
        found = real(path, *args, **options)
        if str(path).startswith(str(tmp_path / "dev/nvidia")):
            major, minor = (int(part) for part in Path(path).read_text().split(":"))
            return os.stat_result((stat.S_IFCHR | 0o666, *found[1:10]), {"st_rdev": os.makedev(major, minor)})
        return found

    monkeypatch.setattr("workers.gpu.driver.os.stat", stat_device)
    return tmp_path


def gpu(minor: int, **more: Any) -> Gpu:
    return Gpu(uuid=f"GPU-0000-{minor}", model="H100", minor=minor, memory_bytes=1, free_bytes=1, **more)


def test_the_passage_of_a_gpu_names_its_files_and_brings_compute_libraries_only(root: Path, tmp_path: Path) -> None:
    passage = open_passage([gpu(0)], folder=tmp_path / "host", root=root)
    assert passage.files == (
        DeviceFile("/dev/nvidiactl", 195, 255),
        DeviceFile("/dev/nvidia-uvm", 510, 0),
        DeviceFile("/dev/nvidia0", 195, 0),
    )
    assert sorted(path.name for path in passage.libraries.iterdir()) == ["libcuda.so.1", "libnvidia-ml.so.1"]


def test_a_mig_instance_brings_the_two_files_of_its_own_part(root: Path, tmp_path: Path) -> None:
    part = gpu(1, mig="1g.10gb", instance=(7, 0))
    passage = open_passage([part], folder=tmp_path / "host", root=root)
    assert [file.path for file in passage.files] == [
        *("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia1"),
        "/dev/nvidia-caps/nvidia-cap66",
        "/dev/nvidia-caps/nvidia-cap67",
    ]
    with pytest.raises(GpuUnavailable, match="gone"):
        open_passage([gpu(1, instance=(9, 0))], folder=tmp_path / "host", root=root)


@pytest.mark.parametrize("missing", ["dev/nvidia-uvm", "dev/nvidia0", "usr/lib/x86_64-linux-gnu/libcuda.so.1"])
def test_a_driver_that_is_only_half_there_is_told_and_can_be_tried_elsewhere(
    root: Path, tmp_path: Path, missing: str
) -> None:
    (root / missing).unlink()
    with pytest.raises(GpuUnavailable) as caught:
        open_passage([gpu(0)], folder=tmp_path / "host", root=root)
    assert caught.value.retry and missing.rpartition("/")[2] in caught.value.message
