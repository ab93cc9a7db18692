"""The texts of our own code that runs inside a sandbox: `inside` with what this task asks for. Pure.

Called by `execution`. Values go in as JSON in a string literal, never as code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from workers.sandbox.limits import MIB
from workers.sandbox.task import SandboxTask

INSIDE = Path(__file__).parent / "inside"
LIBRARY = "/opt/sandpool/library"
"""`workers/sandbox/runner/library`, as a sandbox sees it."""
DATABASES = "SANDPOOL_DATABASES"
"""The variable that names the databases of a task, when it has any."""
# Read when the process starts: an event loop waits for no disk.
SOURCES = {name: (INSIDE / f"{name}.py").read_text("utf-8") for name in ("tables", "engines")}
TABLE_FOLDER = "table"
"""Below /in: the parts of the result that a transform gets."""
ENGINE_SHARE = 0.6
"""Of a sandbox's memory, for DuckDB: beyond it DuckDB itself says what was too much, before the kernel kills all."""


def prepare(folder: str, env: Mapping[str, str]) -> str:
    """The working folder, and the job's environment."""
    variables = _literal({"SANDPOOL_OUT": folder, **env})
    return (
        "import json, os\n"
        f"os.makedirs({folder!r}, exist_ok=True)\n"
        f"os.chdir({folder!r})\n"
        f"os.environ.update(json.loads({variables}))\n"
    ) + (_databases(env) if DATABASES in env else "")


def _databases(env: Mapping[str, str]) -> str:
    """A way by TCP to each database, and the module `sandpool`."""
    return (
        "import importlib\n"
        "importlib.import_module('sandpool_runner.databases').open_databases("
        f"json.loads({_literal([name for name in env[DATABASES].split(',') if name])}), '/run/sandpool/pg')\n"
    )


def run_file(path: str, name: str) -> str:
    """Code that is too long for a frame, from a file."""
    return f"exec(compile(open({path!r}, 'rb').read(), {name!r}, 'exec'), globals())\n"


def before_transform() -> str:
    """The result of the statement as `table` and `df`, in the user's own namespace."""
    return f"{_package()}\ntable = _sandpool.load('/in/{TABLE_FOLDER}')\ndf = table.to_pandas()\n"


def after_transform(task: SandboxTask) -> str:
    """What the user's code left as `result`."""
    return (
        "if 'result' not in globals():\n"
        "    raise NameError('the transform left no `result`: assign the table that shall be the result to it')\n"
        f"{_package()}\n_sandpool.write_result(result, {task.max_rows}, {task.max_bytes})\n"
    )


def query(task: SandboxTask) -> str:
    """A statement for an engine, or the question what there is."""
    assert task.query is not None
    ask = {
        "engine": task.query.engine,
        "sql": task.query.sql,
        "params": list(task.query.params),
        "path": f"/in/{task.query.path}",
        "is_folder": task.query.is_folder,
        "max_rows": task.max_rows,
        "max_bytes": task.max_bytes,
        "memory_limit": f"{int(task.limits.memory_bytes * ENGINE_SHARE) // MIB}MiB",
        "threads": max(1, int(task.limits.cpus)),
    }
    verb = "read_catalog" if task.kind == "catalog" else "run_query"
    return f"{_package()}\nimport json\n_sandpool_engines.{verb}(json.loads({_literal(ask)}))\n"


def _literal(value: object) -> str:
    """A Python string literal that holds the value as JSON."""
    return repr(json.dumps(value))


@cache
def _package() -> str:
    """Both modules of `inside`, made where nothing was installed, with the library beside the runner."""
    return f"""
import importlib.util as _u, json as _j, sys as _s, types as _t, os as _o
def _sandpool_load():
    package = _t.ModuleType("sandpool_inside")
    package.__path__ = []
    _s.modules["sandpool_inside"] = package
    _s.path.append({LIBRARY!r})
    for name, source in _j.loads({_literal(SOURCES)}).items():
        module = _t.ModuleType("sandpool_inside." + name)
        module.__package__ = "sandpool_inside"
        _s.modules[module.__name__] = module
        exec(compile(source, "sandpool/" + name + ".py", "exec"), module.__dict__)
    _s.path.remove({LIBRARY!r})
    _o.makedirs(_s.modules["sandpool_inside.tables"].FOLDER, exist_ok=True)
    return _s.modules["sandpool_inside.tables"], _s.modules["sandpool_inside.engines"]
_sandpool, _sandpool_engines = _sandpool_load()
"""
