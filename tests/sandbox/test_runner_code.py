"""The runner as a plain process on a Unix socket: code, values, tracebacks, interrupts, copies that differ."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from sandpool.outcome import Ending
from workers.sandbox.errors import FileRefused, RunnerLost, SessionBusy
from workers.sandbox.listener import Listener
from workers.sandbox.replies import SessionLimits
from workers.sandbox.session import Session

ROOT = Path(__file__).resolve().parents[2]
LIMITS = SessionLimits(output_bytes=100_000, result_bytes=200_000, wall_s=20, grace_s=1.0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: a socket's path has at most 107 bytes."""
    path = Path(mkdtemp(prefix="sp-"))
    yield path
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


@pytest.fixture
async def runner(folder: Path, tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(ROOT / "workers/sandbox/runner"), str(folder / "runner.sock")),
        cwd=tmp_path,
        stdin=asyncio.subprocess.DEVNULL,
    )
    yield process
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


@pytest.fixture
async def session(folder: Path, runner: asyncio.subprocess.Process) -> AsyncIterator[Session]:
    found = await Listener(folder).accept(20, LIMITS)
    yield found
    await found.close()


async def test_the_last_expression_is_the_value_and_state_persists(session: Session) -> None:
    assert (await session.run_code("x = 20\nx + 1")).text == "21"
    assert (await session.run_code("_ + x")).text == "41"
    assert (await session.run_code("x;")).value is None
    assert (await session.run_code("None")).value is None
    other = await session.run_code("x", context="other")
    assert (other.ending, other.error and other.error.kind) == (Ending.Failed, "NameError")
    await session.forget("main")
    assert (await session.run_code("'x' in globals()")).text == "False"
    with pytest.raises(FileRefused):
        await session.forget("never made")


async def test_output_of_print_of_c_code_and_of_children_arrives_in_order(session: Session) -> None:
    seen: list[tuple[str, bytes]] = []

    async def listen(stream: str, content: bytes) -> None:
        seen.append((stream, content))

    code = "import os\nprint('one')\nos.write(1, b'two\\n')\nos.system('echo three')\nprint('Grüße', end='')"
    execution = await session.run_code(code, on_output=listen)
    assert execution.stdout == "one\ntwo\nthree\nGrüße".encode()
    assert b"".join(content for _, content in seen) == execution.stdout
    execution = await session.run_code("import sys\nsys.stderr.write('oops')\nsys.stdout.buffer.write(b'\\xff\\0');")
    assert (execution.stdout, execution.stderr) == (b"\xff\0", b"oops")


async def test_code_that_closes_its_own_stdout_harms_only_itself(session: Session) -> None:
    await session.run_code("import os, sys\nsys.stdout.close()\nos.close(1)\nos.close(2)")
    assert (await session.run_code("print('back')")).stdout == b"back\n"


async def test_a_traceback_shows_the_users_lines_and_none_of_ours(session: Session) -> None:
    await session.run_code("def divide(n):\n    return 1 / n\n", name="job.py")
    execution = await session.run_code("a = 1\n\ndivide(0)\n")
    assert execution.error is not None
    assert execution.error.kind == "ZeroDivisionError"
    for expected in ('File "<cell 2>", line 3', "divide(0)", 'File "job.py", line 2, in divide', "return 1 / n"):
        assert expected in execution.error.traceback
    assert "sandbox/runner" not in execution.error.traceback
    broken = (await session.run_code("x = (1,\ny = 2\n", name="b.py")).error
    assert broken is not None
    assert (broken.kind, 'File "b.py", line 1' in broken.traceback) == ("SyntaxError", True)


async def test_await_at_top_level_and_background_tasks_work(session: Session) -> None:
    code = (
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 5\ntask = asyncio.ensure_future(f())"
    )
    assert (await session.run_code(code + "\nawait f()")).text == "5"
    assert (await session.run_code("await task + 1")).text == "6"


async def test_a_value_comes_with_every_type_it_offers(session: Session) -> None:
    code = (
        "class V:\n def __repr__(self): return 'plain'\n def _repr_html_(self): return '<b>v</b>'\n"
        " def _repr_mimebundle_(self, **_): return {'application/json': {'a': 1}, 'text/css': 'x'}\n"
        " def _repr_png_(self): 1/0\ndisplay(7)\nV()"
    )
    execution = await session.run_code(code)
    assert execution.value == {
        "text/plain": b"plain",
        "text/html": b"<b>v</b>",
        "application/json": b'{"a": 1}',
        "text/css": b"x",
    }
    assert execution.displays == ({"text/plain": b"7"},)


