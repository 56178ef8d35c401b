"""Generations and exports whose time is over, with their files."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from core.db import sessions
from core.jobs.tables import Checkpoint
from core.renderings.requests import forget
from core.renderings.tables import RenderedFile, Rendering
from core.settings import settings
from core.storage import remove, store

if TYPE_CHECKING:
    from core.garbage.report import Bounds, Found


def collect_renderings(bounds: Bounds, found: Found) -> None:
    """Remove those that have been over for as long as they are kept; each can be had again by asking again.

    Those of a pinned checkpoint stay.
    """
    expired = Rendering.finished_at < func.clock_timestamp() - timedelta(seconds=settings().generation_keep_s)
    pinned = select(Checkpoint.id).where(Checkpoint.id == Rendering.checkpoint_id, Checkpoint.pinned)
    oldest = select(Rendering.id).where(expired, ~pinned.exists()).order_by(Rendering.finished_at)
    with sessions()() as session:
        rendering_ids = list(session.scalars(oldest.limit(bounds.limit + 1)))
    found.more = len(rendering_ids) > bounds.limit
    for rendering_id in rendering_ids[: bounds.limit]:
        # One by one: a thousand with a thousand files each would be a long transaction.
        with sessions()() as session:
            sizes = select(func.sum(RenderedFile.size_bytes)).where(RenderedFile.rendering_id == rendering_id)
            size_bytes = session.scalar(sizes) or 0
            # Asked again, now that its row is held: it may just have been queued anew.
            keys = forget(session, Rendering.id == rendering_id, expired)
            if bounds.dry_run:
                session.rollback()
            else:
                session.commit()
        found.add(int(size_bytes))
        if not bounds.dry_run:
            remove(keys, store=store())
