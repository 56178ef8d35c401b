"""How a pool child learns that it should stop: SIGUSR2 from its parent, SIGTERM to the group, the parent's death."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from core.parent import set_parent_death_signal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Flag:
    """Set by a signal handler, read by the supervisor's loop."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self, *_: Any) -> None:
        self.is_set = True


STOP = Flag()


def prepare_pool_child() -> None:
    """Once in a new pool child: SIGUSR2 never kills it, and its parent's death is a SIGTERM."""
    parent_pid = os.getppid()
    signal.signal(signal.SIGUSR2, STOP.set)
    set_parent_death_signal(signal.SIGTERM)
    if os.getppid() != parent_pid:  # The parent died before the signal was asked for.
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def orderly() -> Iterator[Flag]:
    """While work is supervised, SIGTERM sets the flag; outside, it ends the process as Celery expects."""
    before = signal.signal(signal.SIGTERM, STOP.set)
    try:
        yield STOP
    finally:
        signal.signal(signal.SIGTERM, before)
