"""What an API process does beside answering, again and again while it lives."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from core.datasets.scratch import NEW_UPLOAD_S, clear_abandoned
from core.db import sessions
from core.settings import settings
from core.uploads.files import clear_needless

if TYPE_CHECKING:
    from core.keys.uses import KeyUses

_logger = logging.getLogger("slaegan.api")


async def clear_uploads() -> None:
    """Remove what killed uploads left on this machine: the garbage collection may run on another machine."""
    while True:
        await asyncio.sleep(settings().garbage_every_s)
        try:
            await run_in_threadpool(clear_abandoned, older_than_s=NEW_UPLOAD_S)
            await run_in_threadpool(clear_needless)
        except (OSError, DBAPIError) as error:
            _logger.warning("Abandoned uploads cannot be removed, trying again later: %s", error)


async def write_key_uses(uses: KeyUses) -> None:
    """When keys were last used, from the memory of this process into their rows."""

    def write() -> None:
        with sessions().begin() as session:
            uses.flush(session)

    while True:
        await asyncio.sleep(settings().key_uses_every_s)
        try:
            await run_in_threadpool(write)
        except SQLAlchemyError as error:
            _logger.warning("When keys were used cannot be written, trying again later: %s", error)
