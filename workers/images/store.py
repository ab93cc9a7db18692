"""The built images of one folder: found by name, by `name@digest` or by digest; complete or not there; removed when
unused.

Layout: `images/<digest>/` (image.json, rootfs/), `layers/<digest>/` (Debian systems that images share by hard links),
`names/<name>` (the digest that the plain name means), `drafts/` (being built), `locks/`. Used by `build`, the command
line and hosts. Several processes may use one folder: every change happens under a file lock and ends in one rename. It
never builds and never starts anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

import msgspec

from workers.images.errors import ImageBusy, UnknownImage
from workers.sandbox.image import Image
from workers.sandbox.limits import Limits

META = "image.json"
LOCK_POLL_S = 0.1
MIN_DIGEST_DIGITS = 6

_REF = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]{0,62})?(?:@(?:sha256:)?(?P<digest>[0-9a-f]{6,64}))?")


class BuiltImage(msgspec.Struct, frozen=True, kw_only=True):
    """What `image.json` says of one image."""

    name: str
    digest: str
    description: str = ""
    built_at: datetime
    origin: str
    """`recipe` or `archive`."""
    size_bytes: int
    content: str
    """SHA-256 of the tree itself (`tree.content_digest`): two machines compare their builds by it."""
    layer: str = ""
    """Digest of the Debian layer below it."""
    uid: int
    home: str
    env: dict[str, str] = {}
    command: tuple[str, ...] = ()
    warm_imports: tuple[str, ...] = ()
    limits: dict[str, float | int] = {}
    debian_packages: dict[str, str] = {}
    """Name -> version of what apt installed."""
    python_packages: dict[str, str] = {}


class ImageStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def resolve(self, ref: str) -> Image:
        """`name`, `name@digest` or `@digest` (at least 6 digits) -> the image.

        Raises UnknownImage, which says what there is.
        """
        built = self.find(ref)
        return Image(
            name=built.name,
            digest=built.digest,
            rootfs=self._image_folder(built.digest) / "rootfs",
            uid=built.uid,
            gid=built.uid,
            home=built.home,
            env=built.env,
            command=built.command,
            warm_imports=built.warm_imports,
            ceiling=Limits.from_dict(dict(built.limits)),
        )

    def find(self, ref: str) -> BuiltImage:
        match = _REF.fullmatch(ref)
        if not ref or match is None:
            raise UnknownImage(f"{ref[:100]!r} names no image", hint="write `name`, `name@digest` or `@digest`")
        name, digits = match["name"], match["digest"]
        if digits is None:
            current = self.current(name)
            built = self._read(current) if current else None
            if built is None:
                raise UnknownImage(
                    f"image {name} is not built on this machine", hint=f"run `sandpool image build {name}`"
                )
            return built
        found = [built for built in self.list_all() if built.digest.startswith(digits) and name in (None, built.name)]
        if len(found) != 1:
            problem = f"{len(found)} images match" if found else "no image matches"
            raise UnknownImage(f"{problem} {ref}", hint="`sandpool image list` shows what is built here")
        return found[0]

    def list_all(self) -> list[BuiltImage]:
        """Every complete image, by name, newest first."""
        folder = self._folder / "images"
        entries = [self._read(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []
        return sorted(
            (built for built in entries if built), key=lambda built: (built.name, -built.built_at.timestamp())
        )

    def refs(self) -> list[str]:
        """What can be started: every plain name that means an image, and every `name@digest`."""
        everything = self.list_all()
        digests = {built.digest for built in everything}
        names = {built.name for built in everything if self.current(built.name) in digests}
        return sorted(names) + [f"{built.name}@{built.digest}" for built in everything]

    def current(self, name: str) -> str | None:
        """The digest that the plain name means."""
        try:
            return (self._folder / "names" / name).read_text().strip()
        except FileNotFoundError:
            return None

    def has(self, digest: str) -> bool:
        return self._read(digest) is not None

    @contextmanager
    def locked(self, name: str, timeout_s: float) -> Iterator[None]:
        """Only one process at a time builds the same thing. ImageBusy when another is not done within `timeout_s`."""
        descriptor = self._open_lock(name)
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        hint = "wait for it, or give it more time"
                        raise ImageBusy("another process is building this image", hint=hint) from None
                    time.sleep(LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def in_use(self, digest: str) -> Iterator[None]:
        """While this is held, `prune` leaves the image alone. For hosts, as long as they may start sandboxes of it."""
        descriptor = self._open_lock(f"use-{digest}")
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ImageBusy("the image is being removed", hint="build it again") from None
            if not self.has(digest):
                raise UnknownImage(f"image {digest[:12]} is not built on this machine")
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """An empty folder; gone afterwards unless it was published. Locked, so that `prune` knows that it is alive."""
        drafts = self._folder / "drafts"
        drafts.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(dir=drafts))
        draft.chmod(0o755)
        descriptor = self._open_lock(f"draft-{draft.name}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            self._drop_lock(f"draft-{draft.name}", descriptor)

    def publish(self, draft: Path, built: BuiltImage) -> None:
        """Make a finished draft (with its rootfs/) the image, in one step, and let its name mean it."""
        (draft / META).write_bytes(msgspec.json.format(msgspec.json.encode(built), indent=2))
        self._move(draft, self._image_folder(built.digest))
        self.point(built.name, built.digest)

    def point(self, name: str, digest: str) -> None:
        """Let the plain name mean this version from now on."""
        names = self._folder / "names"
        names.mkdir(parents=True, exist_ok=True)
        new = names / f".{name}.{os.getpid()}"
        new.write_text(f"{digest}\n")
        new.rename(names / name)

    def layer(self, digest: str) -> Path | None:
        """The Debian system of that digest, or None when it is not there."""
        rootfs = self._folder / "layers" / digest / "rootfs"
        return rootfs if rootfs.is_dir() else None

    def publish_layer(self, draft: Path, digest: str) -> Path:
        self._move(draft, self._folder / "layers" / digest)
        return self._folder / "layers" / digest / "rootfs"

    def prune(self, *, keep: int = 1, dry_run: bool = False) -> list[BuiltImage]:
        """Remove images that are neither what a name means, nor among the newest `keep` of their name, nor in use.

        Returns them. Layers that no remaining image uses and drafts of builds that died go too.
        """
        removed: list[BuiltImage] = []
        seen: dict[str, int] = {}
        everything = self.list_all()
        for built in everything:
            seen[built.name] = seen.get(built.name, 0) + 1
            if built.digest == self.current(built.name) or seen[built.name] <= keep:
                continue
            if dry_run or self._remove(built.digest):
                removed.append(built)
        if not dry_run:
            self._remove_unused_layers({built.layer for built in everything if built not in removed})
            self._remove_dead_drafts()
        return removed

    def _remove(self, digest: str) -> bool:
        descriptor = self._open_lock(f"use-{digest}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._discard(self._image_folder(digest))
        except BlockingIOError:
            return False  # in use
        finally:
            self._drop_lock(f"use-{digest}", descriptor)
        return True

    def _remove_unused_layers(self, used: set[str]) -> None:
        layers = self._folder / "layers"
        for layer in layers.iterdir() if layers.is_dir() else ():
            # A build that is about to use the layer holds its lock; then it is left to the next prune.
            with contextlib.suppress(ImageBusy):
                if layer.name not in used:
                    with self.locked(layer.name, 0):
                        self._discard(layer)

    def _remove_dead_drafts(self) -> None:
        drafts = self._folder / "drafts"
        for draft in drafts.iterdir() if drafts.is_dir() else ():
            descriptor = self._open_lock(f"draft-{draft.name}")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(draft, ignore_errors=True)
            except BlockingIOError:
                os.close(descriptor)
                continue
            self._drop_lock(f"draft-{draft.name}", descriptor)

    def _discard(self, folder: Path) -> None:
        """Gone under its name in one step, then deleted."""
        drafts = self._folder / "drafts"
        drafts.mkdir(parents=True, exist_ok=True)
        doomed = Path(mkdtemp(dir=drafts))
        if folder.exists():
            folder.rename(doomed / folder.name)
        shutil.rmtree(doomed, ignore_errors=True)

    def _move(self, draft: Path, final: Path) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # incomplete: an image.json that cannot be read
            self._discard(final)
        draft.rename(final)

    def _read(self, digest: str) -> BuiltImage | None:
        try:
            return msgspec.json.decode((self._image_folder(digest) / META).read_bytes(), type=BuiltImage)
        except (OSError, msgspec.DecodeError):
            return None

    def _image_folder(self, digest: str) -> Path:
        return self._folder / "images" / digest

    def _open_lock(self, name: str) -> int:
        locks = self._folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _drop_lock(self, name: str, descriptor: int) -> None:
        (self._folder / "locks" / name).unlink(missing_ok=True)
        os.close(descriptor)


def now() -> datetime:
    return datetime.now(UTC)
