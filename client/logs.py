"""The lines of a job's log, for a terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from client.http import SlaeGan
    from core.schemas.jobs import LogOut

# A log may hold what moves a cursor, clears a terminal or sets its title: tabs stay, the rest goes.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def printed(client: SlaeGan, job_id: UUID, *, follow: bool, tail: int | None) -> Iterator[LogOut]:
    """The log, its lines as plain text.

    Args:
        client: of the service.
        job_id: whose.
        follow: whether to wait for more until the job is over.
        tail: begin with the last so many lines; None: with the first.
    """
    after = 0
    for line in client.logs(job_id, tail=tail):
        after = line.seq
        yield line.model_copy(update={"line": plain(line.line)})
    if follow:
        for line in client.follow_logs(job_id, after=after):
            yield line.model_copy(update={"line": plain(line.line)})


def plain(line: str) -> str:
    """A line without control characters; of a progress bar that wrote over itself, what was written last."""
    return _CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2])
