"""What can go wrong with an image.

ImageError (a WorkerError)
├── RecipeInvalid          image.toml or its lock says something that cannot be built; `where` names the key
├── UnknownImage           no built image of that name or digest
├── ImageBuildFailed       a step failed; `log_tail` is the end of what it said. Nothing of the image is kept
├── BuildToolMissing       a program that builds images is not installed; the hint says how to get it
├── ImageBusy     (retry)  another process builds or uses it
└── ArchiveInvalid         an OCI archive that is damaged, too large, or would write where it must not
"""

from __future__ import annotations

from workers.errors import WorkerError


class ImageError(WorkerError):
    code = "image.failed"


class RecipeInvalid(ImageError):
    code = "image.recipe"

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = where


class UnknownImage(ImageError):
    code = "image.unknown"


class ImageBuildFailed(ImageError):
    code = "image.build"

    def __init__(self, step: str, message: str, log_tail: str = "") -> None:
        super().__init__(f"{step}: {message}")
        self.step = step
        self.log_tail = log_tail


class BuildToolMissing(ImageError):
    code = "image.tool_missing"


class ImageBusy(ImageError):
    code = "image.busy"
    retry = True


class ArchiveInvalid(ImageError):
    code = "image.archive"
