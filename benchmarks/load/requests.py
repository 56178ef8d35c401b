"""One job's page, of one that waits and of one with a curve; then submissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.load.curves import add_curves
from benchmarks.load.figures import Row
from benchmarks.load.rig import say
from benchmarks.load.traffic import gets, submit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load.rig import Rig

POINTS = 20
# As the one that waits, but over.
_TRAINED = """
insert into jobs (id, tenant_id, dataset_id, name, family, config, status, priority, run, attempt,
  infrastructure_failures, cancel_requested, event_seq, images_seen, total_images, losses, facts, finished_at)
select gen_random_uuid(), tenant_id, dataset_id, 'trained', family, config, 'succeeded', 0, 1, 1,
  0, false, 1, total_images, total_images, '{}', '{}', now()
from jobs where name = 'waits'
"""


def requests(rig: Rig, *, seconds: float) -> Iterator[Row]:
    """Ask for a job as often as it goes, then submit as often; no worker should run."""
    submit(rig, ["waits"], connections=1)
    rig.database.execute(_TRAINED)
    add_curves(rig, name="trained", points=POINTS)
    for name, what in {"waits": "that waits", "trained": f"with a curve of {POINTS}"}.items():
        job_id = rig.value("select id from jobs where name = %s", [name])
        found = gets(rig, [f"/v1/jobs/{job_id}"], seconds=seconds)
        say(f"GET of a job {what}: p50 {found.ms(50):.1f} ms")
        yield Row(f"GET /v1/jobs/{{id}}, a job {what}, requests/s", found.per_s, 400, at_least=True)
        yield Row(f"GET /v1/jobs/{{id}}, a job {what}, p99 ms", found.ms(99), 50)
    found = submit(rig, [f"post-{number}" for number in range(int(100 * seconds))])
    say(f"POST: p50 {found.ms(50):.1f} ms")
    yield Row("POST /v1/jobs, requests/s", found.per_s, 100, at_least=True)
    yield Row("POST /v1/jobs, p99 ms", found.ms(99), 100)
    rig.forget_jobs()
