"""The configuration file as frozen values. The only place that reads files or the environment.

`configs/sandpool.toml` documents every key with its meaning, unit and default; a test keeps the two in step. To add a
setting: add the field here with its default, document it there, and pass it down as data: no lower layer reads it.
Strict: an unknown key, a wrong type or a dangling name is an error that says where.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError, field_validator

from cluster.errors import SettingsInvalid
from sandpool.errors import InvalidJob
from sandpool.job import check_object

CONFIG_VARIABLE = "SANDPOOL_CONFIG"
DEFAULT_PATH = Path("configs/sandpool.toml")
MIB, GIB = 1 << 20, 1 << 30

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Broker(_Section):
    """Where jobs come from. The user of this URL is the scheduler's own."""

    url: SecretStr
    prefetch_factor: float = Field(default=2.0, ge=1, le=16)


class SchedulerRules(_Section):
    """How the scheduler behaves."""

    drain_timeout_s: float = Field(default=30, gt=0, le=3600)
    attempt_grace_s: float = Field(default=10, gt=0, le=600)
    max_deliveries: int = Field(default=15, ge=1, le=19)
    """Below the broker's own limit (20). Generous, for a lost connection counts against every job that was prefetched,
    whether it had begun or not."""
    catalog_ttl_s: float = Field(default=60, ge=1, le=86_400)
    cancelled_retention_s: int = Field(default=7 * 86_400, ge=60)
    sweep_interval_s: float = Field(default=600, ge=1, le=86_400)
    verdict_cache: int = Field(default=10_000, ge=0, le=1_000_000)
    replicas: int = Field(default=1, ge=1, le=16)


class RaySettings(_Section):
    """Which Ray to use. `local` starts one on this machine and stops it with us."""

    address: str = "local"
    dashboard: bool = False
    cpus: int | None = Field(default=None, ge=1)
    folder: str = ""
    autoscale: bool = False
    rest_after_s: float = Field(default=600, ge=10, le=86_400)


class VolumeSettings(_Section):
    url: str
    options: dict[str, SecretStr] = {}
    retention_s: int | None = Field(default=None, ge=1)
    shared: bool = False


class SandboxSettings(_Section):
    """Where code runs, and how much of the machine it may have."""

    enabled: bool = True
    folder: str = ""
    images: str = ""
    memory_bytes: int = Field(default=0, ge=0)
    cpus: float = Field(default=0, ge=0, le=4096)
    most_sandboxes: int = Field(default=64, ge=1, le=4096)
    warm_bytes: int = Field(default=GIB, ge=0)
    warm_each: int = Field(default=8, ge=0, le=256)
    job_memory_bytes: int = Field(default=512 * MIB, ge=128 * MIB)
    job_cpus: float = Field(default=1.0, ge=0.05, le=256)
    most_job_memory_bytes: int = Field(default=8 * GIB, ge=128 * MIB)
    most_job_cpus: float = Field(default=8.0, ge=0.05, le=256)
    most_output_files: int = Field(default=10_000, ge=0, le=100_000)
    most_output_bytes: int = Field(default=4 * GIB, ge=0)
    most_input_bytes: int = Field(default=4 * GIB, ge=0)


class DatabaseSettings(_Section):
    engine: Literal["postgresql", "duckdb", "sqlite"] = "postgresql"
    dsn: SecretStr | None = None
    source: str = ""
    policy: str
    budget: int = Field(default=8, ge=2, le=1000)
    bulk_budget: int = Field(default=2, ge=1, le=1000)
    egress_only: bool = False
    read_only: bool = True
    statement_timeout_s: float = Field(default=300, gt=0, le=86_400)


class TenantSettings(_Section):
    databases: tuple[Name, ...] = Field(default=(), strict=False)
    volumes: tuple[Name, ...] = Field(default=("results",), min_length=1, strict=False)
    max_timeout_s: float = Field(default=3600, gt=0, le=86_400)
    max_attempts: int = Field(default=5, ge=1, le=100)
    images: tuple[Name, ...] | None = Field(default=None, strict=False)
    weight: float = Field(default=1, ge=0.01, le=100)
    max_in_flight: int | None = Field(default=None, ge=1)
    rate_per_s: float | None = Field(default=None, gt=0, le=1_000_000)


class Telemetry(_Section):
    """What is told to whoever watches."""

    metrics: bool = True
    interval_s: float = Field(default=10, ge=1, le=600)
    otlp_endpoint: str = ""
    otlp_headers: dict[str, SecretStr] = {}
    trace_sample: float = Field(default=1, ge=0, le=1)


class ClientSettings(_Section):
    """What the command line uses when it is not told otherwise."""

    url: SecretStr | None = None


