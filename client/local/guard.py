"""Runs a command that ends with its parent and holds the data folder's lock while it lives.

A file to be run by itself, `python -I -S guard.py SIGNAL LOCK COMMAND…`: standard library only, and no import of
ours, so that it starts in milliseconds under any account. It becomes the command (exec), so the pid stays.

Linux clears the parent-death signal when credentials change: whatever changes them (unshare, setpriv) comes before
this file on the command line. The signal also follows the thread that made the process: start it from a main thread.
Elsewhere than on Linux there is no such signal, and the command simply runs.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PARENT = "SLAEGAN_GUARD_PARENT"


def main(argv: list[str]) -> None:
    """Set the parent-death signal, take a shared lock, become the command.

    Args:
        argv: the signal's name (SIGTERM), the lock's path, the command and its arguments.

    Raises:
        SystemExit: the parent is gone already, and the command must not start.
    """
    signal_name, lock_path, *command = argv
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.Signals[signal_name]), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # A parent that died before the call above sends nothing any more.
    expected = os.environ.get(PARENT)
    if expected is not None and int(expected) != os.getppid():
        raise SystemExit(f"The parent process {expected} is gone: {command[0]} is not started.")
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    os.set_inheritable(lock, True)
    os.environ[PARENT] = str(os.getpid())
    os.execvp(command[0], command)  # noqa: S606  # this file is here to become another program


if __name__ == "__main__":
    main(sys.argv[1:])
