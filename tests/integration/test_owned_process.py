"""A server on its leash: started, stopped within a bound, and gone with its owner however the owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.local.account import service_account
from cluster.local.errors import ServiceFailed
from cluster.local.process import OwnedProcess

ROOT = Path(__file__).resolve().parents[2]


def shell(tmp_path: Path, script: str, **options: object) -> OwnedProcess:
    return OwnedProcess("a script", ["sh", "-c", script], folder=tmp_path, log=tmp_path / "log", env={}, **options)  # type: ignore[arg-type]


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return holds()


def is_gone(pid: int) -> bool:
    """Gone, or dead and only waiting for a slow init to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def pids_in(path: Path, count: int) -> list[int]:
    assert eventually(lambda: path.exists() and len(path.read_text().split()) == count)
    return [int(word) for word in path.read_text().split()]


ESCAPING = """
echo $$ >>pids
setsid sh -c 'echo $$ >>pids; trap "" TERM INT HUP; sleep 60 & echo $! >>pids; wait' &
wait
"""
"""A server whose grandchild opens a session of its own and ignores polite signals."""


def test_stop_leaves_nothing_behind_even_what_opened_its_own_session(tmp_path: Path) -> None:
    process = shell(tmp_path, ESCAPING, grace_s=0.3)
    process.start()
    pids = pids_in(tmp_path / "pids", 3)
    process.stop()
    assert not process.running
    assert all(is_gone(pid) for pid in pids)


def test_stop_is_polite_first(tmp_path: Path) -> None:
    process = shell(tmp_path, 'trap "echo asked >>said; exit 0" TERM; echo up >said; while :; do sleep 0.02; done')
    process.start()
    assert eventually((tmp_path / "said").exists)
    process.stop()
    assert (tmp_path / "said").read_text() == "up\nasked\n"


def test_stop_of_a_deaf_server_takes_its_grace_time_and_no_more(tmp_path: Path) -> None:
    process = shell(tmp_path, 'trap "" TERM; touch up; while :; do sleep 0.02; done', grace_s=0.3)
    process.start()
    assert eventually((tmp_path / "up").exists)
    began = time.monotonic()
    process.stop()
    assert 0.25 <= time.monotonic() - began < 3.0


def test_kill_does_not_ask(tmp_path: Path) -> None:
    process = shell(tmp_path, 'trap "touch asked; exit" TERM; touch up; while :; do sleep 0.02; done', grace_s=30.0)
    process.start()
    assert eventually((tmp_path / "up").exists)
    process.kill()
    assert not (tmp_path / "asked").exists()
    assert not process.running


@pytest.mark.parametrize("temporary", [False, True], ids=["kept", "temporary"])
def test_everything_ends_when_the_owner_is_killed(tmp_path: Path, temporary: bool) -> None:
    data = tmp_path / "data"
    data.mkdir()
    code = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from cluster.local.process import OwnedProcess
        folder = Path({str(tmp_path)!r})
        remove = folder / "data" if {temporary} else None
        script = ["sh", "-c", {ESCAPING!r}]
        OwnedProcess("a script", script, folder=folder, log=folder / "log", env={{}}, grace_s=0.3,
                     remove_if_orphaned=remove).start()
        time.sleep(60)
    """)
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        pids = pids_in(tmp_path / "pids", 3)
    finally:
        owner.kill()
        owner.wait(10)
    assert eventually(lambda: all(is_gone(pid) for pid in pids))
    if temporary:
        assert eventually(lambda: not data.exists())
    else:
        assert data.exists()


def test_a_folder_is_kept_when_its_server_is_stopped_in_good_order(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    process = shell(tmp_path, "sleep 60", grace_s=1.0, remove_if_orphaned=data)
    for end in (process.stop, process.kill):
        process.start()
        end()
        assert data.exists()


def test_a_log_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        shell(tmp_path, "echo overwritten").start()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user, so only root needs this")
def test_a_server_with_another_user_ends_with_its_owner_too(tmp_path: Path) -> None:
    account = service_account()
    assert account is not None
    tmp_path.chmod(0o777)
    code = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from cluster.local.account import service_account
        from cluster.local.process import OwnedProcess
        log = Path({str(tmp_path)!r}) / "log"
        server = OwnedProcess("a script", ["sh", "-c", "id -u; exec sleep 60"], folder=Path("/"), log=log, env={{}},
                              account=service_account())
        server.start()
        print(server.pid, flush=True)
        time.sleep(60)
    """)
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert eventually(lambda: (tmp_path / "log").read_text() == f"{account.uid}\n")
    finally:
        owner.kill()
        owner.wait(10)
        owner.stdout.close()  # type: ignore[union-attr]
    assert eventually(lambda: is_gone(pid))


