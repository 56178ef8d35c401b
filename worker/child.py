"""What the training and the evaluating child have in common: they speak in ticks.

This module imports no torch, so that a child binds itself to its parent (core.parent) before seconds of imports.
"""

from __future__ import annotations

import argparse
import errno
import os
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import OutOfMemory, SlaeganError, StoreFull, lacks_memory
from core.schemas.ticks import ErrorTick, Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ChildArguments(argparse.Namespace):
    """The command line of a child: SPEC.json --ticks-fd N --parent-pid P [--threads T]."""

    spec: Path
    ticks_fd: int
    parent_pid: int
    threads: int


def parse_arguments(arguments: Sequence[str] | None = None) -> ChildArguments:
    """Read the command line; threads is 0 where torch shall choose."""
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", type=Path)
    parser.add_argument("--ticks-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args(arguments, namespace=ChildArguments())


def emitter(descriptor: int) -> Callable[[Tick], None]:
    """Give the function that writes a tick as one line of JSON; threads may share it.

    Args:
        descriptor: an open pipe to the parent. It is not passed on to processes that this one starts: they would
            keep the pipe open after this one's end.
    """
    os.set_inheritable(descriptor, False)
    pipe = open(descriptor, "wb", closefd=False)  # noqa: SIM115  # open as long as the process
    lock = threading.Lock()

    def emit(tick: Tick) -> None:
        with lock:
            pipe.write(tick.model_dump_json().encode() + b"\n")
            pipe.flush()

    return emit


def run_guarded(work: Callable[[], None], *, emit: Callable[[Tick], None]) -> int:
    """Do the work of a child; tell a failure that the service knows as an ErrorTick.

    Args:
        work: returns when done.
        emit: where the ErrorTick goes.

    Returns:
        The exit code: 0, or 1 after a failure. A failure that is no SlaeganError, and no lack of memory or disk,
        leaves its traceback on stderr and no tick.
    """
    try:
        work()
    except SlaeganError as error:
        failure = error
    except Exception as error:  # noqa: BLE001  # the outermost frame: everything is told, nothing swallowed
        traceback.print_exc()
        known = _understood(error)
        if known is None:
            return 1
        failure = known
    else:
        return 0
    emit(ErrorTick(code=failure.code, message=failure.message, details=failure.details))
    return 1


def _understood(error: Exception) -> SlaeganError | None:
    if _lacks_disk(error):
        return StoreFull(f"The disk of the worker's scratch folder is full: free some space. ({error})")
    if lacks_memory(error):
        return OutOfMemory(f"{error}. Choose a smaller batch, width or resolution, or a larger device.")
    return None


def _lacks_disk(error: BaseException | None) -> bool:
    # Libraries raise types of their own for a full disk (safetensors), or trip over it once more on the way out
    # (torch's file writer): what they share is the system's words, here or in the error before.
    while error is not None:
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        error = error.__cause__ or error.__context__
    return False
