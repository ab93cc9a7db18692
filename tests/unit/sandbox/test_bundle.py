"""What holds for every OCI spec, whatever is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox.bundle import MOUNT_POINTS, Bind, CgroupPlace, Command, build_process, build_spec, check_sandbox_id
from workers.sandbox.errors import SpecInvalid
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits

IMAGE = Image(
    name="base",
    digest="a" * 64,
    rootfs=Path("/srv/images/a/rootfs"),
    env={"FROM_IMAGE": "1", "PATH": "/opt/bin"},
    ceiling=Limits(
        memory_bytes=1 << 34,
        cpus=64,
        processes=4096,
        disk_bytes=1 << 33,
        tmp_bytes=1 << 33,
        shm_bytes=1 << 30,
        open_files=65_536,
        wall_s=86_400,
        output_bytes=1 << 30,
    ),
)

limits = st.builds(
    Limits,
    memory_bytes=st.integers(128 << 20, 1 << 34),
    cpus=st.floats(0.05, 64),
    processes=st.integers(1, 4096),
    disk_bytes=st.integers(64 << 10, 1 << 33),
    tmp_bytes=st.integers(64 << 10, 1 << 33),
    shm_bytes=st.integers(64 << 10, 1 << 30),
    open_files=st.integers(32, 65_536),
)
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
commands = st.builds(
    Command,
    argv=st.lists(text, min_size=1, max_size=5).filter(lambda argv: argv[0] != "").map(tuple),
    env=st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True), text, max_size=5),
    cwd=st.none() | text.map(lambda path: f"/{path}"),
)
binds = st.lists(
    st.builds(
        Bind,
        source=st.from_regex(r"/[a-z]{1,8}/[a-z]{1,8}(/[a-z.]{1,8})?", fullmatch=True)
        .map(Path)
        .filter(lambda p: ".." not in p.parts),
        target=st.sampled_from(MOUNT_POINTS),
        writable=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda bind: bind.target,
)
places = st.builds(CgroupPlace, path=st.just("/sandpool/node/sb-1"), swap=st.booleans())
specs = st.builds(lambda l, c, m, g: (build_spec(IMAGE, l, c, m, g), l, c, m), limits, commands, binds, places)  # noqa: E741

Case = tuple[dict[str, Any], Limits, Command, list[Bind]]


@given(specs)
def test_nobody_gets_a_capability_or_root(case: Case) -> None:
    process = case[0]["process"]
    assert all(granted == [] for granted in process["capabilities"].values())
    assert set(process["capabilities"]) == {"bounding", "effective", "inheritable", "permitted", "ambient"}
    assert process["user"]["uid"] > 0 < process["user"]["gid"]
    assert process["user"]["additionalGids"] == []
    assert process["noNewPrivileges"] is True
    assert process["terminal"] is False


@given(specs)
def test_nothing_of_the_host_is_writable_unless_asked_for(case: Case) -> None:
    spec, _, _, mounts = case
    assert spec["root"]["readonly"] is True
    asked = {(str(bind.source), bind.target) for bind in mounts if bind.writable}
    for mount in spec["mounts"]:
        if mount["type"] in ("tmpfs", "proc", "sysfs"):
            assert not mount["source"].startswith("/")
        else:
            assert mount["type"] == "bind"
            assert ("rw" in mount["options"]) == ((mount["source"], mount["destination"]) in asked)
            assert ("ro" in mount["options"]) != ("rw" in mount["options"])


@given(specs)
def test_only_what_was_named_is_mounted_from_the_host(case: Case) -> None:
    spec, _, _, mounts = case
    bound = [(mount["source"], mount["destination"]) for mount in spec["mounts"] if mount["type"] == "bind"]
    assert bound == [(str(bind.source), bind.target) for bind in mounts]


@given(specs)
def test_every_file_system_in_memory_has_a_size(case: Case) -> None:
    spec, asked, _, _ = case
    sizes = {
        mount["destination"]: int(option.removeprefix("size=").removesuffix("k")) * 1024
        for mount in spec["mounts"]
        if mount["type"] == "tmpfs"
        for option in mount["options"]
        if option.startswith("size=")
    }
    assert set(sizes) == {"/dev", "/dev/shm", "/tmp", "/home/sandpool"}
    assert sizes["/home/sandpool"] <= asked.disk_bytes
    assert sizes["/tmp"] <= asked.tmp_bytes
    assert sizes["/dev/shm"] <= asked.shm_bytes


@given(specs)
def test_every_mount_keeps_devices_and_setuid_away(case: Case) -> None:
    for mount in case[0]["mounts"]:
        assert "nosuid" in mount["options"]
        assert "nodev" in mount["options"] or mount["destination"] == "/dev"


@given(specs)
def test_the_cgroup_carries_every_limit(case: Case) -> None:
    spec, asked, _, _ = case
    resources = spec["linux"]["resources"]
    assert resources["memory"]["limit"] == asked.memory_bytes
    assert resources["memory"].get("swap", asked.memory_bytes) == asked.memory_bytes
    assert resources["cpu"]["quota"] / resources["cpu"]["period"] <= max(asked.cpus, 0.05)
    assert resources["pids"]["limit"] >= asked.processes
    assert spec["linux"]["cgroupsPath"].startswith("/sandpool/")


@given(specs)
def test_resource_limits_cannot_be_raised_inside(case: Case) -> None:
    spec, asked, _, _ = case
    limits = {entry["type"]: entry for entry in spec["process"]["rlimits"]}
    assert all(entry["hard"] == entry["soft"] for entry in limits.values())
    assert limits["RLIMIT_NPROC"]["hard"] == asked.processes
    assert limits["RLIMIT_NOFILE"]["hard"] == asked.open_files
    assert limits["RLIMIT_CORE"]["hard"] == 0


@given(specs)
def test_every_namespace_is_its_own(case: Case) -> None:
    namespaces = case[0]["linux"]["namespaces"]
    assert {entry["type"] for entry in namespaces} == {"pid", "ipc", "uts", "mount", "network"}
    assert all("path" not in entry for entry in namespaces)


@given(specs)
def test_the_command_arrives_unchanged(case: Case) -> None:
    spec, _, command, _ = case
    assert json.loads(json.dumps(spec)) == spec
    assert spec["process"]["args"] == list(command.argv)
    environment = dict(entry.split("=", 1) for entry in spec["process"]["env"])
    assert environment.items() >= command.env.items()
    assert len(environment) == len(spec["process"]["env"])


def test_the_environment_of_the_host_never_enters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_SECRET", "value")
    assert "HOST_SECRET" not in json.dumps(build_process(IMAGE, Limits(), Command(argv=("/bin/true",))))


def test_the_image_overrides_the_defaults_and_the_command_overrides_the_image() -> None:
    process = build_process(IMAGE, Limits(), Command(argv=("x",), env={"FROM_IMAGE": "2"}))
    assert {"PATH=/opt/bin", "FROM_IMAGE=2", "HOME=/home/sandpool"} <= set(process["env"])


@pytest.mark.parametrize("target", ["/", "/etc", "/in/..", "/in/", "in", "/proc", "/dev", "/run/sandpool/x", ""])
def test_a_mount_anywhere_else_is_refused(target: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        Bind(source=Path("/srv/data/x"), target=target)
    assert caught.value.field == "mounts.target"


@pytest.mark.parametrize("source", ["relative/path", "/", "/etc", "/srv/../etc/x", ""])
def test_a_source_that_is_too_wide_is_refused(source: str) -> None:
    with pytest.raises(SpecInvalid):
        Bind(source=Path(source), target="/in")


def test_two_mounts_at_one_place_are_refused() -> None:
    twice = [Bind(source=Path(f"/srv/data/{name}"), target="/in") for name in "ab"]
    with pytest.raises(SpecInvalid, match="two mounts"):
        build_spec(IMAGE, Limits(), Command(argv=("x",)), twice, CgroupPlace(path="/sandpool/a/b"))


def test_more_than_the_image_allows_is_refused_and_named() -> None:
    small = replace(IMAGE, ceiling=Limits())
    with pytest.raises(SpecInvalid) as caught:
        build_spec(small, Limits(open_files=2048), Command(argv=("x",)), (), CgroupPlace(path="/sandpool/a/b"))
    assert caught.value.field == "limits.open_files"


@pytest.mark.parametrize(
    "bad",
    [
        {"argv": ()},
        {"argv": ("",)},
        {"argv": ("a\0b",)},
        {"argv": ("a",) * 5000},
        {"argv": ("a" * 200_000,)},
        {"argv": ("a",), "env": {"A=B": "c"}},
        {"argv": ("a",), "env": {"A": "c\0"}},
        {"argv": ("a",), "env": {"": "c"}},
        {"argv": ("a",), "cwd": "relative"},
    ],
)
def test_a_command_that_cannot_be_started_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(SpecInvalid):
        Command(**bad)


@pytest.mark.parametrize("sandbox_id", ["", "-a", "A", "a/b", "..", "a" * 64, "a b", "a\n", "--force"])
def test_an_id_that_could_mean_something_else_is_refused(sandbox_id: str) -> None:
    with pytest.raises(SpecInvalid):
        check_sandbox_id(sandbox_id)


def test_an_image_whose_user_is_root_is_refused() -> None:
    with pytest.raises(SpecInvalid, match="root"):
        replace(IMAGE, uid=0)
