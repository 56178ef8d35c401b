"""Whatever goes wrong with work under a lease is written once, or is nobody's to write any more."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from core.errors import ConfigurationFailed, LeaseLost, SlaeganError, StoreFull
from worker.holding import holding

pytestmark = pytest.mark.usefixtures("_worker_settings")


def written(raised: Exception, *, then: Exception | None = None) -> list[tuple[str, str]]:
    """How the record tells an error; `then` is raised by what writes it."""
    told: list[tuple[str, str]] = []

    def tell(how: str, error: SlaeganError) -> None:
        told.append((how, error.code))
        if then is not None:
            raise then

    with holding(
        "The work", lose=lambda error, *_: tell("lost", error), give_up=lambda error: tell("ended", error)
    ):
        raise raised
    return told


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (LeaseLost("Another has it."), []),
        (StoreFull("No room."), [("lost", "store_full")]),
        (ConfigurationFailed("It cannot be."), [("ended", "configuration_failed")]),
        (OSError(28, "No space left on device"), [("lost", "store_full")]),
        (OperationalError("select 1", {}, ConnectionError("gone")), [("lost", "database_unavailable")]),
        (ZeroDivisionError("division by zero"), [("ended", SlaeganError.code)]),
    ],
)
def test_each_error_has_its_way(raised: Exception, told: list[tuple[str, str]]) -> None:
    assert written(raised) == told


def test_a_lease_that_is_lost_while_it_is_written_ends_nothing_else() -> None:
    assert written(StoreFull("No room."), then=LeaseLost("Another has it.")) == [("lost", "store_full")]
