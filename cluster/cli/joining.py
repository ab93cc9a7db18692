"""Joins the Ray cluster of the configuration for one command, and leaves it after. Used by the commands that need to
speak to a scheduler, a host or a node; knows nothing of what they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.cli.invocation import Invocation


@contextmanager
def joined(invocation: Invocation) -> Iterator[str]:
    """Connected; the namespace of our actors. Raises NotRunning."""
    from cluster.dispatch import NAMESPACE  # noqa: PLC0415 - ray costs 1 s, which --help need not pay
    from cluster.dispatch_kept import join, leave  # noqa: PLC0415 - as above

    settings = invocation.settings
    folder = Path(settings.ray.folder) if settings.ray.folder else Path(settings.folder) / "ray"
    ours = join(NAMESPACE, settings.ray.address, folder)
    try:
        yield NAMESPACE
    finally:
        if ours:
            leave()
