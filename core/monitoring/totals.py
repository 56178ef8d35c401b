"""What has happened since this process began to count: read from the events, a stretch of time after the other.

A count over all events would take longer with every job; counters in a row would make all workers wait for each other.
Whoever adds up such counters (Prometheus' `rate`, `increase`) expects them to begin at zero with their process.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg.errors import QueryCanceled
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# After a pause, a reading takes no longer than its share: the rest comes with the next ones.
STRETCH = timedelta(minutes=10)
SHORTEST = timedelta(seconds=1)
# So often a stretch may take longer than the database is given, each time halved, before it is passed over.
TRIES = 3
# How an attempt ends, by the event that ends it.
ATTEMPT_ENDS = {
    "evaluating": "finished",
    "queued": "requeued",
    "paused": "paused",
    "failed": "failed",
    "cancelled": "cancelled",
}
JOB_ENDS = ("succeeded", "failed", "cancelled")
EVALUATION_ENDS = {"evaluated": "done", "evaluation_failed": "failed", "evaluation_skipped": "skipped"}
# The sweep's words for a lost worker carry no code. A clock that was set back must not make a count fall.
_EVENTS = """
select e.type,
  coalesce(e.payload->>'code', case when e.payload ? 'infrastructure_failures' then 'workers_lost' end, '') as code,
  coalesce(before.type, '') as before,
  count(*) as events,
  coalesce(sum(greatest(extract(epoch from e.at - before.at), 0)) filter (where before.type = 'running'), 0)::float8
    as device_s,
  coalesce(sum(greatest(extract(epoch from e.at - v.created_at), 0)), 0)::float8 as evaluation_s
from job_events e
left join lateral (
  select b.type, b.at from job_events b
  where e.type in ('queued', 'evaluating', 'paused', 'failed', 'cancelled') and b.job_id = e.job_id and b.seq < e.seq
    and b.type in ('queued', 'running', 'evaluating', 'paused', 'succeeded', 'failed', 'cancelled')
  order by b.seq desc limit 1
) before on true
left join evaluations v on e.type = 'evaluated' and v.id = (e.payload->>'evaluation_id')::uuid
where e.at > :since and e.at <= :until
group by 1, 2, 3
"""
_logger = logging.getLogger(__name__)


@dataclass
class Totals:
    """Counts that only rise.

    Attributes:
        jobs_submitted: and runs that were begun anew.
        attempts_started: claims by workers.
        attempts_ended: by outcome.
        jobs_ended: by outcome.
        failures: of jobs that failed, by the error's code.
        requeues: of attempts that went back to the queue, by the error's code; `handed_back` without one.
        evaluations: by outcome.
        device_s: time that ended attempts held a device, seconds.
        evaluation_s: from snapshots to their metrics, seconds, of all that are done.
    """

    jobs_submitted: int = 0
    attempts_started: int = 0
    attempts_ended: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(ATTEMPT_ENDS.values(), 0))
    )
    jobs_ended: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(JOB_ENDS, 0)))
    failures: Counter[str] = field(default_factory=Counter)
    requeues: Counter[str] = field(default_factory=Counter)
    evaluations: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(EVALUATION_ENDS.values(), 0))
    )
    device_s: float = 0.0
    evaluation_s: float = 0.0
    _until: datetime | None = None
    _stretch: timedelta = STRETCH
    _timeouts: int = 0

    def advance(self, session: Session, *, settle_s: float) -> None:
        """Count what has happened since the last call; the first one only begins.

        A stretch that the database has no time for is tried in shorter pieces by the next calls, then passed over: the
        counts then miss it, and the log says so.

        Args:
            session: any.
            settle_s: younger events wait for the next call: a transaction may still commit one that is older than
                what can be seen.
        """
        now = session.execute(text("select clock_timestamp()")).scalar_one() - timedelta(seconds=settle_s)
        if self._until is None:
            self._until = now
        until = min(now, self._until + self._stretch)
        if until <= self._until:
            return
        try:
            rows = session.execute(text(_EVENTS), {"since": self._until, "until": until}).all()
        except OperationalError as error:
            if not isinstance(error.orig, QueryCanceled):
                raise
            self._try_less(self._until, until)
            return
        self._until, self._timeouts = until, 0
        self._stretch = min(STRETCH, 2 * self._stretch)
        for row in rows:
            self._add(row)

    def _try_less(self, since: datetime, until: datetime) -> None:
        self._timeouts += 1
        if self._timeouts < TRIES:
            self._stretch = max(SHORTEST, (until - since) / 2)
            _logger.warning("The events of %s to %s took too long to count.", since, until)
            return
        self._until, self._timeouts = until, 0
        _logger.error(
            "The events of %s to %s are not counted: they took too long %d times.", since, until, TRIES
        )

    def _add(self, row: Any) -> None:
        kind, events = row.type, row.events
        if kind == "running":
            self.attempts_started += events
        elif kind == "queued" and row.before not in {"running", "paused"}:
            self.jobs_submitted += events
        if row.before == "running":
            self.attempts_ended[ATTEMPT_ENDS[kind]] += events
            self.device_s += row.device_s
            if kind == "queued":
                self.requeues[row.code or "handed_back"] += events
        if kind in JOB_ENDS:
            self.jobs_ended[kind] += events
        if kind == "failed":
            self.failures[row.code] += events
        if kind in EVALUATION_ENDS:
            self.evaluations[EVALUATION_ENDS[kind]] += events
            self.evaluation_s += row.evaluation_s
