"""How long a job took to be trained again after a fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from benchmarks.chaos.look import Story


@dataclass(frozen=True)
class Hit:
    """A fault: which attempt of which job it met, and when."""

    fault: str
    job_id: UUID
    attempt: int
    at: datetime


def recovery_s(hit: Hit, story: Story) -> float | None:
    """How long after a hit the job was training again, in seconds.

    None where the attempt went on, or where the job was not to be trained again: it was paused, or ended.
    """
    attempt = 0
    for event in story.events:
        if event["type"] == "running":
            attempt += 1
        if attempt == hit.attempt and event["type"] in ("paused", "cancelled", "failed", "evaluating"):
            return None
        if attempt == hit.attempt + 1 and event["type"] == "training":
            return float((event["at"] - hit.at).total_seconds())
    return None


def longest_s(hits: Sequence[Hit], stories: Sequence[Story]) -> float:
    """The longest of all; 0 where nothing had to recover."""
    by_id = {story.job["id"]: story for story in stories}
    times = [recovery_s(hit, by_id[hit.job_id]) for hit in hits if hit.attempt > 0 and hit.job_id in by_id]
    return max((seconds for seconds in times if seconds is not None), default=0.0)
