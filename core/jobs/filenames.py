"""What the files of a job are called on the disk of whoever downloads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


def checkpoint(job_id: UUID, *, kind: str, images_seen: int, suffix: str) -> str:
    """Of a generator or a state; the suffix with its dot."""
    return f"{job_id}-{kind}-{images_seen:09d}{suffix}"


def sample(job_id: UUID, *, kind: str, images_seen: int) -> str:
    """Of a picture of a snapshot; a grid's name does not tell its kind."""
    return f"{job_id}-{images_seen:09d}.png" if kind == "grid" else f"{job_id}-{images_seen:09d}-{kind}.png"


def picture(job_id: UUID, *, kind: str, images_seen: int) -> str:
    """Of what an evaluation of this kind shows."""
    what = "reached" if kind == "backtracking" else "neighbours"
    return f"{job_id}-{images_seen:09d}-{what}.png"


def rendered(job_id: UUID, *, images_seen: int, name: str) -> str:
    """Of a file that was made with a generator, which has a name of its own."""
    return f"{job_id}-{images_seen:09d}-{name}"
