"""Draining a worker: it takes nothing new, and finishes, or hands back, what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import select, update

from core.errors import NotFound
from core.jobs.tables import Worker

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Drain = Literal["finish", "hand_back"]


def drain(session: Session, name: str, how: Drain | None) -> None:
    """Drain a worker, also one that is started again under its name; None: let it take work again.

    Args:
        session: the caller commits.
        name: of the worker.
        how: whether it finishes its job first, or hands it back to the queue from its last step.

    Raises:
        NotFound: no worker of that name was ever seen.
    """
    found = session.scalar(update(Worker).where(Worker.name == name).values(drain=how).returning(Worker.name))
    if found is None:
        known = ", ".join(session.scalars(select(Worker.name).order_by(Worker.name))) or "none"
        raise NotFound(f"There is no worker {name}; known are: {known}.")


def drain_of(session: Session, name: str) -> Drain | None:
    """How a worker is being drained; None where it is not, or was never seen."""
    how: Drain | None = session.scalar(select(Worker.drain).where(Worker.name == name))
    return how
