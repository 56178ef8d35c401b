from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from core import db, storage
from core.once import Once


def test_threads_that_ask_first_at_the_same_time_get_one_thing() -> None:
    asking = Barrier(8)

    @Once
    def made() -> object:
        time.sleep(0.05)
        return object()

    def ask(_: int) -> object:
        asking.wait()
        return made()

    with ThreadPoolExecutor(8) as pool:
        first = set(pool.map(ask, range(8)))
    assert len(first) == 1
    made.cache_clear()
    assert made() not in first
    assert made() is made()


def test_what_could_not_be_made_is_tried_again() -> None:
    answers = iter([ValueError("not yet"), None])

    @Once
    def made() -> str:
        if (error := next(answers)) is not None:
            raise error
        return "made"

    with pytest.raises(ValueError, match="not yet"):
        made()
    assert made() == "made"


def test_a_process_has_one_engine_and_one_store() -> None:
    assert isinstance(db.sessions, Once)
    assert isinstance(storage.store, Once)
