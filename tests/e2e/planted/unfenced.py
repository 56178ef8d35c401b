"""A worker with a planted bug: its writes do not carry the lease's token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.jobs.lease import Attempt
from core.jobs.tables import Job
from worker.app import main

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement


def _held(_: Attempt) -> ColumnElement[bool]:
    return Job.status == "running"


Attempt.held = _held  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
