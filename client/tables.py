"""Jobs and datasets as tables on the terminal. What users named is text: rich reads no markup in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from client.verdict import fid_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from core.schemas.datasets import DatasetOut
    from core.schemas.jobs import JobOut, WorkerOut


def jobs_table(jobs: Iterable[JobOut]) -> Table:
    """A job a row: state, progress, the best snapshot's FID and the last one's, alarms in red."""
    table = Table("id", "name", "status", "images", "best", "last", "alarms", "created", box=None)
    for job in jobs:
        done = f"{job.images_seen}/{job.total_images}"
        best, last = (fid_text(point) if point else "" for point in (job.best, job.latest))
        alarms = ", ".join(alarm.kind.replace("_", " ").upper() for alarm in job.alarms)
        cells = (str(job.id), job.name, job.status.value, done, best, last, alarms, _moment(job.created_at))
        _add(table, *cells, style="bold red" if job.alarms else "")
    return table


def datasets_table(datasets: Iterable[DatasetOut]) -> Table:
    """A dataset a row: its size."""
    table = Table("id", "name", "pictures", "MB", "created", box=None)
    for dataset in datasets:
        size = f"{dataset.size_bytes / 1e6:.1f}"
        created = _moment(dataset.created_at)
        _add(table, str(dataset.id), dataset.name, str(dataset.image_count), size, created)
    return table


def workers_table(workers: Iterable[WorkerOut]) -> Table:
    """A worker a row; of jobs only your own are named."""
    table = Table("name", "kind", "device", "state", "job", "last seen", box=None)
    for worker in workers:
        state = "alive" if worker.alive else "gone"
        if worker.drain is not None:
            state += ", drained" if worker.drain == "finish" else ", drained at once"
        job = str(worker.current_job_id or "")
        _add(table, worker.name, worker.kind, worker.device, state, job, _moment(worker.last_heartbeat_at))
    return table


def _add(table: Table, *cells: str, style: str = "") -> None:
    table.add_row(*(Text(cell) for cell in cells), style=style)


def _moment(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"
