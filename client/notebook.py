"""Jobs and datasets as notebooks show them. All names are escaped: they come from users."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from client.verdict import verdict

if TYPE_CHECKING:
    from client.pictures import Picture
    from core.schemas.datasets import DatasetOut
    from core.schemas.jobs import JobOut


def job(shown: JobOut, pictures: list[Picture]) -> str:
    """A job's facts, its alarms and its verdict, then pictures."""
    facts = {
        "status": shown.status.value,
        "family": shown.family,
        "images": f"{shown.images_seen} of {shown.total_images} ({shown.progress:.0%})",
        "id": str(shown.id),
    }
    if shown.images_per_s:
        facts["images/s"] = f"{shown.images_per_s:.1f}"
    if shown.error is not None:
        facts["error"] = str(shown.error.get("message", ""))
    lines = "".join(f"<p>{_strong(line)}</p>" for line in verdict(shown))
    return _card(shown.name or "Job", facts, lines, pictures)


def dataset(shown: DatasetOut, pictures: list[Picture]) -> str:
    """A dataset's facts, then pictures."""
    facts = {
        "pictures": str(shown.image_count),
        "version": str(shown.version),
        "rejected": str(len(shown.rejected)),
        "id": str(shown.id),
    }
    if shown.classes:
        facts["classes"] = ", ".join(f"{one.name} ({one.images})" for one in shown.classes)
    return _card(shown.name or "Dataset", facts, "", pictures)


def _strong(line: str) -> str:
    return f"<strong>{escape(line)}</strong>" if line.startswith("ALARM") else escape(line)


def _card(title: str, facts: dict[str, str], lines: str, pictures: list[Picture]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()
    )
    shown = "".join(
        f'<img src="{one.data_url}" alt="" style="max-width: 32em; width: 100%">' for one in pictures
    )
    return f"<div><h4>{escape(title)}</h4><table>{rows}</table>{lines}{shown}</div>"
