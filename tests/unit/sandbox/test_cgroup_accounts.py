"""Cgroup v1 and v2 as folders of files: what a sandbox used, and what is left of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.sandbox.cgroup import Cgroups, CgroupUsage
from workers.sandbox.errors import NotPermitted, SpecInvalid


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    group = "sandpool/node/sb-1"
    return write(
        tmp_path,
        {
            "memory/memory.memsw.limit_in_bytes": "0",
            f"memory/{group}/memory.max_usage_in_bytes": "300\n",
            f"memory/{group}/memory.usage_in_bytes": "200\n",
            f"memory/{group}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            f"cpu,cpuacct/{group}/cpuacct.usage": "1500000000\n",
            f"pids/{group}/cgroup.procs": "",
        },
    )


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    group = "sandpool/node/sb-1"
    return write(
        tmp_path,
        {
            "cgroup.controllers": "cpuset cpu io memory pids\n",
            f"{group}/memory.peak": "300\n",
            f"{group}/memory.current": "200\n",
            f"{group}/memory.events": "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\n",
            f"{group}/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
            f"{group}/cgroup.procs": "",
        },
    )


@pytest.mark.parametrize("version", ["version_1", "version_2"])
def test_usage_reads_the_same_in_both_versions(version: str, request: pytest.FixtureRequest) -> None:
    groups = Cgroups("node", request.getfixturevalue(version))
    groups.check()
    assert groups.usage("sb-1") == CgroupUsage(cpu_s=1.5, peak_memory_bytes=300, memory_bytes=200, oom_kills=2)
    assert groups.leftovers() == {"sb-1"}
    assert groups.place("sb-1").path == "/sandpool/node/sb-1"
    assert groups.place("sb-1").swap


def test_a_sandbox_without_a_group_has_used_nothing(version_2: Path) -> None:
    assert Cgroups("node", version_2).usage("sb-2") == CgroupUsage()
    assert Cgroups("node", version_2).pids("sb-2") == []
    assert Cgroups("node", version_2).clear("sb-2")


def test_a_kernel_that_cannot_limit_swap_is_found_out(version_1: Path) -> None:
    (version_1 / "memory/memory.memsw.limit_in_bytes").unlink()
    assert not Cgroups("node", version_1).place("sb-1").swap


@pytest.mark.parametrize("missing", ["memory", "pids"])
def test_a_machine_that_cannot_limit_sandboxes_is_refused(version_2: Path, missing: str) -> None:
    file = version_2 / "cgroup.controllers"
    file.write_text(file.read_text().replace(missing, ""))
    with pytest.raises(NotPermitted, match=missing):
        Cgroups("node", version_2).check()


def test_empty_groups_are_removed_and_others_left(tmp_path: Path) -> None:
    for path in ("memory/sandpool/node/sb-1", "pids/sandpool/node/sb-1", "pids/sandpool/other/sb-9"):
        (tmp_path / path).mkdir(parents=True)
    groups = Cgroups("node", tmp_path)
    assert groups.clear("sb-1")
    groups.close()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "memory",
        "pids",
        "pids/sandpool",
        "pids/sandpool/other",
        "pids/sandpool/other/sb-9",
    ]


def test_a_name_that_leaves_the_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecInvalid):
        Cgroups("../other", tmp_path)
