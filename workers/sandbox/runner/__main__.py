"""Start of the runner: gives its folder a package name and serves until the sandbox ends.

Run as `python3 -I FOLDER [SOCKET]`. The modules are loaded as `sandpool_runner.*` and FOLDER leaves `sys.path` again,
so that no name of ours stands in the way of a module of the user's.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

PACKAGE = "sandpool_runner"
SOCKET = "/run/sandpool/runner.sock"


def load_package(folder: str) -> None:
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        raise SystemExit(f"no runner in {folder}")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    load_package(here)
    sys.path[:] = ["", *(entry for entry in sys.path if os.path.abspath(entry or ".") != here)]
    importlib.import_module(f"{PACKAGE}.service").serve(sys.argv[1] if len(sys.argv) > 1 else SOCKET)
