"""For health checks: `python -P -m worker.health train|metrics|generate` ends with 0 while the heartbeat is young."""

from __future__ import annotations

import sys
from datetime import timedelta

from sqlalchemy import func, select

from core.db import sessions
from core.jobs.tables import Worker
from core.settings import settings
from worker.heartbeat import worker_name


def main(kind: str) -> str | None:
    """What is wrong, for sys.exit; None when all is well."""
    name = worker_name(kind)
    with sessions()() as session:
        age: timedelta | None = session.scalar(
            select(func.clock_timestamp() - Worker.last_heartbeat_at).where(Worker.name == name)
        )
    if age is None:
        return f"The worker {name} has never been seen."
    if age > timedelta(seconds=settings().lease_s):
        return f"The worker {name} was last seen {age} ago."
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
