"""The one child of a worker that stays between requests: started when it is needed, killed when it hangs, renewed."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from core.errors import InfrastructureError, LeaseLost, OutOfMemory, TimeLimit, from_code
from core.jobs.lease import Wish
from core.schemas.ticks import ErrorTick, RenderedTick
from core.settings import settings
from worker.process import Child

if TYPE_CHECKING:
    from pathlib import Path

    from worker.stopping import Flag
    from worker.supervisor import LeaseKeeper

logger = logging.getLogger(__name__)


class WarmChild:
    """At most one process; no thread but the main one asks it, since it dies with the thread that started it."""

    def __init__(self) -> None:
        self._child: Child | None = None

    def close(self) -> None:
        """Leave nothing of the process; the next request starts another."""
        if self._child is not None:
            child, self._child = self._child, None
            child.close()

    def answer(self, spec_path: Path, *, home: Path, keeper: LeaseKeeper, stop: Flag) -> RenderedTick | None:
        """Have a request answered.

        Args:
            spec_path: the file of its RenderSpec.
            home: exists; the process's current folder.
            keeper: of the request's lease, started.
            stop: set by a signal: the worker should end.

        Returns:
            None where the worker should end, or is drained; the process is gone then.

        Raises:
            LeaseLost: nobody wants the answer any more; the process is gone, since it would compute on.
            TimeLimit: it took too long.
            InfrastructureError: the process ended without an answer.
            SlaeganError: the process said why there is none.
        """
        self._tell(spec_path, home=home)
        try:
            rendered = self._waited_for(keeper=keeper, stop=stop)
        except (LeaseLost, TimeLimit, OutOfMemory, InfrastructureError):
            # It computes on, is gone already, or holds memory that the next request needs.
            self.close()
            raise
        if rendered is None:
            self.close()
        return rendered

    def _waited_for(self, *, keeper: LeaseKeeper, stop: Flag) -> RenderedTick | None:
        deadline = time.monotonic() + settings().render_timeout_s
        while time.monotonic() < deadline:
            if (tick := self._read()) is not None:
                return tick
            if keeper.lost:
                raise LeaseLost("The lease ran out or was taken.")
            if stop.is_set or keeper.wish is Wish.HAND_BACK:
                return None
        raise TimeLimit(
            f"It took longer than {settings().render_timeout_s:g} s: ask for fewer pictures, frames or steps."
        )

    def _tell(self, spec_path: Path, *, home: Path) -> None:
        """Tell the process what to do; one that has just ended for want of work, or was killed, is replaced."""
        if self._child is not None and self._child.return_code is None:
            try:
                self._child.tell(spec_path)
            except BrokenPipeError:
                logger.info("The rendering process has just ended: another one is started.")
            else:
                return
        self.close()
        self._child = Child(
            settings().render_module,
            None,
            work_dir=home,
            threads=settings().threads,
            arguments=("--idle-s", f"{settings().render_idle_s:g}"),
        )
        self._child.tell(spec_path)

    def _read(self) -> RenderedTick | None:
        """The answer, if it has come."""
        child = self._child
        assert child is not None
        ticks, log = child.read(min(settings().poll_s, 0.5))
        for line in log:
            logger.info("%s", line)
        for tick in ticks:
            if isinstance(tick, RenderedTick):
                return tick
            if isinstance(tick, ErrorTick):
                raise from_code(tick.code, tick.message, **tick.details)
        if child.over:
            raise InfrastructureError(
                f"The rendering process ended with code {child.return_code}.",
                last_lines=list(child.last_lines),
            )
        return None
