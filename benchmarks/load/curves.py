"""Evaluations that nobody computed, for jobs that nobody trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from benchmarks.load.rig import Rig

_CURVES = """
insert into evaluations (id, job_id, run, images_seen, protocol, protocol_hash, status, attempts, metrics)
select gen_random_uuid(), j.id, 1, 20000 * point, %(protocol)s, 'a', 'done', 1,
  jsonb_build_object('fid', 100.0 / point, 'kid', 0.1 / point, 'kid_sd', 0.01, 'precision', 0.5, 'recall', 0.4,
    'lpips', 0.5, 'lpips_intra', 0.3, 'copy_rate', 0.0)
from jobs j, generate_series(1, %(points)s) point
where j.name like %(name)s and j.status = 'succeeded'
"""
_SHOWN = """
update jobs set latest_evaluation_id = e.id, best_evaluation_id = e.id, best_reason = 'KID is the lowest.'
from evaluations e where e.job_id = jobs.id and e.images_seen = 20000 * %(points)s and jobs.name like %(name)s
"""
# As large as a real one.
_PROTOCOL = {f"field_{number}": "x" * 40 for number in range(30)}


def add_curves(rig: Rig, *, name: str, points: int) -> None:
    """Give succeeded jobs whose names are like one a curve of so many points each."""
    facts = {"protocol": Jsonb(_PROTOCOL), "points": points, "name": name}
    rig.database.execute(_CURVES, facts)
    rig.database.execute(_SHOWN, facts)
