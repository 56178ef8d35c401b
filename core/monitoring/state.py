"""What the database says of the whole service at this moment, for those who run it: a metric is a query.

Each is cheap however many jobs there are: it looks at what is alive, through an index that holds nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Gauge:
    """A metric of the present.

    Attributes:
        name: as Prometheus shows it.
        about: one sentence.
        query: each row has the labels' values and the number.
        labels: their values are few; none is a tenant or a job.
    """

    name: str
    about: str
    query: str
    labels: tuple[str, ...] = ()


_JOBS = """
select 'queued', count(*) from jobs where status = 'queued'
union all select 'running', count(*) from jobs where status = 'running'
union all select 'evaluating', count(*) from jobs where status = 'evaluating'
union all select 'paused', count(*) from jobs where status = 'paused'
"""
_DEPTH = """
select 'train', count(*) from jobs where status = 'queued'
union all select 'metrics', count(*) from evaluations where status = 'queued'
union all select 'generate', count(*) from renderings where status = 'queued'
union all select 'webhooks', count(*) from webhook_deliveries
  where status = 'pending' and next_attempt_at <= clock_timestamp()
"""
# A job that went back to the queue has waited since then, though it kept its place by age. None has waited for longer
# than its place says, so the first few tell: whoever of them was never tried has waited longer than all behind it.
_AGE = """
select 'train', coalesce(extract(epoch from clock_timestamp() - min(since)), 0) from (
  select greatest(coalesce(requeued.at, j.queued_at), j.not_before) as since
  from (select * from jobs where status = 'queued' order by queued_at limit 100) j
  left join lateral (
    select at from job_events
    where job_id = j.id and type = 'queued' and j.attempt > 0 order by seq desc limit 1
  ) requeued on true
) waiting where since <= clock_timestamp()
union all select 'metrics', coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)
  from evaluations where status = 'queued'
union all select 'generate', coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)
  from renderings where status = 'queued'
union all select 'webhooks', coalesce(extract(epoch from clock_timestamp() - min(next_attempt_at)), 0)
  from webhook_deliveries where status = 'pending' and next_attempt_at <= clock_timestamp()
"""
_SPEED = "select worker, sum(coalesce(images_per_s, 0)) from jobs where status = 'running' group by worker"
_LAG = """
select coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)
from evaluations where kind = 'metrics' and status in ('queued', 'running')
"""
_WEBHOOKS = """
select 'due', count(*) from webhook_deliveries where status = 'pending' and next_attempt_at <= clock_timestamp()
union all select 'pausing', count(*) from webhook_deliveries
  where status = 'pending' and next_attempt_at > clock_timestamp()
union all select 'delivering', count(*) from webhook_deliveries where status = 'delivering'
union all select 'dead', count(*) from webhook_deliveries where status = 'dead'
"""
_WORKERS = """
select kind, state, count(name) from (values ('train'), ('metrics'), ('generate')) kinds (kind)
cross join (values ('idle'), ('busy')) states (state)
left join (
  select w.name, w.kind as its,
    case when exists (select from jobs where status = 'running' and worker = w.name)
      or exists (select from evaluations where status = 'running' and worker = w.name)
      or exists (select from renderings where status = 'running' and worker = w.name)
      then 'busy' else 'idle' end as now
  from workers w where last_heartbeat_at > clock_timestamp() - make_interval(secs => :lease_s)
) alive on its = kind and now = state group by kind, state
"""
_DRAINING = """
select count(*) from workers
where drain is not null and last_heartbeat_at > clock_timestamp() - make_interval(secs => :lease_s)
"""

GAUGES = (
    Gauge("slaegan_jobs", "Jobs that are not over, by state.", _JOBS, ("state",)),
    Gauge("slaegan_queue_depth", "What waits for a worker and could begin, by queue.", _DEPTH, ("queue",)),
    Gauge(
        "slaegan_queue_oldest_seconds",
        "How long the oldest of it has waited; 0 when nothing waits.",
        _AGE,
        ("queue",),
    ),
    Gauge(
        "slaegan_training_images_per_second",
        "Speed of the running trainings, by worker.",
        _SPEED,
        ("worker",),
    ),
    Gauge("slaegan_evaluation_lag_seconds", "Age of the oldest snapshot without its metrics.", _LAG),
    Gauge("slaegan_webhooks", "Webhooks that are not delivered, by state.", _WEBHOOKS, ("state",)),
    Gauge(
        "slaegan_workers", "Workers heard of within a lease, by what they do.", _WORKERS, ("kind", "state")
    ),
    Gauge("slaegan_workers_draining", "Of them those that take nothing new.", _DRAINING),
)


def read(session: Session, gauge: Gauge, *, lease_s: float) -> Sequence[Sequence[Any]]:
    """A metric's rows: the labels' values, then the number.

    Args:
        session: any.
        gauge: one of GAUGES.
        lease_s: a worker unseen for so long counts as dead.
    """
    bound = {"lease_s": lease_s} if ":lease_s" in gauge.query else {}
    return session.execute(text(gauge.query), bound).all()
