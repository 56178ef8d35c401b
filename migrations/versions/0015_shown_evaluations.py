"""the latest and the best evaluation of a job, on its row"""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SHOWN = ("latest_evaluation_id", "best_evaluation_id")

JOBS = """
SELECT id, config #> '{alarms,copy_rate}' AS copy_limit, coalesce(config -> 'alarms' ? 'copy_rate', false) AS limited
FROM jobs WHERE CAST(:after AS uuid) IS NULL OR id > :after ORDER BY id LIMIT :batch
"""
CURVES = """
SELECT job_id, evaluations.id, protocol_hash, metrics FROM evaluations
JOIN jobs ON jobs.id = evaluations.job_id AND jobs.run = evaluations.run
WHERE job_id = ANY(:jobs) AND evaluations.status = 'done' AND kind = 'metrics'
ORDER BY job_id, evaluations.images_seen, evaluations.created_at
"""
SHOW = """
UPDATE jobs SET latest_evaluation_id = :latest, best_evaluation_id = :best, best_reason = :reason WHERE id = :job
"""
BATCH = 500
# What an old configuration that names no limit of the copy rate has meant.
COPY_LIMIT = 0.2


def upgrade() -> None:
    for column in SHOWN:
        op.add_column("jobs", sa.Column(column, sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("best_reason", sa.String(), nullable=True))
    _fill()


def _fill() -> None:
    """Each job's newest and best: no later evaluation comes to correct those of a job that is over."""
    connection, after = op.get_bind(), None
    while jobs := connection.execute(sa.text(JOBS), {"after": after, "batch": BATCH}).all():
        after = jobs[-1].id
        rows = connection.execute(sa.text(CURVES), {"jobs": [job.id for job in jobs]})
        curves = {job_id: list(curve) for job_id, curve in groupby(rows, key=attrgetter("job_id"))}
        shown = [
            _shown(job.id, curves[job.id], copy_limit=job.copy_limit if job.limited else COPY_LIMIT)
            for job in jobs
            if job.id in curves
        ]
        if shown:
            connection.execute(sa.text(SHOW), shown)


def _shown(job_id: UUID, curve: Sequence[Any], *, copy_limit: float | None) -> dict[str, Any]:
    """The rule as it was at this revision, of snapshots that the newest one's protocol makes comparable.

    Of those whose KID is within one standard deviation of the lowest, and which are no copies where there are such, the
    one with the highest recall, then with the lower KID, then the later one.
    """
    points = [
        (row.id, row.metrics)
        for row in curve
        if row.protocol_hash == curve[-1].protocol_hash and row.metrics.get("kid") is not None
    ]
    shown: dict[str, Any] = {"job": job_id, "latest": curve[-1].id, "best": None, "reason": None}
    if not points:
        return shown
    kids = [max(0.0, float(metrics["kid"])) for _, metrics in points]
    lowest = min(range(len(points)), key=lambda n: (kids[n], -n))
    spread = float(points[lowest][1].get("kid_sd") or 0.0)
    near = [n for n, kid in enumerate(kids) if kid <= kids[lowest] + spread]
    original = [
        n for n in near if copy_limit is None or float(points[n][1].get("copy_rate") or 0.0) <= copy_limit
    ]
    best = max(original or near, key=lambda n: (float(points[n][1].get("recall") or 0.0), -kids[n], n))
    shown["best"] = points[best][0]
    shown["reason"] = f"KID {kids[best]:.4g} " + (
        "is the lowest."
        if len(near) == 1
        else f"is one of {len(near)} within one standard deviation, {spread:.2g}, of the lowest, {kids[lowest]:.4g}; "
        "copies and recall decide between them."
    )
    return shown


def downgrade() -> None:
    op.drop_column("jobs", "best_reason")
    for column in SHOWN:
        op.drop_column("jobs", column)
