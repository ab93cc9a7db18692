"""Volumes that the configuration registers, opened for reading. Called by `jobs` and `answer`."""

from __future__ import annotations

from cluster.errors import SettingsInvalid
from cluster.settings import Settings
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume


def registered_spec(settings: Settings, name: str) -> VolumeSpec | None:
    """How to reach the volume of this name, with its credentials; None where it is not registered."""
    volume = settings.volumes.get(name)
    if volume is None:
        return None
    options = {key: secret.get_secret_value() for key, secret in volume.options.items()}
    return VolumeSpec(name=name, url=volume.url, options=options, retention_s=volume.retention_s)


def registered_volume(settings: Settings, name: str) -> Volume:
    """The volume of this name. Raises SettingsInvalid, ConfigurationError."""
    spec = registered_spec(settings, name)
    if spec is None:
        known = ", ".join(sorted(settings.volumes))
        raise SettingsInvalid(f"volume {name!r} is not registered; registered are: {known}")
    return open_volume(spec)