async def test_a_data_frame_comes_as_html_and_arrow(session: Session) -> None:
    code = "import pandas\npandas.DataFrame({'a': [1, 2], 'b': ['x', None]})"
    value = (await session.run_code(code)).value
    assert value is not None
    import pyarrow.ipc

    table = pyarrow.ipc.open_stream(value["application/vnd.apache.arrow.stream"]).read_all()
    assert table.to_pydict() == {"a": [1, 2], "b": ["x", None]}
    assert b"<table" in value["text/html"]


async def test_a_table_over_the_limit_is_left_out_and_counted(session: Session) -> None:
    code = "import pandas\npandas.DataFrame({'a': range(%d)})"
    small, large = [await session.run_code(code % rows) for rows in (1_000, 1_000_000)]
    arrow = "application/vnd.apache.arrow.stream"
    assert (arrow in (small.value or {}), small.omitted) == (True, 0)
    assert (arrow in (large.value or {}), large.omitted) == (False, 1)
    assert b"<table" in (large.value or {})["text/html"]


async def test_threads_that_go_on_after_their_code_harm_nothing(session: Session) -> None:
    code = """
import threading, time
def go_on():
    for number in range(200):
        print("late", number, flush=True)
        time.sleep(0.002)
thread = threading.Thread(target=go_on)
thread.start()
'started'
"""
    first = await session.run_code(code)
    assert (first.ending, first.text) == (Ending.Succeeded, "'started'")
    second = await session.run_code("thread.join()\nprint('done')\nthread.is_alive()")
    assert (second.text, second.stdout.endswith(b"done\n")) == ("False", True)


async def test_odd_types_and_names_from_the_code_never_end_the_session(session: Session) -> None:
    types = "{'no type': 'x', 'a/b\\n': 'x', 3: 'y', 'x/ok': '\\udcff'}"
    code = f"class V:\n def _repr_mimebundle_(self, **_): return {types}\nV()"
    execution = await session.run_code(code)
    assert (execution.ending, execution.omitted) == (Ending.Succeeded, 2)
    assert (execution.value or {})["x/ok"] == b"\\udcff"
    odd = "raise type('E' * 500, (Exception,), {})('\\udcff' * 5000)"
    error = (await session.run_code(odd)).error
    assert error is not None
    assert (error.kind, error.message) == ("E" * 200, ("\\udcff" * 400)[:2000])
    assert (await session.run_code("'\\udcff'")).text == "'\\udcff'"
    with pytest.raises(FileRefused):
        await session.stat("absent/\x7f")
    assert session.usable


async def test_a_value_over_the_limit_is_left_out_and_counted(session: Session) -> None:
    code = "class V:\n def _repr_html_(self): return 'x' * 300_000\nV()"
    execution = await session.run_code(code)
    assert (execution.ending, execution.omitted) == (Ending.Succeeded, 1)
    assert set(execution.value or {}) == {"text/plain"}


@pytest.mark.parametrize(
    "code", ["while True: pass", "import time; time.sleep(60)", "await __import__('asyncio').sleep(60)"]
)
async def test_an_interrupt_ends_the_code_and_state_stays(session: Session, code: str) -> None:
    await session.run_code("kept = 1")
    running = asyncio.create_task(session.run_code(code))
    await asyncio.sleep(0.15)
    with pytest.raises(SessionBusy):
        await session.run_code("1")
    assert await session.interrupt()
    execution = await running
    assert (execution.ending, execution.error and execution.error.kind) == (Ending.Cancelled, "KeyboardInterrupt")
    assert (await session.run_code("kept")).text == "1"
    assert not await session.interrupt()


async def test_a_deadline_interrupts_and_code_that_ignores_it_ends_the_session(session: Session) -> None:
    execution = await session.run_code("while True: pass", timeout_s=0.1)
    assert (execution.ending, session.usable) == (Ending.TimedOut, True)
    assert execution.error is not None and "interrupts.py" not in execution.error.traceback
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    execution = await session.run_code(stubborn, timeout_s=0.1)
    assert (execution.ending, session.usable) == (Ending.TimedOut, False)
    with pytest.raises(Exception, match="did not end"):
        await session.run_code("1")


