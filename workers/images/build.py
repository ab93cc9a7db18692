"""Builds an image from its recipe: the only file of images that starts processes. Blocking; called by the command line.

Steps: the Debian system (mmdebstrap, from the machine's own apt sources), shared between images; the Python packages
(uv, or pip where uv cannot reach what pip is told about), wheels with known hashes only, so that no code of a package
runs here; the finishing (`tree`). Everything happens in a draft that becomes the image in one rename, so a build that
fails, is interrupted or killed leaves nothing. Every program has a deadline and an empty standard input.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from workers.images import sources, tree
from workers.images.errors import BuildToolMissing, ImageBuildFailed
from workers.images.recipe import Recipe
from workers.images.store import BuiltImage, ImageStore, now

BUILD_TIMEOUT_S = 1800.0
STEP_TIMEOUT_S = 1200.0
LOG_TAIL_BYTES = 4000
WHEEL_PLATFORM = {"x86_64": "x86_64-manylinux_2_28", "aarch64": "aarch64-manylinux_2_28"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Say = Callable[[str], None]


def build(
    store: ImageStore, recipe: Recipe, *, environment: Mapping[str, str], say: Say = lambda _line: None
) -> BuiltImage:
    """The image of this recipe; one that is built already is only named. `environment`: for uv and pip, which read it.

    Raises ImageBuildFailed, BuildToolMissing, ImageBusy.
    """
    digest = recipe.digest()
    with store.locked(digest, BUILD_TIMEOUT_S):
        if store.has(digest):
            say(f"{recipe.name}@{digest[:12]} is built already")
            store.point(recipe.name, digest)
            return store.find(f"{recipe.name}@{digest}")
        layer = recipe.base_digest()
        with store.locked(layer, BUILD_TIMEOUT_S):  # held to the end: prune must not take the layer in between
            system = store.layer(layer) or _build_system(store, recipe, layer, say)
            with store.draft() as draft:
                built = _build_image(draft, recipe, system, environment, say)
                store.publish(draft, built)
    say(f"{recipe.name}@{digest[:12]} is built: {built.size_bytes >> 20} MiB")
    return built


def _build_system(store: ImageStore, recipe: Recipe, digest: str, say: Say) -> Path:
    say(f"Debian {recipe.base.suite} with {', '.join(recipe.base.packages) or 'nothing else'} (about 20 s)")
    lines = sources.lines_for(recipe.base.suite, sources.read_machine())
    if not lines:
        hint = f"add a Debian source for {recipe.base.suite} to /etc/apt"
        raise BuildToolMissing(f"this machine has no apt source for {recipe.base.suite}", hint=hint)
    with store.draft() as draft:
        (draft / "sources.list").write_text("".join(f"{line}\n" for line in lines))
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--quiet"]
        command += [f"--include={','.join(recipe.base.packages)}"] if recipe.base.packages else []
        command += [
            f"--dpkgopt=path-exclude={path}/*" for path in ("/usr/share/doc", "/usr/share/man", "/usr/share/locale")
        ]
        command += [recipe.base.suite, str(draft / "rootfs"), str(draft / "sources.list")]
        # In a mount namespace of its own: what mmdebstrap mounts into the new system ends with it, even by SIGKILL.
        wrapper = ["unshare", "--mount", "--propagation=private", "--fork", "--kill-child", "--"]
        environment = {"PATH": PATH, "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(tree.SOURCE_DATE_EPOCH)}
        _run("debian", [*wrapper, *command], draft / "log", environment)
        (draft / "sources.list").unlink()
        (draft / "log").unlink()
        return store.publish_layer(draft, digest)


def _build_image(draft: Path, recipe: Recipe, system: Path, environment: Mapping[str, str], say: Say) -> BuiltImage:
    rootfs = draft / "rootfs"
    tree.copy_by_links(system, rootfs)
    python_packages: dict[str, str] = {}
    if recipe.lock:
        say(f"Python packages: {', '.join(recipe.python.packages)}")
        python_packages = _install_python(draft, recipe, environment)
    debian_packages = _debian_packages(rootfs)
    say("finishing")
    tree.finish(rootfs, recipe.user)
    content, size_bytes = tree.content_digest(rootfs)
    return BuiltImage(
        name=recipe.name,
        digest=recipe.digest(),
        description=recipe.description,
        built_at=now(),
        origin="recipe",
        size_bytes=size_bytes,
        content=content,
        layer=recipe.base_digest(),
        uid=recipe.user.uid,
        home=recipe.user.home,
        env=dict(recipe.env),
        warm_imports=recipe.python.warm_imports,
        limits=dict(recipe.limits),
        debian_packages=debian_packages,
        python_packages=python_packages,
    )


def _install_python(draft: Path, recipe: Recipe, environment: Mapping[str, str]) -> dict[str, str]:
    version, rootfs, target = recipe.python.version, draft / "rootfs", draft / "python"
    lock = draft / "requirements.lock"
    lock.write_text(recipe.lock)
    if not (rootfs / f"usr/bin/python{version}").exists():
        message = f"Debian {recipe.base.suite} brings another Python than {version}"
        raise ImageBuildFailed("python", message)
    quiet = {
        **environment,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PYTHONNOUSERSITE": "1",
    }
    _install_wheels(draft, version, quiet)
    packages = _distributions(target)
    tree.remove(target / "bin")  # console scripts name the Python of this machine; `python3 -m NAME` serves inside
    place = rootfs / f"usr/local/lib/python{version}/dist-packages"
    place.parent.mkdir(parents=True, exist_ok=True)
    tree.remove(place)
    target.rename(place)
    # Unchecked hashes: no time stamps in the files, and no look at the source at each import.
    compiler = ["chroot", str(rootfs), f"/usr/bin/python{version}", "-I", "-S", "-m", "compileall", "-q", "-j1"]
    compiler += ["--invalidation-mode=unchecked-hash", f"/usr/local/lib/python{version}/dist-packages"]
    # Some packages ship templates that are no Python: what cannot be compiled stays as it is.
    _run("compile", compiler, draft / "log", {"PATH": PATH, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}, accept=(0, 1))
    for leftover in (lock, draft / "log"):
        leftover.unlink(missing_ok=True)
    return packages


def _install_wheels(draft: Path, version: str, environment: Mapping[str, str]) -> None:
    lock, target, log = draft / "requirements.lock", draft / "python", draft / "log"
    machine = platform.machine()
    common = ["--target", str(target), "--only-binary=:all:", "--require-hashes", "-r", str(lock)]
    if shutil.which("uv", path=environment.get("PATH")):
        uv = ["uv", "pip", "install", "--quiet", "--link-mode=copy", f"--python-version={version}"]
        uv += [f"--python-platform={WHEEL_PLATFORM.get(machine, machine)}"]
        try:
            _run("python", [*uv, *common], log, environment)
            return
        except ImageBuildFailed:
            tree.remove(target)  # pip may be told about an index that uv is not
    pip = ["pip", "install", "--quiet", "--no-compile", "--implementation=cp", f"--python-version={version}"]
    pip += [f"--platform=manylinux_2_{minor}_{machine}" for minor in (28, 27, 26, 24, 17)]
    pip += [f"--platform=manylinux2014_{machine}"]
    _run("python", [*pip, *common], log, environment)


def _run(
    step: str, command: Sequence[str], log: Path, environment: Mapping[str, str], accept: Sequence[int] = (0,)
) -> None:
    """One program to its end. ImageBuildFailed with the end of what it said, BuildToolMissing when it is not there."""
    program = shutil.which(command[0], path=environment.get("PATH", PATH))
    needed = [name for name in command if name in ("mmdebstrap", "unshare", "chroot")]
    missing = [name for name in needed if shutil.which(name, path=environment.get("PATH", PATH)) is None]
    if program is None or missing:
        name = (missing or [command[0]])[0]
        raise BuildToolMissing(f"{name} is not installed", hint=f"run `make setup`, or install the package {name}")
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - built from a checked recipe, no shell
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            umask=0o022,  # what is written has to be readable by the sandbox's user
            start_new_session=True,
        )
        try:
            code = process.wait(STEP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ImageBuildFailed(step, f"not done after {STEP_TIMEOUT_S:g} s", _tail(log)) from None
        finally:
            if process.poll() is None:  # late, or we were interrupted: nothing of it goes on
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code not in accept:
        raise ImageBuildFailed(step, f"{command[0]} ended with {code}", _tail(log))


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace").strip()


def _debian_packages(rootfs: Path) -> dict[str, str]:
    """Name -> version of every installed Debian package, from dpkg's own status file."""
    status = rootfs / "var/lib/dpkg/status"
    found: dict[str, str] = {}
    for stanza in status.read_text("utf-8", errors="replace").split("\n\n") if status.is_file() else ():
        fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", stanza, flags=re.MULTILINE))
        if fields.get("Status") == "install ok installed" and "Package" in fields:
            found[fields["Package"]] = fields.get("Version", "")
    return dict(sorted(found.items()))


def _distributions(folder: Path) -> dict[str, str]:
    """Name -> version of every Python distribution in a target folder."""
    found = (re.fullmatch(r"(.+)-([^-]+)\.dist-info", entry.name) for entry in folder.iterdir())
    return dict(sorted((match[1].lower().replace("_", "-"), match[2]) for match in found if match))
