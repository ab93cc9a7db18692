"""The control socket by which a host asks for doors: there while the pool takes work, gone when it drains."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from workers.doors import DoorRequest, control_path, open_door
from workers.errors import PoolClosed
from workers.sql.broker.reception import Reception
from workers.sql.spec import PoolSpec, SessionSpec


@pytest.mark.may_block("its folder is made and looked at")
async def test_a_pool_that_drains_leaves_no_control_socket_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        doors = Path(folder) / "doors"
        spec = PoolSpec(database="flights", dsn="postgresql://x/y", session=SessionSpec(policy="", doors=str(doors)))
        pool: Any = None  # nobody asks for a door
        reception = Reception(pool, spec, {})
        await reception.start()
        assert control_path(doors, "flights").is_socket()
        await reception.lock()
        assert list(doors.iterdir()) == []
        request = DoorRequest(folder=folder, tenant="acme", job_id="j", attempt_id="1-a", volume="results")
        with pytest.raises(PoolClosed):
            async with open_door(doors, "flights", request):
                pass
        await reception.close()
