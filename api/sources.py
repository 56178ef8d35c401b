"""What streams are fed with: jobs' events, and the lines of their logs."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Uuid, column, func, select
from sqlalchemy.dialects.postgresql import array

from api.feed import News
from core.db import sessions
from core.errors import InfrastructureError
from core.jobs import queries
from core.jobs.tables import Job, JobEvent, LogLine
from core.logs.reading import as_line, read_lines
from core.schemas.jobs import EventOut, LogOut, Status

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import TableValuedAlias

PAGE = 500
_logger = logging.getLogger("slaegan.api")


class Events:
    """A source of events; their number is the job's event_seq."""

    def newest(self, job_id: UUID) -> int:
        with sessions()() as session:
            return session.execute(select(Job.event_seq).where(Job.id == job_id)).scalar_one()

    def history(self, job_id: UUID, after: int) -> list[EventOut]:
        with sessions()() as session:
            return [as_event(row) for row in queries.events(session, job_id=job_id, after=after, limit=PAGE)]

    def news(self, positions: dict[UUID, int]) -> News[EventOut]:
        """One query for the jobs, one for the events of those that moved."""
        found: dict[UUID, list[EventOut]] = {}
        with sessions()() as session:
            rows = session.execute(
                select(Job.id, Job.event_seq, Job.status).where(Job.id.in_(positions))
            ).all()
            moved = {row.id: positions[row.id] for row in rows if row.event_seq > positions[row.id]}
            if moved:
                place = _places(moved)
                query = select(JobEvent).join(
                    place, (JobEvent.job_id == place.c.job_id) & (JobEvent.seq > place.c.seq)
                )
                for event in session.scalars(query.order_by(JobEvent.job_id, JobEvent.seq)):
                    found.setdefault(event.job_id, []).append(as_event(event))
        return News(found, over={row.id for row in rows if Status(row.status).final})


class Logs:
    """A source of log lines; their number is the job's log_seq."""

    def newest(self, job_id: UUID) -> int:
        with sessions()() as session:
            return session.execute(select(Job.log_seq).where(Job.id == job_id)).scalar_one()

    def history(self, job_id: UUID, after: int) -> list[LogOut]:
        return list(islice(read_lines(job_id, after=after), PAGE))

    def news(self, positions: dict[UUID, int]) -> News[LogOut]:
        """One query for the jobs, one for the new lines of those that moved; a job's chunk is read once, when it came.

        At most a page of lines a job: who writes faster is followed page by page.
        """
        found: dict[UUID, list[LogOut]] = {}
        with sessions()() as session:
            rows = session.execute(select(Job.id, Job.log_seq, Job.status).where(Job.id.in_(positions))).all()
            moved = {row.id: positions[row.id] for row in rows if row.log_seq > positions[row.id]}
            if moved:
                place = _places(moved)
                new = (LogLine.seq > place.c.seq) & (LogLine.seq <= place.c.seq + PAGE)
                query = select(LogLine).join(place, (LogLine.job_id == place.c.job_id) & new)
                for line in session.scalars(query.order_by(LogLine.job_id, LogLine.seq)):
                    found.setdefault(line.job_id, []).append(as_line(line))
        for job_id, after in moved.items():
            lines = found.get(job_id)
            if not lines or lines[0].seq != after + 1:  # The next line has left the database for a chunk.
                found[job_id] = self._from_chunks(job_id, after)
        told = positions | {job_id: lines[-1].seq for job_id, lines in found.items() if lines}
        return News(
            found, over={row.id for row in rows if Status(row.status).final and told[row.id] >= row.log_seq}
        )

    def _from_chunks(self, job_id: UUID, after: int) -> list[LogOut]:
        try:
            return self.history(job_id, after)
        except InfrastructureError as error:
            # This job's streams are silent until the store is back; the others go on.
            _logger.warning("the log of job %s cannot be read, trying again: %s", job_id, error)
            return []


def _places(positions: dict[UUID, int]) -> TableValuedAlias:
    """Numbers by job, as a table to join with: columns job_id and seq."""
    ids = func.unnest(array(positions.keys(), type_=Uuid), array(positions.values(), type_=BigInteger))
    return ids.table_valued(column("job_id", Uuid), column("seq", BigInteger), name="place").render_derived()


def as_event(row: JobEvent) -> EventOut:
    """An event as the API tells it."""
    return EventOut(seq=row.seq, type=row.type, at=row.at, payload=row.payload)
