"""A host on real runsc: what a lease gives, that no two are alike, and that nothing of one is left."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sandpool.outcome import Ending
from workers.images.errors import UnknownImage
from workers.sandbox.errors import HostClosed, HostFull, SessionError, SpecInvalid
from workers.sandbox.host import Host
from workers.sandbox.limits import Limits


@pytest.fixture
def limits() -> Limits:
    """Of the usual kind, for which a host keeps a snapshot from its first use on."""
    return Limits(memory_bytes=256 << 20, wall_s=20)


async def until_warm(host: Host, count: int = 1) -> None:
    async with asyncio.timeout(30):
        while sum(host.view().warm.values()) < count:
            await asyncio.sleep(0.02)


async def test_a_lease_runs_code_commands_and_sees_its_inbox(host: Host, limits: Limits) -> None:
    async with host.lease("base", limits, tenant="a") as lease:
        (lease.inbox / "input").write_text("from the host")
        execution = await lease.session.run_code("print(open('/in/input').read()); 6 * 7")
        assert (execution.ending, execution.stdout, execution.text) == (Ending.Succeeded, b"from the host\n", "42")
        command = await lease.session.run_command(["/bin/sh", "-c", "echo x > /in/input"])
        assert command.code != 0
        usage = await lease.usage()
        assert usage.cpu_s > 0
        assert usage.peak_memory_bytes > 10 << 20
        assert await lease.ended(0) is None
    gone = await lease.gone()
    assert gone.usage.cpu_s >= usage.cpu_s
    assert not await asyncio.to_thread(lease.inbox.exists)
    assert host.view().sandboxes == 0


async def test_spare_sandboxes_are_restored_handed_out_once_and_never_twins(host: Host, limits: Limits) -> None:
    async with host.lease("base", limits, tenant="a"):
        pass
    for _ in range(3):
        await until_warm(host)
        async with host.lease("base", limits, tenant="a") as lease:
            assert (await lease.session.run_code("open('/tmp/mark').read()")).ending is Ending.Failed
            await lease.session.run_code("open('/tmp/mark', 'w').write('used')")


async def test_limits_of_the_job_hold_in_a_spare_sandbox(host: Host, limits: Limits) -> None:
    async with host.lease("base", limits, tenant="a"):
        pass
    await until_warm(host)
    small = replace(limits, memory_bytes=160 << 20, output_bytes=1000)
    async with host.lease("base", small, tenant="a") as lease:
        assert (await lease.session.run_code("print('x' * 2000)")).ending is Ending.OutputCapped
        execution = await lease.session.run_code("x = b'x' * (400 << 20)")
        assert execution.ending is Ending.Failed
        ended = await lease.ended()
        assert ended is not None and ended.out_of_memory


async def test_a_host_hands_out_what_it_has_and_no_more(host: Host, limits: Limits) -> None:
    large = replace(limits, memory_bytes=2 << 30)
    async with host.lease("base", large, tenant="a"), host.lease("base", large, tenant="b"):
        assert host.view().reserved_bytes == 4 << 30
        with pytest.raises(HostFull, match="0 MiB of memory are free"):
            async with host.lease("base", limits, tenant="c"):
                pass
    async with host.lease("base", large, tenant="c"):  # waits for what is being destroyed
        pass
    with pytest.raises(SpecInvalid, match="this host has"):
        async with host.lease("base", replace(limits, memory_bytes=5 << 30), tenant="a"):
            pass
    with pytest.raises(SpecInvalid, match="allows at most"):
        async with host.lease("base", replace(limits, open_files=5000), tenant="a"):
            pass
    with pytest.raises(UnknownImage):
        async with host.lease("no-such-image", limits, tenant="a"):
            pass


async def test_a_lease_ends_with_its_body_however_that_ends(host: Host, limits: Limits) -> None:
    async def fails() -> None:
        async with host.lease("base", limits, tenant="a"):
            raise ValueError

    async def hangs(started: asyncio.Event) -> None:
        async with host.lease("base", limits, tenant="a") as lease:
            started.set()
            await lease.session.run_code("import time; time.sleep(100)", timeout_s=100)

    with pytest.raises(ValueError):
        await fails()
    started = asyncio.Event()
    task = asyncio.create_task(hangs(started))
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    async with host.lease("base", limits, tenant="a") as lease:
        await lease.kill()
        with pytest.raises(SessionError):
            await lease.session.read_file("x")
        ended = await lease.ended()
        assert ended is not None and ended.lost
    await lease.gone()
    async with asyncio.timeout(10):
        while host.view().sandboxes:  # those of before are still being destroyed
            await asyncio.sleep(0.02)
    assert lease.id not in await asyncio.to_thread(host._sandboxes.cgroups.leftovers)


async def test_a_closing_host_lets_leases_end_and_takes_no_more(host: Host, limits: Limits) -> None:
    async def work() -> bytes:
        async with host.lease("base", limits, tenant="a") as lease:
            ready.set()
            return (await lease.session.run_code("import time; time.sleep(0.3); print('done')")).stdout

    ready = asyncio.Event()
    task = asyncio.create_task(work())
    await ready.wait()
    await host.close(drain_timeout_s=10)
    assert await task == b"done\n"
    with pytest.raises(HostClosed):
        async with host.lease("base", limits, tenant="a"):
            pass
