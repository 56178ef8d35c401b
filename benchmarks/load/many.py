"""A page of jobs where there are a million: the first one, a deep one, and those of a state or a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode
from uuid import uuid4

from psycopg.types.json import Jsonb

from benchmarks.load.curves import add_curves
from benchmarks.load.figures import Row
from benchmarks.load.rig import say
from benchmarks.load.traffic import CONNECTIONS, gets, submit
from core import pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from benchmarks.load.rig import Rig

CHUNK = 100_000
OTHERS = 9
# Of every 100,000 of the tenant's jobs so many are on the dataset that few are on, and so many are paused.
FEW = 50
_TENANT = "insert into tenants (id, name) values (%s, %s)"
_DATASET = """
insert into datasets (id, series_id, tenant_id, name, image_count, size_bytes, content_hash, rejected)
values (%(id)s, %(id)s, %(tenant)s, 'load', 8, 8, '', '[]')
"""
# Every second job is the tenant's. Most have succeeded; each has the configuration of a job that was submitted.
_JOBS = """
insert into jobs (id, tenant_id, dataset_id, name, family, config, status, priority, run, attempt,
  infrastructure_failures, cancel_requested, event_seq, images_seen, total_images, losses, facts, error,
  created_at, queued_at, finished_at)
select gen_random_uuid(),
  case when mine then %(tenant)s else (%(others)s::uuid[])[1 + n / 2 %% %(count)s] end,
  case when not mine then (%(theirs)s::uuid[])[1 + n / 2 %% %(count)s]
    when n / 2 %% 2000 = 7 then %(rare)s else %(dataset)s end,
  'many-' || n, family, config, s, 0, 1, (s in ('succeeded', 'failed'))::int,
  0, false, 1, 0, total_images, '{}', '{}', case s when 'failed' then %(error)s end,
  t, t, case when s in ('succeeded', 'failed', 'cancelled') then t end
from jobs template,
  generate_series(%(first)s::int, %(last)s::int) n,
  lateral (select n %% 2 = 0 as mine, now() - interval '1 s' * (10000000 - n) as t,
    case when n / 2 %% 2000 = 3 then 'paused' when n / 2 %% 100 = 1 then 'queued'
      when n / 2 %% 10 = 9 then 'failed' when n / 2 %% 20 = 8 then 'cancelled' else 'succeeded' end as s) facts
where template.name = 'many'
"""


def many(rig: Rig, *, jobs: int, seconds: float) -> Iterator[Row]:
    """Fill the table and turn its pages; nothing else should run, for the queued ones are not to be trained."""
    rare = fill(rig, jobs=jobs)
    asked: dict[str, dict[str, object]] = {
        "first page": {},
        "deep page": {"cursor": _deep(rig)},
        "first page of a rare state": {"status": "paused"},
        "first page of a common state": {"status": "succeeded"},
        "deep page of a common state": {"status": "succeeded", "cursor": _deep(rig)},
        "first page of a rare dataset": {"dataset_id": rare},
        "first page of a common dataset": {"dataset_id": rig.dataset_id},
        "first page of a rare state and a common dataset": {"status": "paused", "dataset_id": rig.dataset_id},
    }
    for name, query in asked.items():
        path = f"/v1/jobs?{urlencode(query)}"
        alone = gets(rig, [path], seconds=seconds, connections=1)
        found = gets(rig, [path], seconds=seconds)
        say(f"{name}: {alone.per_s:.0f}/s, p50 {alone.ms(50):.1f}, p99 {alone.ms(99):.1f} ms by one connection; "
            f"{found.per_s:.0f}/s, p50 {found.ms(50):.1f}, p99 {found.ms(99):.1f} ms by {CONNECTIONS}")  # fmt: skip
        yield Row(f"list among {jobs} jobs, {name}, p99 ms", found.ms(99), 75)


def fill(rig: Rig, *, jobs: int) -> UUID:
    """Insert so many jobs of ten tenants; gives the dataset of the measured tenant's that few jobs are on."""
    submit(rig, ["many"], connections=1)
    tenant = rig.value("select tenant_id from jobs where name = 'many'")
    owners = [uuid4() for _ in range(OTHERS)]
    theirs, rare = [uuid4() for _ in owners], uuid4()
    for owner, dataset in zip(owners, theirs, strict=True):
        rig.database.execute(_TENANT, [owner, f"other {owner}"])
        rig.database.execute(_DATASET, {"id": dataset, "tenant": owner})
    rig.database.execute(_DATASET, {"id": rare, "tenant": tenant})
    facts = {
        "tenant": tenant, "dataset": rig.dataset_id, "rare": rare, "others": owners, "theirs": theirs,
        "count": OTHERS, "error": Jsonb({"code": "trainer_crashed", "message": "It ended.", "details": {}}),
    }  # fmt: skip
    # Rows that can be made again need no fsync each.
    rig.database.execute("set synchronous_commit = off")
    for first in range(0, jobs, CHUNK):
        last = min(first + CHUNK, jobs) - 1
        rig.database.execute(_JOBS, facts | {"first": first, "last": last})
        say(f"{last + 1} of {jobs} jobs are inserted")
    # A page has a few curves to read.
    add_curves(rig, name="many-%00", points=4)
    rig.database.execute("vacuum (analyze) jobs, evaluations")
    rig.database.execute("checkpoint")
    return rare


def _deep(rig: Rig) -> str:
    """The cursor of the place behind which a tenth of the tenant's jobs are left."""
    query = """
        select created_at, id from jobs where tenant_id = (select tenant_id from jobs where name = 'many')
        order by created_at, id offset (select count(*) / 20 from jobs) limit 1
    """
    (row,) = rig.rows(query)
    return pages._encode(row["created_at"], row["id"])
