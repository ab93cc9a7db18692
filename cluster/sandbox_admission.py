"""May this code run, and with which limits? Pure: (job, tenant, the cluster's rules, now) -> Admitted or Refused.

The twin of `admission.admit` for jobs that run in a sandbox; the scheduler calls that one, which comes here. What is
missing and what is forbidden are answered alike, so that names cannot be probed. Never awaits, never reads anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from functools import lru_cache

from sandpool.job import CommandJob, PythonJob, check_object
from sandpool.job import Limits as Asked
from workers.sandbox.limits import GIB, Limits
from workers.volumes.keys import tenant_prefix

CodeJob = PythonJob | CommandJob


@dataclass(frozen=True, slots=True)
class SandboxRules:
    """What the cluster gives a job that runs in a sandbox."""

    defaults: Limits = field(default_factory=Limits)
    most: Limits = field(
        default_factory=lambda: Limits(
            memory_bytes=8 * GIB,
            cpus=8,
            processes=1024,
            disk_bytes=4 * GIB,
            tmp_bytes=GIB,
            shm_bytes=256 << 20,
            open_files=4096,
            wall_s=86_400,
            output_bytes=64 << 20,
        )
    )
    files: int = 1000
    most_files: int = 10_000
    files_bytes: int = GIB
    most_files_bytes: int = 4 * GIB
    input_bytes: int = 4 * GIB


@dataclass(frozen=True, slots=True)
class Room:
    """The limits of a job in a sandbox, every one a number; its time is the longest that any may have."""

    limits: Limits
    files: int
    files_bytes: int
    input_bytes: int


def refusal_of(
    job: CodeJob, tenant: str, *, images: Collection[str] | None, volumes: Collection[str], shared: Collection[str]
) -> tuple[str, str, str] | None:
    """(rule, message, hint) of the first right that the job lacks; None when it has all. `images` None: every image."""
    if images is not None and job.image.partition("@")[0] not in images:
        return "image.unknown", f"no image {job.image!r} for this tenant", "ask for the right to it"
    for source in _sources(job):
        volume, key = check_object(source, "inputs")
        if volume not in volumes and volume not in shared:
            return "volume.unknown", f"no volume {volume!r} for this tenant", "ask for the right to it"
        if volume not in shared and not key.startswith(tenant_prefix(tenant)):
            what = f"{volume}:{key} is not below {tenant_prefix(tenant)}, where everything of this tenant lies"
            return "input.foreign", what, "name objects as your own manifests do"
    return None


@lru_cache(maxsize=1024)  # looked at twice for each job, and mostly none asks for anything
def room_of(asked: Asked, rules: SandboxRules) -> Room | tuple[str, str, str]:
    """Every limit of the job, or (rule, message, hint) of the first that is over its ceiling."""
    values = rules.defaults.as_dict()
    for each in fields(Limits):
        wanted = getattr(asked, each.name, None)
        ceiling = getattr(rules.most, each.name)
        if wanted is not None and wanted > ceiling:
            return f"limits.{each.name}", f"{wanted:g} is more than the {ceiling:g} that a job may have", "ask for less"
        values[each.name] = min(values[each.name] if wanted is None else wanted, ceiling)
    for name, wanted, ceiling in (
        ("files", asked.files, rules.most_files),
        ("files_bytes", asked.files_bytes, rules.most_files_bytes),
    ):
        if wanted is not None and wanted > ceiling:
            return f"limits.{name}", f"{wanted:g} is more than the {ceiling:g} that a job may have", "ask for less"
    values["wall_s"] = rules.most.wall_s
    files = rules.files if asked.files is None else asked.files
    files_bytes = rules.files_bytes if asked.files_bytes is None else asked.files_bytes
    return Room(Limits(**values), files, files_bytes, rules.input_bytes)


def _sources(job: CodeJob) -> Iterator[str]:
    yield from job.inputs.values()
    if isinstance(job, PythonJob) and job.file:
        yield job.file