async def test_a_caller_that_gives_up_leaves_no_code_running(session: Session) -> None:
    running = asyncio.create_task(session.run_code("while True: pass"))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await session.run_code("'on'", timeout_s=3)).text == "'on'"


async def test_an_output_flood_ends_as_output_capped(session: Session) -> None:
    execution = await session.run_code("while True: print('x' * 1000)")
    assert execution.ending is Ending.OutputCapped
    assert len(execution.stdout) == LIMITS.output_bytes
    assert (await session.run_code("1")).text == "1"


@pytest.mark.parametrize(("code", "status"), [("0", 0), ("None", 0), ("3", 3), ("'text'", 1)])
async def test_sys_exit_ends_the_code_and_not_the_runner(session: Session, code: str, status: int) -> None:
    execution = await session.run_code(f"import sys\nsys.exit({code})")
    assert (execution.code, execution.ending is Ending.Succeeded) == (status, status == 0)
    assert (await session.run_code("1")).text == "1"


@pytest.mark.parametrize("code", ["import os\nos._exit(0)", "import os\nos.kill(os.getpid(), 9)"])
async def test_code_that_kills_the_runner_fails_and_the_session_is_over(session: Session, code: str) -> None:
    execution = await session.run_code(code)
    assert (execution.ending, session.usable) == (Ending.Failed, False)
    assert execution.error is not None
    assert execution.error.kind == "session.runner_lost"
    with pytest.raises(RunnerLost):
        await session.run_code("1")


async def test_a_fork_does_not_answer_in_place_of_the_runner(session: Session) -> None:
    execution = await session.run_code("import os\npid = os.fork()\nprint('here', flush=True)\npid > 0")
    assert execution.text == "True"
    assert (await session.run_code("os.waitpid(pid, 0)[1]")).text == "0"


async def test_a_runner_that_was_released_comes_back_reseeded(
    session: Session, folder: Path, runner: asyncio.subprocess.Process
) -> None:
    draw = "import random, tempfile\nrandom.seed(1)\nnext(tempfile._get_candidate_names());"
    await session.run_code("kept = 5\n" + draw)
    await session.release()
    assert not session.usable
    again = await Listener(folder).accept(10, LIMITS)
    first = await again.run_code("kept, random.random()")
    assert first.text is not None
    assert first.text.startswith("(5, ")
    assert "0.13436424411240122" not in first.text
    await again.run_code("random.seed(1)")
    await again.reseed()
    assert (await again.run_code("random.random() == 0.13436424411240122")).text == "False"
    await again.close()


async def test_a_lost_host_ends_what_nobody_waits_for(
    session: Session, folder: Path, runner: asyncio.subprocess.Process
) -> None:
    running = asyncio.create_task(session.run_code("while True: pass"))
    command = asyncio.create_task(session.run_command(["/bin/sleep", "61.7"]))
    await asyncio.sleep(0.2)
    await session.close()
    assert {(await running).ending, (await command).ending} == {Ending.Failed}
    again = await Listener(folder).accept(10, LIMITS)
    assert (await again.run_code("1", timeout_s=5)).text == "1"
    wait = f"for i in $(seq 100); do pgrep -P {runner.pid} sleep >/dev/null || exit 0; sleep 0.05; done; exit 1"
    assert (await again.run_command(["/bin/sh", "-c", wait])).code == 0
    await again.close()


async def test_a_runner_stops_on_a_signal_to_its_process_only_while_code_runs(
    session: Session, runner: asyncio.subprocess.Process
) -> None:
    os.kill(runner.pid, signal.SIGINT)
    assert (await session.run_code("1")).text == "1"


@pytest.mark.parametrize("error", ["RuntimeError('no')", "KeyboardInterrupt", "SystemExit(3)"])
async def test_a_stdout_of_the_codes_own_that_cannot_be_flushed_costs_nothing(session: Session, error: str) -> None:
    code = f"import sys\nclass Own:\n    write = print\n    def flush(self): raise {error}\nsys.stdout = Own()\n40 + 2"
    assert (await session.run_code(code)).text == "42"
    assert (await session.run_code("print('on')")).stdout == b"on\n"
