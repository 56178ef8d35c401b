"""What is to be said of a job's curve: its alarms, its best snapshot and why, and the last one beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.schemas.jobs import JobOut, Point

# Of many numbers those that tell snapshots of one job apart, in the order in which they count.
_TOLD = ("kid", "recall", "copy_rate", "lpips")


def verdict(job: JobOut) -> list[str]:
    """Lines for people; none while nothing has been evaluated. Alarms come first."""
    lines = [alarm_text(alarm.kind, alarm.message, alarm.images_seen) for alarm in job.alarms]
    if job.best is not None and job.latest is not None:
        lines.append(f"Best, at {job.best.images_seen} images: {numbers(job.best)}. {job.best_reason or ''}")
        lines.append("It was selected on the training set: the best of many looks better than it is.")
        lines.append(f"Last, at {job.latest.images_seen} images: {numbers(job.latest)}.")
    return lines


def alarm_text(kind: str, message: str, images_seen: int) -> str:
    """An alarm in a line."""
    return f"ALARM ({kind.replace('_', ' ')}) at {images_seen} images: {message}"


def numbers(point: Point) -> str:
    """The point's numbers, FID with its extractor first."""
    told = point.model_dump(include=set(_TOLD), exclude_none=True)
    return ", ".join([fid_text(point), *(f"{name} {told[name]:.3g}" for name in _TOLD if name in told)])


def fid_text(point: Point) -> str:
    """The FID with its extractor: without it the number says nothing."""
    if point.fid is None:
        return ""
    return f"FID {point.fid:.1f} ({point.protocol.get('extractor', 'unknown extractor')})"
