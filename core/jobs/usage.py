"""Sums of the time that a tenant's attempts held devices."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, DateTime, Row, and_, column, func, literal, or_, select
from sqlalchemy.dialects.postgresql import array

from core.errors import InvalidRequest
from core.jobs import queries
from core.jobs.tables import Job, JobAttempt
from core.pages import newest_first
from core.schemas.usage import AttemptOut, DayUsageOut, DeviceTime, JobUsageOut

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from uuid import UUID

    from sqlalchemy.orm import Session

DEFAULT_DAYS = 30
MAX_DAYS = 366
_EARLIEST, _LATEST = datetime(2001, 1, 1, tzinfo=UTC), datetime(3001, 1, 1, tzinfo=UTC)
_TIME = DateTime(timezone=True)
# What sums are kept apart by.
_DEVICE = func.split_part(func.coalesce(JobAttempt.device, "unknown"), ":", 1)
_TRAINING = JobAttempt.kind == "training"
_GROUPS = (_DEVICE, _TRAINING)


@dataclass(frozen=True)
class Period:
    """From when to when, and what time the database has now."""

    since: datetime
    until: datetime
    now: datetime

    @classmethod
    def of(cls, session: Session, *, since: datetime | None, until: datetime | None) -> Period:
        """By default the thirty days before now.

        Raises:
            InvalidRequest: it ends before it begins, is longer than a year, or lies where no calendar goes.
        """
        for name, time in (("since", since), ("until", until)):
            if time is not None and not _EARLIEST <= time <= _LATEST:
                raise InvalidRequest(f"{name} is {time.isoformat()}: give a time of this millennium.")
        now: datetime = session.scalars(select(func.clock_timestamp())).one()
        end = until or now
        begin = since or end - timedelta(days=DEFAULT_DAYS)
        if begin >= end:
            raise InvalidRequest(f"since ({begin.isoformat()}) must be before until ({end.isoformat()}).")
        if end - begin > timedelta(days=MAX_DAYS):
            raise InvalidRequest(
                f"since and until are {(end - begin).days} days apart; {MAX_DAYS} are allowed: ask in parts."
            )
        return cls(begin.astimezone(UTC), end.astimezone(UTC), now)

    def days(self) -> list[tuple[datetime, datetime]]:
        """Its days in UTC; the first and the last may be shorter."""
        found, begin = [], self.since
        while begin < self.until:
            midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            found.append((begin, min(midnight, self.until)))
            begin = midnight
        return found


def total(session: Session, period: Period, *, tenant_id: UUID) -> DeviceTime:
    """The sum over all of a tenant's attempts."""
    rows = session.execute(
        select(literal(0), *_sums(period, period.since, period.until))
        .where(JobAttempt.tenant_id == tenant_id, _within(period.since, period.until))
        .group_by(*_GROUPS)
    ).all()
    return DeviceTime(**_folded(rows)[0])


def by_job(
    session: Session, period: Period, *, tenant_id: UUID, limit: int, cursor: str | None
) -> tuple[list[JobUsageOut], str | None]:
    """A page of the tenant's jobs that held a device within a period, the newest first."""
    within = _within(period.since, period.until)
    used = select(JobAttempt.id).where(JobAttempt.job_id == Job.id, within).exists()
    query = select(Job).where(Job.tenant_id == tenant_id, used)
    jobs, next_cursor = newest_first(session, query, table=Job, limit=limit, cursor=cursor)
    rows = session.execute(
        select(JobAttempt.job_id, *_sums(period, period.since, period.until))
        .where(JobAttempt.job_id.in_([job.id for job in jobs]), within)
        .group_by(JobAttempt.job_id, *_GROUPS)
    ).all()
    sums = _folded(rows)
    attempts: dict[UUID, int] = defaultdict(int)
    for row in rows:
        attempts[row.job_id] += row.attempts
    items = [
        JobUsageOut(job_id=job.id, name=job.name, attempts=attempts[job.id], **sums[job.id]) for job in jobs
    ]
    return items, next_cursor


def by_day(session: Session, period: Period, *, tenant_id: UUID) -> list[DayUsageOut]:
    """Every day of a period, also those on which nothing ran; an attempt over midnight is part of both days."""
    days = period.days()
    begins, ends = (array(times, type_=_TIME) for times in zip(*days, strict=True))
    day = (
        func.unnest(begins, ends)
        .table_valued(column("begins", _TIME), column("ends", _TIME), name="day")
        .render_derived()
    )
    rows = session.execute(
        select(day.c.begins, *_sums(period, day.c.begins, day.c.ends))
        .join_from(day, JobAttempt, _within(day.c.begins, day.c.ends))
        .where(JobAttempt.tenant_id == tenant_id)
        .group_by(day.c.begins, *_GROUPS)
    ).all()
    sums = _folded(rows)
    return [DayUsageOut(day=begin.date(), **sums[begin]) for begin, _ in days]


def attempts(session: Session, *, tenant_id: UUID, job_id: UUID) -> list[AttemptOut]:
    """All attempts of a job, the first one first; raises NotFound where the tenant has no such job."""
    job = queries.get(session, tenant_id=tenant_id, job_id=job_id)
    lasted = func.coalesce(JobAttempt.ended_at, func.clock_timestamp()) - JobAttempt.started_at
    seconds = func.greatest(func.extract("epoch", lasted), 0)
    found = session.execute(
        select(JobAttempt, seconds)
        .where(JobAttempt.job_id == job.id)
        .order_by(JobAttempt.started_at, JobAttempt.id)
    )
    return [
        AttemptOut(
            kind=row.kind,
            evaluation_id=row.evaluation_id,
            run=row.run,
            number=row.number,
            worker=row.worker,
            device=row.device,
            started_at=row.started_at,
            ended_at=row.ended_at,
            device_s=device_s,
            outcome=row.outcome,
        )
        for row, device_s in found
    ]


def _within(begin: Any, end: Any) -> ColumnElement[bool]:
    """The condition that an attempt held its device at some time between two."""
    return and_(JobAttempt.started_at < end, or_(JobAttempt.ended_at.is_(None), JobAttempt.ended_at > begin))


def _sums(period: Period, begin: Any, end: Any) -> tuple[Any, ...]:
    """By device and kind: how long attempts held a device between two times, and how many did."""
    held_until = func.least(func.coalesce(JobAttempt.ended_at, period.now), end)
    lasted = func.extract("epoch", held_until - func.greatest(JobAttempt.started_at, begin))
    # One that began after `now` was read lasts for less than nothing.
    seconds = func.sum(func.greatest(lasted, 0))
    return (
        _DEVICE.label("device"),
        _TRAINING.label("training"),
        seconds.label("seconds"),
        func.count().label("attempts"),
    )


def _folded(rows: Sequence[Row[Any]]) -> defaultdict[Hashable, dict[str, Any]]:
    """The fields of DeviceTime, by the first column."""
    sums: defaultdict[Hashable, dict[str, Any]] = defaultdict(
        lambda: {"device_s": 0.0, "training_s": 0.0, "evaluation_s": 0.0, "by_device": defaultdict(float)}
    )
    for row in rows:
        held, seconds = sums[row[0]], float(row.seconds)
        held["device_s"] += seconds
        held["training_s" if row.training else "evaluation_s"] += seconds
        held["by_device"][row.device] += seconds
    return sums
