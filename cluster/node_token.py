"""Ray's authentication token on this machine: there before Ray asks for it, and readable by its owner only.

Ray writes the file for everybody to read when it makes one itself; whoever has the token can run any code as Sandpool.
Called before Ray is started or joined. On a cluster of several machines the same file must lie on each.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

TOKEN_FILE = Path(".ray/auth_token")
"""Below the home folder; Ray's default. RAY_AUTH_TOKEN_PATH names another, which is then left alone."""
TOKEN_BYTES = 32


def secure_token(home: Path | None = None) -> Path:
    """The file, made where it was missing; its rights taken back from all but its owner where it is ours."""
    path = (home or Path.home()) / TOKEN_FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _make(path)
    with contextlib.suppress(PermissionError):  # somebody else's, whose business it is
        path.chmod(0o600)
    return path


def _make(path: Path) -> None:
    """Whole from its first moment: another cluster that starts meanwhile may read it at any time."""
    file, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with open(file, "w", encoding="ascii") as opened:
            opened.write(secrets.token_hex(TOKEN_BYTES))
        with contextlib.suppress(FileExistsError):  # made by that one, and ours is not needed
            os.link(draft, path)
    finally:
        os.unlink(draft)
