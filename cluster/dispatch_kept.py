"""Kept sandboxes by Ray: finds the host actors of a running cluster and asks them. Called by `sandpool sandbox ...`.

A sandbox lives on one host and only that host knows its id, so a request about one goes to each in turn until one
knows it; a new one goes to the first that has room. It decides nothing about sandboxes.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray.exceptions import GetTimeoutError, RayError

from cluster.dispatch_hosts import HOST_PREFIX
from cluster.errors import NotRunning, SandboxRefused
from workers.sandbox.requests import (
    Answer,
    Code,
    Create,
    Exec,
    Pull,
    Push,
    Ran,
    Refused,
    Request,
    Type,
    Views,
    Watch,
    pack,
    unpack,
)
from workers.sandbox.tail import Heard

ADDRESS_FILE = "ray_current_cluster"
"""Below Ray's folder: the address of the cluster that was started there. Ray's own name for it."""
OVERHEAD_S = 180.0
"""For resuming, saving and Ray, beside what code or a command may take."""
TRANSFER_S = 3600.0
"""For the memory of a sandbox on its way into a volume, or out of one."""
ELSEWHERE = (
    "sandbox.unknown", "host.full", "host.closed", "image.unknown", "database.unreachable", "sandbox.unavailable",
)  # fmt: skip
"""Answers after which another host may have a better one; the most telling comes last."""
UNUSABLE = "snapshot.unusable"
"""Another host may be of the kind that it was made on."""
LOOK_S = 0.2
Show = Callable[[bytes, bytes], None]
Hand = Callable[[bytes, int, int], bool]
"""Input, and the terminal's rows and columns where they have changed, else 0; whether more is taken."""
Begun = Callable[[Hand], None]
START_IT = "no cluster runs here: start it with `sandpool up`, and use the same --config"


def join(namespace: str, address: str, folder: Path) -> bool:
    """Connect to the cluster's Ray; `folder` is where a local one was started. Whether it is ours to `leave`.

    Raises NotRunning, with what to do.
    """
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"address": address}
    if address == "local":
        if not (folder / ADDRESS_FILE).is_file():
            raise NotRunning(START_IT)
        options = {"address": "auto", "_temp_dir": str(folder)}
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    try:
        ray.init(namespace=namespace, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise NotRunning(START_IT) from error
    return True


def leave() -> None:
    ray.shutdown()


class KeptHosts:
    """Every host of the cluster that we are connected to, by node."""

    def __init__(self, namespace: str) -> None:
        """Raises NotRunning when there is none."""
        self._actors: dict[str, Any] = {}
        for entry in ray.util.list_named_actors(all_namespaces=True):
            name = str(entry["name"])
            if entry["namespace"] == namespace and name.startswith(HOST_PREFIX):
                self._actors[name.removeprefix(HOST_PREFIX)] = ray.get_actor(name, namespace=namespace)
        if not self._actors:
            raise NotRunning(START_IT)

    def ask(self, tenant: str, request: Request, node: str = "") -> Views:
        """The first useful answer, or that of one node. Raises SandboxRefused, NotRunning."""
        timeout_s = TRANSFER_S if isinstance(request, Push | Pull) else OVERHEAD_S
        answer = self._first(request, lambda actor: _answer(_start(actor, tenant, request), timeout_s), node)
        assert isinstance(answer, Views)
        return answer

    def run(
        self, tenant: str, request: Code | Exec, timeout_s: float, show: Show | None = None, begun: Begun | None = None
    ) -> Ran:
        """How it ended; `show` gets what it writes (stdout, stderr) while it runs, `begun` is called once it does, with
        what hands input to its terminal. Errors as `ask`.

        Whoever interrupts this ends what runs.
        """
        watched = msgspec.structs.replace(request, watch=secrets.token_hex(8) if show else "")

        def run_on(actor: Any) -> Answer:
            running = _start(actor, tenant, watched)
            try:
                if show is not None:
                    _watch(actor, tenant, watched, running, show, begun)
                return _answer(running, timeout_s + OVERHEAD_S)
            except BaseException:
                ray.cancel(running)
                raise

        answer = self._first(request, run_on)
        assert isinstance(answer, Ran)
        return answer

    def _first(self, request: Request, ask: Callable[[Any], Answer], node: str = "") -> Answer:
        if node and node not in self._actors:
            raise NotRunning(f"no node {node!r} has a host; there are: {', '.join(sorted(self._actors))}")
        refused: dict[str, Refused] = {}
        for actor in [self._actors[node]] if node else self._actors.values():
            answer = ask(actor)
            if not isinstance(answer, Refused):
                return answer
            refused[answer.code] = answer
            if answer.code not in ELSEWHERE and not (isinstance(request, Pull) and answer.code == UNUSABLE):
                break
        why = max(refused.values(), key=lambda one: _weight(one, request))
        raise SandboxRefused(why.code, why.message, why.hint, retry=why.retry)

    def ask_all(self, tenant: str, request: Request) -> dict[str, Views]:
        """Node -> its answer."""
        answers = {node: _answer(_start(actor, tenant, request), OVERHEAD_S) for node, actor in self._actors.items()}
        return {node: answer for node, answer in answers.items() if isinstance(answer, Views)}


def _start(actor: Any, tenant: str, request: Request) -> Any:
    return actor.kept.remote(tenant, pack(request))


def _watch(actor: Any, tenant: str, request: Code | Exec, running: Any, show: Show, begun: Begun | None = None) -> None:
    """Until it has ended. All of it comes with the answer too, so trouble here is none."""
    stdout_from = stderr_from = 0

    def hand(data: bytes, rows: int, columns: int) -> bool:
        typed = Type(id=request.id, watch=request.watch, data=data, rows=rows, columns=columns)
        heard = _answer(_start(actor, tenant, typed), OVERHEAD_S)
        return isinstance(heard, Heard) and heard.running

    while not ray.wait([running], timeout=0)[0]:
        ask = Watch(id=request.id, watch=request.watch, stdout_from=stdout_from, stderr_from=stderr_from, wait_s=LOOK_S)
        heard = _answer(_start(actor, tenant, ask), OVERHEAD_S)
        if isinstance(heard, Heard) and heard.running:
            if begun is not None:
                begun(hand)
                begun = None
            show(heard.stdout, heard.stderr)
            stdout_from += len(heard.stdout)
            stderr_from += len(heard.stderr)
        else:  # not begun, or ended
            ray.wait([running], timeout=LOOK_S)


def _answer(asked: Any, timeout_s: float) -> Answer:
    try:
        return unpack(ray.get(asked, timeout=timeout_s))
    except GetTimeoutError as error:
        raise NotRunning("the host did not answer in time") from error
    except RayError as error:
        cause = getattr(error, "cause", None)
        if hasattr(cause, "code"):  # the host cannot open: not root, no runsc
            return Refused(code="sandbox.unavailable", message=str(cause), hint=str(getattr(cause, "hint", "")))
        raise NotRunning(f"the host is gone: {type(error).__name__}") from error


def _weight(refused: Refused, request: Request) -> int:
    """Of several refusals the one to tell: what only one host can say, then no room, then that nobody knows it."""
    if refused.code not in ELSEWHERE:
        return 9
    order = (
        "sandbox.unavailable", "sandbox.unknown", "image.unknown", "host.closed", "host.full", "database.unreachable",
    )  # fmt: skip
    return order.index(refused.code) if isinstance(request, Create) else ELSEWHERE[::-1].index(refused.code)
