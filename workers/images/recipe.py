"""What an image is made of: `images/NAME/image.toml` and its `requirements.lock`, checked, and the digest of both.
Pure but for `load`.

The digest is the image's version. It is computed from the inputs alone, so the same recipe has the same version on
every machine, and a changed one can stand beside the old. To add a key: a field here, its use in `build`, a row in
docs/images.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from workers.images.errors import RecipeInvalid
from workers.sandbox.bundle import MOUNT_POINTS
from workers.sandbox.errors import SpecInvalid
from workers.sandbox.image import HOME, SANDBOX_UID
from workers.sandbox.limits import Limits

BUILD_FORMAT = 1
"""Part of every digest: raise it when `build` or `tree` make something else of the same inputs."""
RECIPE, LOCK = "image.toml", "requirements.lock"
MAX_RECIPE_BYTES, MAX_LOCK_BYTES = 256 * 1024, 8 * 1024 * 1024

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
DebianName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]{1,100}$")]
Pin = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.!+]+$")]
Module = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,255}$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BaseSystem(_Section):
    """The Debian system below everything."""

    suite: Annotated[str, StringConstraints(pattern=r"^[a-z]{3,20}$")]
    packages: tuple[DebianName, ...] = Field(default=(), strict=False)

    @field_validator("packages")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))  # the order of packages means nothing, so it must not change the version


class PythonLayer(_Section):
    """Packages for the system's own Python.

    Each is pinned; all they need is pinned with hashes in requirements.lock.
    """

    version: Annotated[str, StringConstraints(pattern=r"^3\.\d{1,2}$")] = "3.11"
    packages: tuple[Pin, ...] = Field(default=(), strict=False)
    warm_imports: tuple[Module, ...] = Field(default=(), strict=False)


class User(_Section):
    """Who runs inside. Never root, never an id of the host's people or services."""

    name: Name = "sandpool"
    uid: int = Field(default=SANDBOX_UID, ge=10_000, le=59_999)
    home: Annotated[str, StringConstraints(pattern=r"^/home/[a-z0-9][a-z0-9_-]{0,62}$")] = HOME


class Recipe(_Section):
    """One image.toml. `limits` are the most that a sandbox of this image may ask for."""

    name: Name
    description: str = ""
    base: BaseSystem
    python: PythonLayer = PythonLayer()
    user: User = User()
    env: dict[Variable, str] = {}
    limits: dict[str, float | int] = {}
    lock: str = ""
    """Text of requirements.lock; filled by `load`."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        Limits.from_dict(dict(self.limits))
        pins = locked_pins(self.lock)
        for package in self.python.packages:
            name, _, version = package.partition("==")
            if pins.get(normalise(name.partition("[")[0])) != version:
                raise ValueError(f"python.packages: {package} is not what {LOCK} pins; renew it (see docs/images.md)")
        if pins and "python3" not in self.base.packages:
            raise ValueError("base.packages: python3 is needed for python.packages")
        return self

    @property
    def ceiling(self) -> Limits:
        return Limits.from_dict(dict(self.limits))

    def digest(self) -> str:
        """64 hex digits; the version. What does not reach a sandbox (the description) does not count."""
        recipe = self.model_dump(mode="json", exclude={"description"})
        return _digest({"recipe": recipe, "mount_points": MOUNT_POINTS})

    def base_digest(self) -> str:
        """Version of the Debian layer alone, which images share."""
        return _digest({"base": self.base.model_dump(mode="json")})


def load(folder: Path) -> Recipe:
    """Read and check `folder`. Raises RecipeInvalid, which says where."""
    try:
        text = _read(folder / RECIPE, MAX_RECIPE_BYTES)
        raw = tomllib.loads(text)
        lock = _read(folder / LOCK, MAX_LOCK_BYTES) if (folder / LOCK).exists() else ""
    except FileNotFoundError as error:
        raise RecipeInvalid(RECIPE, f"there is none in {folder.name}/") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeInvalid(RECIPE, str(error)) from error
    return parse(raw, lock)


def parse(raw: dict[str, Any], lock: str) -> Recipe:
    """Raises RecipeInvalid, naming the first wrong key."""
    if "lock" in raw:
        raise RecipeInvalid("lock", f"is no key of {RECIPE}: the file {LOCK} beside it is read")
    try:
        return Recipe.model_validate({**raw, "lock": _without_comments(lock)})
    except SpecInvalid as error:
        raise RecipeInvalid(error.field, error.message) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or RECIPE
        raise RecipeInvalid(where, str(first["msg"])) from error


def locked_pins(lock: str) -> dict[str, str]:
    """Normalised name -> version of everything that a requirements.lock pins. ValueError for a line without a hash."""
    pins: dict[str, str] = {}
    for entry in re.sub(r"\\\n", " ", lock).splitlines():
        line = entry.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        match = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;]+)(.*)", line)
        if match is None:
            raise ValueError(f"{LOCK}: not a pinned package: {line[:80]}")
        if "--hash=sha256:" not in match[3]:
            raise ValueError(f"{LOCK}: no hash for {match[1]}")
        pins[normalise(match[1])] = match[2]
    return pins


def normalise(name: str) -> str:
    """A distribution's name as packaging compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _digest(content: dict[str, Any]) -> str:
    whole = {"format": BUILD_FORMAT, **content}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _without_comments(lock: str) -> str:
    return "".join(
        f"{line.rstrip()}\n" for line in lock.splitlines() if line.strip() and not line.lstrip().startswith("#")
    )


def _read(path: Path, limit_bytes: int) -> str:
    with path.open("rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise RecipeInvalid(path.name, f"larger than {limit_bytes} bytes")
    return content.decode()