class Settings(_Section):
    """The whole file, secrets resolved, paths absolute."""

    folder: str = ".sandpool"
    broker: Broker
    client: ClientSettings = ClientSettings()
    scheduler: SchedulerRules = SchedulerRules()
    ray: RaySettings = RaySettings()
    telemetry: Telemetry = Telemetry()
    sandboxes: SandboxSettings = SandboxSettings()
    volumes: dict[Name, VolumeSettings]
    databases: dict[Name, DatabaseSettings]
    tenants: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")], TenantSettings]
    policies: dict[str, str] = {}
    """Text of every policy file, by database; filled by `load`, never written in the file."""

    @field_validator("policies")
    @classmethod
    def _not_in_the_file(cls, value: dict[str, str]) -> dict[str, str]:
        if value:
            raise ValueError("is no key: name the file of a database's policy in databases.NAME.policy")
        return value


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the configuration.

    `path` None: the file that SANDPOOL_CONFIG names, else configs/sandpool.toml. A string `env:NAME` or `file:PATH` is
    replaced by what it points to, so that no secret has to lie in the file. Raises SettingsInvalid.
    """
    environment = os.environ if environment is None else environment
    path = path or Path(environment.get(CONFIG_VARIABLE, DEFAULT_PATH))
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsInvalid(f"{path}: {error.strerror}; name a file with --config or {CONFIG_VARIABLE}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path}: {error}") from error
    folder = path.resolve().parent
    resolved = _resolve(raw, folder, environment, str(path))
    try:
        settings = Settings.model_validate(resolved)
    except ValidationError as error:
        raise SettingsInvalid("\n".join(_explain(path, error))) from error
    return _complete(settings, folder, path)


def _resolve(value: Any, folder: Path, environment: Mapping[str, str], where: str) -> Any:
    match value:
        case dict():
            return {key: _resolve(item, folder, environment, f"{where}: {key}") for key, item in value.items()}
        case list():
            return [_resolve(item, folder, environment, where) for item in value]
        case str() if value.startswith("env:"):
            name = value.removeprefix("env:")
            if name not in environment:
                raise SettingsInvalid(f"{where}: environment variable {name} is not set")
            return environment[name]
        case str() if value.startswith("file:") and not value.startswith("file://"):
            try:
                return (folder / value.removeprefix("file:")).read_text("utf-8").strip()
            except OSError as error:
                raise SettingsInvalid(f"{where}: {value}: {error.strerror}") from error
        case _:
            return value


def _complete(settings: Settings, folder: Path, path: Path) -> Settings:
    """Cross-references checked, policy texts read, relative paths made absolute against the file's folder."""
    mistakes = [
        f"{path}: tenants.{tenant}.{kind}: {name!r} is not a registered {kind[:-1]}"
        for tenant, rules in settings.tenants.items()
        for kind, names, known in (
            ("databases", rules.databases, settings.databases),
            ("volumes", rules.volumes, settings.volumes),
        )
        for name in names
        if name not in known
    ]
    policies = {}
    mistakes += [f"{path}: {mistake}" for mistake in _source_mistakes(settings)]
    for name, database in settings.databases.items():
        try:
            policies[name] = (folder / database.policy).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"{path}: databases.{name}.policy: {folder / database.policy}: {error}")
    if mistakes:
        raise SettingsInvalid("\n".join(mistakes))
    volumes = {
        name: volume.model_copy(update={"url": _absolute_url(volume.url, folder)})
        for name, volume in settings.volumes.items()
    }
    state = (folder / settings.folder).resolve()
    ray = settings.ray.model_copy(update={"folder": str(folder / settings.ray.folder) if settings.ray.folder else ""})
    sandboxes = settings.sandboxes.model_copy(
        update={
            "folder": str(folder / settings.sandboxes.folder) if settings.sandboxes.folder else "",
            "images": str(
                (folder / settings.sandboxes.images).resolve() if settings.sandboxes.images else state / "images"
            ),
        }
    )
    return settings.model_copy(
        update={"volumes": volumes, "policies": policies, "folder": str(state), "ray": ray, "sandboxes": sandboxes}
    )


def _source_mistakes(settings: Settings) -> Iterator[str]:
    """What each engine needs to find its data, and volumes that results cannot go into."""
    for name, database in settings.databases.items():
        if database.engine == "postgresql":
            if database.dsn is None:
                yield f"databases.{name}.dsn: required for engine postgresql"
            continue
        if not database.read_only:
            yield f"databases.{name}.read_only: engine {database.engine} only reads"
        try:
            volume, _ = check_object(database.source, f"databases.{name}.source")
        except InvalidJob as error:
            yield str(error)
            continue
        if volume not in settings.volumes:
            yield f"databases.{name}.source: {volume!r} is not a registered volume"
    for name, tenant in settings.tenants.items():
        if tenant.max_in_flight is not None and tenant.max_in_flight < settings.scheduler.replicas:
            yield f"tenants.{name}.max_in_flight: less than scheduler.replicas, which divide it among them"
        if tenant.volumes[0] in settings.volumes and settings.volumes[tenant.volumes[0]].shared:
            yield f"tenants.{name}.volumes: the first one records endings, so it cannot be shared"


def _absolute_url(url: str, folder: Path) -> str:
    """`file://./x` (relative to the configuration file) as an absolute URL; every other URL as it is."""
    relative = url.removeprefix("file://")
    return f"file://{(folder / relative).resolve()}" if url.startswith("file://.") else url


def _explain(path: Path, error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"])
        lines.append(f"{path}: {where}: {item['msg']}")
    return lines
