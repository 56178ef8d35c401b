"""How work under a lease ends, whatever goes wrong in it: for evaluations, generations and exports."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from core.errors import DatabaseUnavailable, InfrastructureError, LeaseLost, SlaeganError
from core.settings import settings
from core.storage import as_disk_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Lose = Callable[[SlaeganError, int, float], None]

logger = logging.getLogger(__name__)


@contextmanager
def holding(what: str, *, lose: Lose, give_up: Callable[[SlaeganError], None]) -> Iterator[None]:
    """See to it that an error within the block is written on the record, once, and ends nothing else.

    Args:
        what: the work, as log lines name it.
        lose: writes that the machine, the database or the store failed it; takes the error, how many tries there are,
            and the seconds until the next one.
        give_up: writes that it cannot succeed. Both may raise LeaseLost, and then nothing is to be written.
    """
    try:
        try:
            yield
        except LeaseLost:
            raise
        except InfrastructureError as error:
            _lose(lose, error)
        except SlaeganError as error:
            give_up(error)
        except OSError as error:
            _lose(lose, as_disk_error(error, settings().data_dir))
        except DBAPIError as error:
            _lose(lose, DatabaseUnavailable(f"The database failed: {error.orig}"))
        except Exception as error:
            logger.exception("%s met an error that is not its own.", what)
            give_up(SlaeganError(f"{type(error).__name__}: {error}"))
    except LeaseLost as error:
        logger.warning("%s stops: %s", what, error)


def _lose(lose: Lose, error: SlaeganError) -> None:
    lose(error, settings().max_evaluation_attempts, settings().retry_pause_s)
