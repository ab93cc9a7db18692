"""Runs code in persistent namespaces: one per context, like the cells of a notebook.

Called by `service` in the main thread. The value of the last expression, top-level `await`, tracebacks with the
user's own lines and without ours. It never sends anything.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import inspect
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
NOTHING = object()
"""The code did not end in an expression."""
MOST_CONTEXTS = 256
FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
TRACEBACK_CHARACTERS = 32 * 1024


class TooManyContexts(Exception):
    """Each context keeps its objects alive."""


class Cells:
    def __init__(self, display: Callable[[Any], None]) -> None:
        self._display = display
        self._contexts: dict[str, types.ModuleType] = {}
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, context: str, name: str, source: str) -> Any:
        """The value of the last expression, or NOTHING. Raises whatever the code raises.

        `name` is the file name in tracebacks; empty: `<cell N>`.
        """
        self._count += 1
        name = name or f"<cell {self._count}>"
        # No time stamp in the entry: `linecache.checkcache` would drop it, there is no such file.
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        module = self._context(context)
        sys.modules["__main__"] = module  # what pickles and dataclasses look names up in
        sys.argv = [name]
        self._ready_loop()  # for tasks that plain code makes and later code awaits
        tree = compile(source, name, "exec", FLAGS | ast.PyCF_ONLY_AST, dont_inherit=True)
        last = tree.body.pop() if tree.body and _is_value(tree.body[-1], source) else None
        self._evaluate(compile(tree, name, "exec", FLAGS, dont_inherit=True), module)
        if not isinstance(last, ast.Expr):
            return NOTHING
        value = self._evaluate(compile(ast.Expression(last.value), name, "eval", FLAGS, dont_inherit=True), module)
        if value is None:
            return NOTHING
        module.__dict__["_"] = value
        return value

    def forget(self, context: str) -> bool:
        """Drop the context and everything in it."""
        return self._contexts.pop(context, None) is not None

    def _context(self, context: str) -> types.ModuleType:
        module = self._contexts.get(context)
        if module is None:
            if len(self._contexts) >= MOST_CONTEXTS:
                raise TooManyContexts(f"there are {MOST_CONTEXTS} contexts already; drop one first")
            module = self._contexts[context] = types.ModuleType("__main__")
            module.__dict__.update({"__builtins__": builtins, "display": self._display})
        return module

    def _evaluate(self, code: types.CodeType, module: types.ModuleType) -> Any:
        result = eval(code, module.__dict__)  # noqa: S307 - this is what a runner is for
        return self._await(result) if code.co_flags & inspect.CO_COROUTINE else result

    def _await(self, coroutine: Any) -> Any:
        loop = self._ready_loop()
        task = loop.create_task(coroutine)
        try:
            return loop.run_until_complete(task)
        except (KeyboardInterrupt, SystemExit):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # what interrupted it is what counts
                loop.run_until_complete(task)
            raise

    def _ready_loop(self) -> asyncio.AbstractEventLoop:
        """One loop for all code, so that tasks and connections of earlier code go on."""
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        return self._loop


def _is_value(node: ast.stmt, source: str) -> bool:
    """An expression without a semicolon after it: the notebook's way to want no value."""
    return isinstance(node, ast.Expr) and not source.rstrip().endswith(";")


def describe(error: BaseException) -> tuple[str, str, str]:
    """Kind, message and traceback text of an error, without the runner's own frames. Never raises."""
    kind = type(error).__name__
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001 - the user's own class
        message = "<its message cannot be shown>"
    try:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename.startswith(OURS):
            frames = frames.tb_next
        told = traceback.TracebackException(type(error), error, frames)
        # Also where an interrupt came in: the last line is then the user's own.
        told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(OURS)]
        text = "".join(told.format())
    except BaseException:  # noqa: BLE001 - as above
        text = f"{kind}: {message}\n"
    if len(text) > TRACEBACK_CHARACTERS:
        half = TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    return clean(kind)[:200], clean(message)[:2000], clean(text)


def clean(text: str) -> str:
    """Without lone surrogates, which no UTF-8 can carry and the host refuses."""
    return text.encode("utf-8", "backslashreplace").decode()
