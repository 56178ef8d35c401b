"""Which code this is: the commit, for the record of a run."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from core.settings import settings

_ROOT = Path(__file__).parent.parent


@cache
def commit() -> str | None:
    """The git commit of this code: as the image was built with, or of the checkout; None where neither tells."""
    if settings().commit or not (_ROOT / ".git").exists():
        return settings().commit or None
    try:
        found = subprocess.run(
            ["git", "-C", str(_ROOT), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or a checkout of another user's that git does not trust
    return found.stdout.strip()
