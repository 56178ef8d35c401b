"""Jobs side by side on the terminal, or what keeps them from being compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.schemas.jobs import ComparisonOut, Point

_COLUMNS = ("fid", "kid", "kid_sd", "precision", "recall", "lpips", "lpips_intra", "copy_rate")


def comparison_table(comparison: ComparisonOut) -> Table:
    """Two rows a job, its best and its last snapshot; what users named is text."""
    protocol = comparison.protocol
    title = f"{protocol.get('extractor', 'unknown extractor')}, protocol {comparison.protocol_hash[:8]}"
    table = Table(
        "job", "name", "snapshot", "images", *_COLUMNS, box=None, title=Text(title), title_justify="left"
    )
    for job in comparison.jobs:
        for which, point in (("best", job.best), ("last", job.latest)):
            if point is not None:
                cells = (str(job.id)[:8], job.name, which, str(point.images_seen), *_numbers(point))
                table.add_row(*(Text(cell) for cell in cells))
    return table


def differences_table(differing: Mapping[str, Mapping[str, Any]]) -> Table:
    """A field a row, a job a column."""
    jobs = list(next(iter(differing.values()), {}))
    table = Table("differs", *(job[:8] for job in jobs), box=None)
    for field, values in differing.items():
        table.add_row(Text(field), *(Text(str(values.get(job))) for job in jobs))
    return table


def _numbers(point: Point) -> list[str]:
    values = point.model_dump(include=set(_COLUMNS))
    return ["" if values[name] is None else f"{values[name]:.4g}" for name in _COLUMNS]
