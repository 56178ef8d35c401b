"""Supervision: one child computes, a thread keeps the lease, the main thread carries out the child's effects.

The main thread waits for the child and for the store, so a stop, a cancel or a lost lease is acted on within a poll, or
once an artifact is stored.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextvars import copy_context
from enum import Enum
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, Self, TypeVar

from sqlalchemy.exc import DBAPIError

from core.db import sessions
from core.errors import LeaseLost
from core.jobs.lease import Wish
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from core.schemas.ticks import Tick
    from worker.process import Child
    from worker.stopping import Flag

logger = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
RETRY_S = 0.5


class Ending(Enum):
    """Why a supervised child is no more."""

    BY_ITSELF = "by itself"
    STOPPED = "the worker is told to stop"
    CANCELLED = "cancelled"
    EARLY = "a rule calls for no more"
    PAUSED = "it is to pause"
    DRAINED = "the worker is being drained"


_ENDINGS = {Wish.FINISH: Ending.EARLY, Wish.PAUSE: Ending.PAUSED, Wish.HAND_BACK: Ending.DRAINED}


class Effects(Protocol):
    """What a child's output does to the world."""

    def carry_out(self, ticks: list[Tick], log: list[str]) -> None:
        """Write artifacts to the store, then rows. Raises LeaseLost, InfrastructureError."""


class LeaseKeeper:
    """A thread that extends a lease and sees a wish, also while the main thread is busy with the store.

    Args:
        beat: in a transaction: extends the lease where told to, and returns what is wanted; raises LeaseLost.
    """

    def __init__(self, beat: Callable[[Session, bool], Wish]) -> None:
        self.wish = Wish.GO_ON
        self.lost = False
        self._beat = beat
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._keep,), name="lease", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _keep(self) -> None:
        extended = time.monotonic()
        while not self._ended.wait(settings().poll_s):
            due = time.monotonic() - extended >= settings().heartbeat_s
            try:
                with sessions().begin() as session:
                    self.wish = self._beat(session, due)
            except LeaseLost:
                self.lost = True
                return
            except DBAPIError as error:
                logger.warning("The database took no heartbeat: %s", error)
                if time.monotonic() - extended > settings().lease_s:
                    self.lost = True
                    return
            else:
                extended = time.monotonic() if due else extended


def write(
    work: Callable[Concatenate[Session, Arguments], Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Do a transaction, reading ones too, again and again while the database is away, no longer than a lease lives.

    Everything written is fenced or has a unique key, so that a commit whose answer was lost may be repeated; at worst
    an event or a log line stands twice.
    """
    deadline = time.monotonic() + settings().lease_s
    while True:
        try:
            with sessions().begin() as session:
                return work(session, *args, **kwargs)
        except DBAPIError as error:
            if not error.connection_invalidated and not _is_outage(error):
                raise
            if time.monotonic() > deadline:
                raise LeaseLost("The database was away for longer than a lease.") from error
            logger.warning("The database is away, trying again: %s", error)
            time.sleep(RETRY_S)


def _is_outage(error: DBAPIError) -> bool:
    return type(error.orig).__name__ in {
        "OperationalError",
        "AdminShutdown",
        "DeadlockDetected",
        "IdleInTransactionSessionTimeout",
        "SerializationFailure",
        "CannotConnectNow",
        "ConnectionTimeout",
    }


def supervise(child: Child, *, effects: Effects, keeper: LeaseKeeper, stop: Flag) -> Ending:
    """Stay with a child until it has ended, and everything it left is carried out.

    Args:
        child: running.
        effects: what its ticks do.
        keeper: started.
        stop: set by a signal: the child may save, then goes.

    Raises:
        LeaseLost: write nothing more.
        InfrastructureError: an effect failed for good.
    """
    ending, kill_at = Ending.BY_ITSELF, float("inf")
    while not child.over:
        ticks, log = child.read(min(settings().poll_s, 0.5))
        if keeper.lost:
            raise LeaseLost("The lease ran out or was taken.")
        if ending is not Ending.CANCELLED:
            effects.carry_out(ticks, log)
        if ending is not Ending.CANCELLED and keeper.wish is Wish.CANCEL:
            ending, kill_at = Ending.CANCELLED, time.monotonic() + settings().kill_s
            child.signal(signal.SIGTERM)
        elif ending is Ending.BY_ITSELF and (stop.is_set or keeper.wish is not Wish.GO_ON):
            ending = Ending.STOPPED if stop.is_set else _ENDINGS[keeper.wish]
            kill_at = time.monotonic() + settings().stop_s
            child.signal(signal.SIGTERM)
        if time.monotonic() > kill_at:
            child.signal(signal.SIGKILL)
    return ending
