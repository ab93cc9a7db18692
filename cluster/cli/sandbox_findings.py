"""What `sandpool doctor` says of sandboxes: gVisor, cgroups, images. Each answers with a Finding and never raises.

Nothing is started and nothing changed: whether a sandbox really comes up, `sandpool run` tells.
"""

from __future__ import annotations

import os
from pathlib import Path

from cluster.cli.findings import Finding, cgroups, mmdebstrap, runsc
from workers.errors import WorkerError
from workers.images.store import ImageStore
from workers.sandbox.cgroup import Cgroups

BUILD = "`sandpool image build base data` makes them, as root; it takes about a minute"


def sandbox_findings(images: Path) -> list[Finding]:
    """In the order in which things are needed."""
    return [runsc(), user(), limits(), mmdebstrap(), built_images(images)]


def user() -> Finding:
    if os.geteuid() != 0:
        remedy = "run the cluster as root on machines that shall run code; everything else works without"
        return Finding("sandboxes", "warning", "not root: no code can run here", remedy)
    return Finding("sandboxes", "ok", "root")


def limits() -> Finding:
    """Whether memory, CPU time and processes of a sandbox can be limited here."""
    mounted = cgroups()
    if mounted.state != "ok":
        return mounted
    groups = Cgroups("doctor")
    try:
        groups.check()
    except WorkerError as error:
        return Finding("cgroups", "warning", error.message, error.hint)
    except OSError as error:
        return Finding("cgroups", "warning", str(error), "mount the cgroup controllers memory, cpu and pids")
    swap = "" if groups.limits_swap else ", without a limit on swap"
    return Finding("cgroups", "ok", f"{mounted.detail}: memory, cpu, pids{swap}")


def built_images(folder: Path) -> Finding:
    """The images that a job may name here."""
    try:
        store = ImageStore(folder)
        names = sorted({one.name for one in store.list_all() if store.current(one.name) == one.digest})
    except (WorkerError, OSError) as error:
        return Finding("images", "warning", f"{folder}: {error}", BUILD)
    if "data" not in names:
        detail = f"{', '.join(names) or 'none'} in {folder}; code runs in `data` unless it says otherwise"
        return Finding("images", "warning", detail, BUILD)
    return Finding("images", "ok", f"{', '.join(names)} in {folder}")
