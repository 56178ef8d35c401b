"""Jobs by the hundred, one job on an idle system, and a cancel: times are the database's, by the jobs' events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from benchmarks.chaos.trainer import CHEAP_FROM
from benchmarks.load.figures import MeasurementFailed, Row, percentile, run_once
from benchmarks.load.rig import CHEAP_TRAINER, IDLE_CHILD
from benchmarks.load.traffic import submit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load.rig import Rig

AT_ONCE = 100
# Cheap steps for longer than anything here takes, and states often enough to lose little.
LONG = {
    "resolution": 64,
    "batch": 4,
    "total_images": 100_000_000,
    "evaluate_every_images": 100_000_000,
    "checkpoint_every_images": 400,
    "seed": CHEAP_FROM,
}
_STORIES = """
select j.name, array_agg(e.type order by e.seq) as events
from jobs j join job_events e on e.job_id = j.id where j.name like %s group by j.id
"""
_OPEN = "select count(*) from jobs where finished_at is null"
_SPAN = """
select extract(epoch from max(e.at) filter (where e.type = 'succeeded')
  - min(e.at) filter (where e.type = 'queued'))::float8
from jobs j join job_events e on e.job_id = j.id where j.name like %s
"""
_WAITS = """
select extract(epoch from r.at - q.at)::float8 as seconds from jobs j
join job_events q on q.job_id = j.id and q.seq = 1
join job_events r on r.job_id = j.id and r.type = 'running' where j.name like %s
"""


def burst(rig: Rig, *, count: int, workers: int) -> Iterator[Row]:
    """Submit many jobs at once to workers whose children do nothing, until the last has succeeded."""
    names = [f"burst-{number}" for number in range(count)]
    started = rig.start_workers(workers, train_module=IDLE_CHILD)
    submit(rig, names, connections=min(AT_ONCE, count))
    final = "select count(*) from jobs where name like 'burst-%%' and finished_at is not null"
    rig.until(lambda: rig.value(final) >= count, "all jobs of the burst are over", poll_s=0.5)
    stories = [(row["name"], row["events"]) for row in rig.rows(_STORIES, ["burst-%"])]
    lost, doubled = run_once(names, stories)
    at_once = f"{count} jobs submitted at once"
    yield Row(f"{at_once}, lost", lost, 0)
    yield Row(f"{at_once}, doubled", doubled, 0)
    per_s = count / rig.value(_SPAN, ["burst-%"])
    yield Row("jobs whose child does nothing, submit to success, jobs/s", per_s, 20, at_least=True)
    rig.stop(*started)


def one_at_a_time(rig: Rig, *, count: int) -> Iterator[Row]:
    """Submit a job whenever the one before is over and nothing else happens."""
    started = rig.start_workers(1, train_module=IDLE_CHILD)
    for number in range(count):
        submit(rig, [f"idle-{number}"], connections=1)
        rig.until(lambda: not rig.value(_OPEN), "an idle system runs a job")
    waits = [row["seconds"] for row in rig.rows(_WAITS, ["idle-%"])]
    yield Row("submit to claimed, idle, p50 ms", 1000 * percentile(waits, 50), 250)
    yield Row("submit to claimed, idle, p99 ms", 1000 * percentile(waits, 99), 2000)
    rig.stop(*started)


def cancel(rig: Rig) -> Iterator[Row]:
    """Cancel a training, and see when its worker has begun the next one."""
    started = rig.start_workers(1, train_module=CHEAP_TRAINER)
    first = Training.submit(rig, "cancel-0")
    first.wait_for("training", attempt=1)
    second = Training.submit(rig, "cancel-1")
    asked = rig.value("select clock_timestamp()")
    first.ask("cancel")
    second.wait_for("training", attempt=1)
    free_s = (second.event("running", attempt=1)["at"] - asked).total_seconds()
    yield Row("cancel to the next job's claim by the same worker, s", free_s, 10)
    second.ask("cancel")
    second.wait_for("cancelled", attempt=1)
    rig.stop(*started)


@dataclass(frozen=True)
class Training:
    """A long, cheap training by the real protocol."""

    rig: Rig
    id: UUID

    @classmethod
    def submit(cls, rig: Rig, name: str) -> Training:
        """Queue one."""
        body = {"dataset_id": str(rig.dataset_id), "name": name, "config": LONG}
        answer = httpx.post(f"{rig.services.url}/v1/jobs", json=body, headers=rig.headers, timeout=60)
        if answer.status_code != httpx.codes.CREATED:
            raise MeasurementFailed(f"A training was not taken: {answer.status_code} {answer.text[:500]}")
        return cls(rig, UUID(answer.json()["id"]))

    def ask(self, what: str) -> None:
        """Cancel it, for example."""
        url = f"{self.rig.services.url}/v1/jobs/{self.id}/{what}"
        httpx.post(url, headers=self.rig.headers, timeout=60).raise_for_status()

    def event(self, kind: str, *, attempt: int) -> dict[str, Any]:
        """What an attempt has said of a kind, for the first time.

        Raises:
            MeasurementFailed: nothing.
        """
        found = self._events(kind, attempt=attempt)
        if not found:
            raise MeasurementFailed(f"Attempt {attempt} of job {self.id} has not said {kind}.")
        return found[0]

    def wait_for(self, kind: str, *, attempt: int) -> None:
        """Wait until an attempt has said something."""
        self.rig.until(lambda: self._events(kind, attempt=attempt), f"{kind} of attempt {attempt}")

    def _events(self, kind: str, *, attempt: int) -> list[dict[str, Any]]:
        # A claim's own event does not count the attempt that it begins.
        query = """
            select * from (
              select *, count(*) filter (where type = 'running') over (order by seq) as nth
              from job_events where job_id = %s
            ) as events where type = %s and nth = %s order by seq
        """
        return self.rig.rows(query, [self.id, kind, attempt])

    def images_trained(self) -> int:
        """How far it has said to be."""
        return int(self.rig.value("select max(images_seen) from losses where job_id = %s", [self.id]) or 0)
