"""Jobs and datasets as tables on the terminal. What users named is text: rich reads no markup in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from client.watch import fid_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from core.schemas.datasets import DatasetOut
    from core.schemas.jobs import JobOut


def jobs_table(jobs: Iterable[JobOut]) -> Table:
    """A job a row: state, progress and best FID."""
    table = Table("id", "name", "status", "images", "best FID", "created", box=None)
    for job in jobs:
        done = f"{job.images_seen}/{job.total_images}"
        best = fid_text(job.best) if job.best else ""
        _add(table, str(job.id), job.name, job.status.value, done, best, _moment(job.created_at))
    return table


def datasets_table(datasets: Iterable[DatasetOut]) -> Table:
    """A dataset a row: its size."""
    table = Table("id", "name", "pictures", "MB", "created", box=None)
    for dataset in datasets:
        size = f"{dataset.size_bytes / 1e6:.1f}"
        created = _moment(dataset.created_at)
        _add(table, str(dataset.id), dataset.name, str(dataset.image_count), size, created)
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))


def _moment(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"
