"""How every process of the stack is started: guarded, and with this code before any other."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from client.local import guard

if TYPE_CHECKING:
    from collections.abc import Sequence


def guarded(command: Sequence[str], *, lock: Path, death: str = "SIGTERM") -> list[str]:
    """The command line that runs a command under the guard.

    Args:
        command: program and arguments.
        lock: what the process holds, shared, while it lives.
        death: the signal that the process gets when its parent dies.
    """
    return [sys.executable, "-I", "-S", guard.__file__, death, str(lock), *command]


def child_environment() -> dict[str, str]:
    """What every part inherits: this code first, never the folder where the user happens to be.

    An installed package needs no path; a checkout is named, since PYTHONSAFEPATH and another working folder hide it.
    """
    root = Path(__file__).parents[2]
    environment = dict(os.environ)
    environment["PYTHONSAFEPATH"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    environment[guard.PARENT] = str(os.getpid())
    if root.name != "site-packages":
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    return environment