def test_a_server_that_ends_by_itself_is_seen_and_can_start_again(tmp_path: Path) -> None:
    process = shell(tmp_path, "echo again >>said; exit 3")
    for _ in range(2):
        process.start()
        assert eventually(lambda: not process.running)
    assert (tmp_path / "said").read_text() == "again\nagain\n"


def test_a_program_that_is_not_there_fails_with_its_name(tmp_path: Path) -> None:
    process = OwnedProcess("a ghost", ["/no/such/program"], folder=tmp_path, log=tmp_path / "log", env={})
    with pytest.raises(ServiceFailed, match="a ghost: did not start: error FileNotFoundError"):
        process.start()
    assert not process.running


def test_a_server_that_ends_while_we_wait_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = shell(tmp_path, "echo port is taken >&2; exit 7")
    process.start()
    with pytest.raises(ServiceFailed, match="ended while starting") as failure:
        process.wait_until(lambda: False, timeout_s=10.0)
    assert failure.value.log_tail == "port is taken"
    assert "exit 7" in str(failure.value)


def test_a_server_that_is_never_ready_is_killed_at_the_deadline(tmp_path: Path) -> None:
    process = shell(tmp_path, "sleep 60")
    process.start()
    with pytest.raises(ServiceFailed, match=r"not ready after 0\.1 s"):
        process.wait_until(lambda: False, timeout_s=0.1)
    assert not process.running


def test_a_frozen_server_does_nothing_until_it_is_thawed(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    with shell(tmp_path, "while :; do echo >>beat; sleep 0.01; done", grace_s=1.0) as process:
        assert eventually(beat.exists)
        process.freeze()
        time.sleep(0.05)
        size = beat.stat().st_size
        time.sleep(0.1)
        assert beat.stat().st_size == size
        process.thaw()
        assert eventually(lambda: beat.stat().st_size > size)


def test_a_server_that_starts_programs_all_the_time_stands_still_whenever_it_is_frozen(tmp_path: Path) -> None:
    with shell(tmp_path, "touch up; while :; do /bin/true; done", grace_s=1.0) as process:
        assert eventually((tmp_path / "up").exists)
        for _ in range(100):
            process.freeze()
            process.thaw()


def test_a_frozen_server_can_still_be_stopped(tmp_path: Path) -> None:
    process = shell(tmp_path, "touch up; while :; do sleep 0.02; done", grace_s=5.0)
    process.start()
    assert eventually((tmp_path / "up").exists)
    process.freeze()
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 4.0


def test_stopping_what_was_never_started_is_no_error(tmp_path: Path) -> None:
    process = shell(tmp_path, "true")
    process.stop()
    process.kill()
    assert not process.running


def test_a_terminal_interrupt_does_not_reach_the_server(tmp_path: Path) -> None:
    with shell(tmp_path, "sleep 60", grace_s=1.0) as process:
        assert process.pid is not None
        assert os.getsid(process.pid) not in (os.getsid(0), 0)
        assert os.getpgid(process.pid) != os.getpgid(0)
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
