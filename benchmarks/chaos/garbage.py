"""After the last cycle: garbage collection leaves no file without a row, and takes none that a row names."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.chaos.rig import LEASE_S
from client.local.children import child_environment

if TYPE_CHECKING:
    from benchmarks.chaos.rig import Rig

_GRACE_S = 2 * LEASE_S + 1  # younger files stay; the collection itself takes no less than two leases


def left(rig: Rig) -> list[str]:
    """Collect garbage once all work has ended, and compare the store with the database: a sentence a violation."""
    time.sleep(_GRACE_S)
    command = [sys.executable, "-P", "-c", "from client.cli import main; main()", "gc", "--grace", "0"]
    environment = child_environment() | rig.services.environment
    collected = subprocess.run(
        command, cwd=rig.services.folder, env=environment, capture_output=True, text=True, check=False
    )
    if collected.returncode != 0:
        return [f"the garbage collection failed: {collected.stderr[-500:]}"]
    named = rig.database.stored_keys()
    there = {
        path.relative_to(rig.store).as_posix()
        for folder in ("jobs", "pictures")
        for path in rig.store.glob(f"{folder}/**/*")
        if path.is_file()
    }
    return [
        *(f"{key} has no row, and garbage collection left it" for key in sorted(there - named)),
        *(f"the row of {key} has no file after garbage collection" for key in sorted(named - there)),
    ]
