"""What the settings say about sandboxes, as the values that lower layers take. Pure; called by `cluster.app`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cluster.sandbox_admission import SandboxRules
from cluster.settings import Settings
from cluster.tasks import EngineRules
from sandpool.job import check_object
from workers.sandbox.demand import WarmSpec
from workers.sandbox.hosting import HostSpec
from workers.sandbox.limits import GIB, MIB, Limits
from workers.sql.policy.document import Policy
from workers.sql.policy.whole import keeps_back

DEFAULT_FOLDER = Path("/var/lib/sandpool")
"""Short, and on a disk: snapshots are some 100 MB each."""
FILES, FILES_BYTES = 1000, GIB


def host_spec(settings: Settings) -> HostSpec | None:
    """What each node's host is told; None where this cluster runs no code. Zeros are for the node itself to fill in."""
    wanted = settings.sandboxes
    if not wanted.enabled:
        return None
    # Two installations on one machine share neither sandboxes nor cgroups.
    own = hashlib.sha256(settings.folder.encode()).hexdigest()[:8]
    return HostSpec(
        folder=wanted.folder or str(DEFAULT_FOLDER / own),
        images=wanted.images,
        name=own,
        memory_bytes=wanted.memory_bytes,
        cpus=wanted.cpus,
        most_sandboxes=wanted.most_sandboxes,
        warm=WarmSpec(memory_bytes=wanted.warm_bytes, most=wanted.warm_each),
    )


def sandbox_rules(settings: Settings) -> SandboxRules:
    """What admission gives a job, and the most it may ask for."""
    wanted = settings.sandboxes
    most = Limits(
        memory_bytes=max(wanted.most_job_memory_bytes, wanted.job_memory_bytes),
        cpus=max(wanted.most_job_cpus, wanted.job_cpus),
        processes=1024,
        disk_bytes=4 * GIB,
        tmp_bytes=GIB,
        shm_bytes=256 * MIB,
        open_files=4096,
        wall_s=86_400,
        output_bytes=64 * MIB,
    )
    return SandboxRules(
        defaults=Limits(memory_bytes=wanted.job_memory_bytes, cpus=wanted.job_cpus),
        most=most,
        files=min(FILES, wanted.most_output_files),
        most_files=wanted.most_output_files,
        files_bytes=min(FILES_BYTES, wanted.most_output_bytes),
        most_files_bytes=wanted.most_output_bytes,
        input_bytes=wanted.most_input_bytes,
    )


def engine_rules(settings: Settings, policies: Mapping[str, Policy]) -> dict[str, EngineRules]:
    """Databases whose engine runs inside a sandbox."""
    return {
        name: EngineRules(
            database.engine, *check_object(database.source, "source"), keeps_back(policies[name], database.engine)
        )
        for name, database in settings.databases.items()
        if database.engine != "postgresql"
    }


def most_at_once(settings: Settings) -> int:
    """Jobs in sandboxes that one node may run at the same time, as far as the settings say: what is taken ahead."""
    wanted = settings.sandboxes
    if not wanted.enabled:
        return 1
    by_memory = wanted.memory_bytes // wanted.job_memory_bytes if wanted.memory_bytes else wanted.most_sandboxes
    return max(1, min(wanted.most_sandboxes, by_memory))
