"""What `sandpool doctor` looks at: one small function per question, each answers with a Finding and never raises.

`missing` means that Sandpool cannot work without it, `warning` that something will be slower, smaller or not possible.
Nothing here changes the machine, imports a driver or asks a server for more than whether it speaks the right protocol;
every question has a time limit.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from cluster.local.errors import LocalServiceError, ServiceMissing
from cluster.local.flights import find_flights
from cluster.local.ports import free_port
from cluster.local.postgres import find_postgres
from cluster.local.rabbitmq import AMQP_GREETING, find_rabbitmq
from workers.gpu.device import NONE_HERE
from workers.gpu.sense import sense

if TYPE_CHECKING:
    from cluster.settings import Settings

ANSWER_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 5.0
GPU_DRIVER = Path("/dev/nvidiactl")
GPU_TIMEOUT_S = 15.0
GPU_REMEDY = "this node gets no GPU jobs; see what `nvidia-smi` and the kernel's log say"
GIB = 2**30
DISK_NEEDED_BYTES, DISK_WANTED_BYTES = 1 * GIB, 5 * GIB
MEMORY_NEEDED_BYTES, MEMORY_WANTED_BYTES = 1 * GIB, 4 * GIB
FILES_WANTED = 4096
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only its size is asked for
RUNSC_OLDEST = 2023
"""Older releases of gVisor lack the systrap platform."""
POSTGRES_HELLO = bytes.fromhex("00000008 04d2162f")
"""SSLRequest of the PostgreSQL protocol; a server answers `S` or `N`."""
SETUP = "run `make setup` (as root for what comes by apt)"

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. `remedy` says what to do and is empty when all is well."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def machine_findings(folder: Path) -> Iterator[Finding]:
    """Everything about this machine; `folder` is where state would lie."""
    for question in (python, packages, rabbitmq, postgresql, flights_data, localhost, ports, memory):
        yield question()
    yield disk(folder)
    for question in (shared_memory, open_files, gpus):
        yield question()


def configured_findings(settings: Settings) -> Iterator[Finding]:
    """Whether what the configuration names can be reached from here. Only hosts and ports are shown, never a URL."""
    yield reachable("broker", settings.broker.url.get_secret_value(), 5672, AMQP_GREETING, b"\x01")
    for name, database in settings.databases.items():
        if database.dsn is not None:
            yield reachable(f"database {name}", database.dsn.get_secret_value(), 5432, POSTGRES_HELLO, b"SN")
    for name, volume in settings.volumes.items():
        if volume.url.startswith("file://"):
            yield writable(f"volume {name}", Path(urlsplit(volume.url).path))


def python() -> Finding:
    return Finding("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")


def packages() -> Finding:
    """The distributions that ours require. Versions are the business of `make setup` and its lock file."""
    try:
        required = importlib.metadata.requires("sandpool-cluster") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("packages", "missing", "sandpool-cluster is not installed", SETUP)
    names = {re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0] for line in required if "extra ==" not in line}
    absent = sorted(name for name in names if not installed(name))
    if absent:
        return Finding("packages", "missing", ", ".join(absent), SETUP)
    return Finding("packages", "ok", f"all {len(names)}, Ray {importlib.metadata.version('ray')}")


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def rabbitmq() -> Finding:
    return local_service("rabbitmq-server", find_rabbitmq, "without it `make demo` runs embedded")


def postgresql() -> Finding:
    return local_service("postgresql", find_postgres, "no local database")


def flights_data() -> Finding:
    return local_service("flights data", find_flights, "demo, tests and benchmarks need it")


def local_service(name: str, find: Callable[[], Path], without: str) -> Finding:
    try:
        return Finding(name, "ok", str(find()))
    except ServiceMissing as error:
        return Finding(name, "warning", f"not installed: {without}", error.remedy)


def runsc() -> Finding:
    remedy = f"sandboxes need gVisor: {SETUP}; elsewhere see gvisor.dev/docs/user_guide/install"
    path = shutil.which("runsc")
    if path is None:
        return Finding("runsc", "warning", "not installed", remedy)
    try:
        said = subprocess.run(  # noqa: S603 - a fixed program, no shell
            [path, "--version"], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
        ).stdout
    except (subprocess.SubprocessError, OSError) as error:
        return Finding("runsc", "warning", f"{path} does not run: {type(error).__name__}", remedy)
    version = said.split("\n", 1)[0].removeprefix("runsc version ").strip()
    year = re.search(r"20\d\d(?=\d{4})", version)
    if year and int(year.group()) < RUNSC_OLDEST:
        return Finding("runsc", "warning", f"{version} has no systrap platform", remedy)
    return Finding("runsc", "ok", version)


def gpus() -> Finding:
    """By the process that hosts ask too: a driver in trouble can hold up only that."""
    if not GPU_DRIVER.exists():
        return Finding("gpus", "ok", f"none; {NONE_HERE}")
    try:
        said = subprocess.run(
            [sys.executable, "-m", "workers.gpu.inventory", "--once"], capture_output=True, timeout=GPU_TIMEOUT_S
        ).stdout
        found = sense(json.loads(said))
    except (subprocess.TimeoutExpired, OSError, ValueError) as error:
        return Finding("gpus", "warning", f"NVML does not answer: {type(error).__name__}", GPU_REMEDY)
    ill = [f"{gpu.uuid}: {gpu.unhealthy}" for gpu in found.gpus if gpu.unhealthy]
    if found.reason or ill:
        return Finding("gpus", "warning", "; ".join([found.reason, *ill]).strip("; "), GPU_REMEDY)
    kinds = Counter(f"{gpu.model} {gpu.mig}".strip() for gpu in found.gpus)
    names = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    return Finding("gpus", "ok", f"{names}, driver {found.driver}")


def mmdebstrap() -> Finding:
    path = shutil.which("mmdebstrap")
    if path is None:
        return Finding("mmdebstrap", "warning", "not installed: sandbox images cannot be built here", SETUP)
    return Finding("mmdebstrap", "ok", path)


def localhost() -> Finding:
    """A private RabbitMQ node is called `sandpool@localhost`."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo("localhost", None, socket.AF_INET)}
    except OSError:
        addresses = set()
    if "127.0.0.1" not in addresses:
        return Finding(
            "localhost", "warning", "does not resolve to 127.0.0.1", "add `127.0.0.1 localhost` to /etc/hosts"
        )
    return Finding("localhost", "ok", "127.0.0.1")


