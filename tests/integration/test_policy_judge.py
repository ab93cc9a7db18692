"""The judge's parser process: killed when a statement costs too much, replaced, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandpool.outcome import Verdict
from tests.support import policy_corpus as corpus
from workers.sql.judge import Judge, JudgeUnavailable
from workers.sql.policy import judge, load_policy
from workers.sql.policy.session import Forward, Refuse, SessionFacts, judge_session

ROOT = Path(__file__).parents[2]
OPEN = load_policy('tables = "all"')
LONG = "SELECT " + " || ".join(["lower('x')"] * 4000)
"""Some 60 kB whose check takes longer than the millisecond that the tests below allow."""


def children() -> set[int]:
    """Parser processes of this process."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"workers.sql.parser_process" in (entry / "cmdline").read_bytes():
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == os.getpid() and stat[0] != "Z":
                    found.add(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


async def ask(service: Judge, text: str, tenant: str = "t") -> Verdict:
    return await service.judge(text, "postgres", OPEN, None, tenant)


async def test_verdicts_are_those_of_the_pure_function() -> None:
    policy, catalog = corpus.restricted("postgres"), corpus.catalog("postgres")
    texts = corpus.honest("postgres")[:60] + [
        text for _, text in corpus.hostile("postgres")[:60] if "\ud800" not in text
    ]
    async with Judge() as service:
        answers = await asyncio.gather(*[service.judge(text, "postgres", policy, catalog, "acme") for text in texts])
    assert list(answers) == [judge(text, "postgres", policy, catalog, "acme") for text in texts]


async def test_verdicts_on_sessions_are_those_of_the_pure_function_and_kept_apart_from_those_on_jobs() -> None:
    policy, catalog, facts = corpus.restricted("postgres"), corpus.catalog("postgres"), SessionFacts()
    texts = ["SELECT 1", "BEGIN", "SET jit = off", "", "RESET ALL; CLOSE ALL", "SELECT * FROM secrets", "COPY x TO 'y'"]
    async with Judge() as service:
        assert (await service.judge("SELECT 1", "postgres", policy, catalog, "acme")).allowed
        answers = [await service.judge_session(text, facts, policy, catalog, "acme") for text in texts]
        known = [service.cached_session(text, facts, policy, catalog, "acme") for text in texts]
    assert answers == [judge_session(text, facts, policy, catalog, "acme") for text in texts] == known
    assert isinstance(answers[0], Forward)


async def test_a_sessions_statement_that_costs_too_much_gets_an_sqlstate() -> None:
    async with Judge(cpu_limit_s=0.001) as service:
        answer = await service.judge_session(LONG, SessionFacts(), OPEN, None, "t")
        assert isinstance(answer, Refuse)
        assert (answer.sqlstate, answer.rule) == ("54001", "statement.too-complex")


async def test_a_statement_that_costs_too_much_dies_alone() -> None:
    async with Judge(cpu_limit_s=0.06) as service:
        texts = [f"SELECT {number}" for number in range(20)]
        answers = await asyncio.gather(*[ask(service, text) for text in [*texts[:10], LONG, *texts[10:]]])
        assert answers[10].rule == "statement.too-complex"
        assert all(answer.allowed for position, answer in enumerate(answers) if position != 10)
        assert service.restarts >= 1
        assert (await ask(service, "SELECT 'after'")).allowed


async def test_a_process_killed_by_someone_else_costs_no_verdict() -> None:
    async with Judge() as service:
        assert (await ask(service, "SELECT 1")).allowed
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        answers = await asyncio.gather(*[ask(service, f"SELECT {number}") for number in range(50)])
        assert all(answer.allowed for answer in answers)


async def test_a_frozen_process_is_replaced_after_the_wall_limit() -> None:
    async with Judge(wall_limit_s=0.5) as service:
        assert (await ask(service, "SELECT 1")).allowed
        for pid in children():
            os.kill(pid, signal.SIGSTOP)
        assert not (await ask(service, "SELECT 'frozen'")).allowed
        assert (await ask(service, "SELECT 2")).allowed


async def test_a_tenant_that_is_no_valid_text_is_denied_and_harms_nobody_else() -> None:
    policy = load_policy("[tables.t]\nfilter = 'owner = {tenant}'")
    async with Judge() as service, asyncio.timeout(20):
        for tenant in ("\ud800", "a\0b"):
            verdict = await service.judge("SELECT id FROM t", "postgres", policy, None, tenant)
            assert (verdict.allowed, verdict.rule) == (False, "text.encoding")
        assert (await service.judge("SELECT id FROM t", "postgres", policy, None, "a")).allowed


async def test_nobody_waits_for_ever_when_the_owner_of_the_process_fails() -> None:
    async with Judge() as service, asyncio.timeout(20):
        service._decoder = None  # type: ignore[assignment]
        assert not (await ask(service, "SELECT 1")).allowed
        assert not (await ask(service, "SELECT 2")).allowed


async def test_the_cache_answers_the_same_text_at_once_and_forgets_the_oldest() -> None:
    async with Judge(cache_size=2) as service:
        assert service.cached("SELECT 1", "postgres", OPEN, None, "t") is None
        first = await ask(service, "SELECT 1")
        assert service.cached("SELECT 1", "postgres", OPEN, None, "t") is first
        assert service.cached("SELECT 1", "postgres", OPEN, None, "another") is first
        assert service.cached("SELECT 1", "postgres", OPEN, None, "t", writes=True) is None
        assert service.cached("SELECT 1 ", "postgres", OPEN, None, "t") is None
        await ask(service, "SELECT 2")
        await ask(service, "SELECT 3")
        assert service.cached("SELECT 1", "postgres", OPEN, None, "t") is None


async def test_a_policy_with_tenants_shares_no_verdict_between_them() -> None:
    policy = load_policy("[tables.t]\nfilter = 'owner = {tenant}'")
    async with Judge() as service:
        texts = [
            (await service.judge("SELECT id FROM t", "postgres", policy, None, tenant)).sql for tenant in ("a", "b")
        ]
    assert "'a'" in texts[0]
    assert "'b'" in texts[1]


async def test_a_full_queue_denies_in_time_and_does_not_wait_for_ever() -> None:
    async with Judge(queue_limit=1, queue_timeout_s=0.5, wall_limit_s=5) as service:
        assert (await ask(service, "SELECT 0")).allowed
        for pid in children():
            os.kill(pid, signal.SIGSTOP)
        first = asyncio.create_task(ask(service, "SELECT 1"))
        await asyncio.sleep(0)
        assert (await ask(service, "SELECT 2")).rule == "check.overloaded"
        for pid in children():
            os.kill(pid, signal.SIGCONT)
        assert (await first).allowed


async def test_a_closed_judge_denies_and_leaves_no_process() -> None:
    service = Judge()
    await service.start()
    await service.close()
    assert (await ask(service, "SELECT 1")).rule == "check.failed"
    assert children() == set()


async def test_a_judge_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(JudgeUnavailable):
        await Judge().start()


def test_nothing_survives_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import asyncio, time\n"
        "from workers.sql.judge import Judge\n"
        "async def main():\n"
        "    service = Judge()\n"
        "    await service.start()\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "MARK": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, cwd=ROOT)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        orphans = set(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split())
        assert orphans
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 10
    while any(_is_alive(pid) for pid in orphans):
        assert time.monotonic() < deadline, "the parser process outlived its parent"
        time.sleep(0.05)


def _is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
