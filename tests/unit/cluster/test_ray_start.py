"""What Ray says when it does not start reaches the operator as an error of ours, not as a fault of Sandpool."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from cluster import conductor
from cluster.conductor import start_ray
from cluster.errors import RayNotStarted
from cluster.settings import RaySettings


def test_ray_that_is_not_up_in_its_own_time_is_said_to_be_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", late)
    monkeypatch.setattr(conductor, "secure_token", lambda: None)
    with pytest.raises(RayNotStarted, match="timed out during startup"):
        start_ray(RaySettings(), tmp_path)