def ports() -> Finding:
    try:
        free_port()
    except LocalServiceError as error:
        return Finding("ports", "missing", str(error), "end what listens there")
    return Finding("ports", "ok", "free ports on loopback")


def memory() -> Finding:
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii"))
    except OSError:
        found = None
    if found is None:
        return Finding("memory", "missing", "no /proc/meminfo", "Sandpool runs on Linux")
    return amount("memory", int(found.group(1)) * 1024, MEMORY_NEEDED_BYTES, MEMORY_WANTED_BYTES)


def disk(folder: Path) -> Finding:
    existing = next(step for step in (folder.absolute(), *folder.absolute().parents) if step.exists())
    return amount(
        "disk", shutil.disk_usage(existing).free, DISK_NEEDED_BYTES, DISK_WANTED_BYTES, f" free at {existing}"
    )


def amount(name: str, have_bytes: int, needed_bytes: int, wanted_bytes: int, where: str = " available") -> Finding:
    """`missing` below what is needed, `warning` below what is wanted."""
    detail = f"{have_bytes / GIB:.1f} GiB{where}"
    if have_bytes < needed_bytes:
        return Finding(name, "missing", detail, f"at least {needed_bytes / GIB:g} GiB are needed")
    if have_bytes < wanted_bytes:
        return Finding(name, "warning", detail, f"{wanted_bytes / GIB:g} GiB or more are better")
    return Finding(name, "ok", detail)


def shared_memory() -> Finding:
    """Ray keeps objects there and falls back to the slower disk where it is small."""
    try:
        free_bytes = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return Finding("shared memory", "warning", "none: Ray will use the disk", f"mount a tmpfs at {SHARED_MEMORY}")
    detail = f"{free_bytes / GIB:.1f} GiB free at {SHARED_MEMORY}"
    if free_bytes < GIB:
        return Finding("shared memory", "warning", detail, "enlarge it (containers: --shm-size=2g)")
    return Finding("shared memory", "ok", detail)


def open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_WANTED:
        return Finding("open files", "warning", f"limit {soft} (at most {hard})", f"`ulimit -n {FILES_WANTED}` first")
    return Finding("open files", "ok", f"limit {soft}")


def cgroups() -> Finding:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return Finding("cgroups", "ok", "version 2")
    if (root / "memory").is_dir():
        return Finding("cgroups", "ok", "version 1" + (" and 2" if (root / "unified").is_dir() else ""))
    return Finding(
        "cgroups", "warning", "none mounted: sandboxes would have no limits", "mount cgroup2 at /sys/fs/cgroup"
    )


def reachable(name: str, url: str, port: int, hello: bytes, answers: bytes) -> Finding:
    """Whether a server behind `url` answers `hello` with one of the bytes `answers`."""
    parts = urlsplit(url)
    if parts.scheme in ("memory", ""):
        return Finding(name, "ok", "in this process")
    if parts.scheme == "amqps":
        port, hello, answers = 5671, b"", b""  # TLS first: we only see that somebody listens
    where = f"{parts.hostname}:{parts.port or port}"
    remedy = "start it, or correct its address in the configuration; look for a firewall between here and there"
    try:
        with socket.create_connection(
            (parts.hostname or "", parts.port or port), timeout=ANSWER_TIMEOUT_S
        ) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.sendall(hello)
            said = connection.recv(1) if hello else b""
    except OSError as error:
        return Finding(name, "missing", f"{where}: {error.strerror or error}", remedy)
    if hello and (not said or said not in answers):
        return Finding(name, "missing", f"{where} speaks another protocol", remedy)
    return Finding(name, "ok", where)


def writable(name: str, folder: Path) -> Finding:
    existing = next(step for step in (folder, *folder.parents) if step.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(name, "missing", f"{existing} is not writable", "change its owner or the volume's url")
    return Finding(name, "ok", str(folder))
