"""Where the API may listen: on loopback always, elsewhere only once somebody has a key."""

from __future__ import annotations

import ipaddress
import logging
import time

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from core.db import sessions
from core.keys import ApiKey
from core.keys.identity import live

_logger = logging.getLogger("slaegan.api")
_LOOK_EVERY_S = 2.0


def await_key(host: str, *, look_every_s: float = _LOOK_EVERY_S) -> None:
    """Return when the API may listen on a host.

    A service that strangers can reach, and nobody has a key to, was not set up yet. Waiting rather than ending keeps
    the container in which the first key is made (`docker compose exec api python -m core.keys`).

    Args:
        host: a name or an address; the empty one means all.
        look_every_s: between two looks at the database, and two lines of the log.
    """
    while not _is_loopback(host):
        try:
            if _has_live_key():
                return
            reason = "the database has no live key: make one with `python -m core.keys`"
        except SQLAlchemyError as error:
            reason = f"whether there is a key cannot be told: {error}"
        _logger.warning(
            "Not listening on %r yet, since %s, or set SLAEGAN_HOST=127.0.0.1. Looking again in %g s.",
            host,
            reason,
            look_every_s,
        )
        time.sleep(look_every_s)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_live_key() -> bool:
    with sessions()() as session:
        return session.scalar(select(ApiKey.id).where(live()).limit(1)) is not None
