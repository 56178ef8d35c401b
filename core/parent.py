"""Processes that die with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def set_parent_death_signal(number: signal.Signals) -> None:
    """Get a signal when the parent ends, in whatever way; Linux only, elsewhere nothing happens.

    Linux ties it to the thread that started this process, so the parent starts it from a thread that lives as
    long as the parent itself, or as long as this process is wanted.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def bind_to_parent(parent_pid: int) -> None:
    """Be killed when the parent ends; end at once if it has ended already.

    Args:
        parent_pid: who the parent should be. It differs from the present one if the parent died before this call.
    """
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit(f"the parent {parent_pid} has ended; this process ends too")
