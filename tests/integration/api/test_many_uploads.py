"""One tenant's uploads and thumbnails that last: the service goes on for everybody else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from api.routes import datasets as routes
from core.datasets import making, thumbnails
from core.errors import DatasetUnusable
from tests.integration.api.conftest import problem
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    import httpx

    from tests.integration.api.conftest import Person

SLOW, MORE = 4, 45
THUMBNAILS = 60
AT_WORK, WAITING = 2, 16  # of one tenant
DEADLINE_S = 20


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Semaphore, threading.Event]:
    """Have datasets named "slow" count themselves when they are begun, and wait until they may end."""
    begun, go_on, make = threading.Semaphore(0), threading.Event(), making.make

    def slow(*args: Any, name: str, **others: Any) -> Any:
        if name == "slow":
            begun.release()
            assert go_on.wait(DEADLINE_S)
            raise DatasetUnusable("It was slow for nothing.")
        return make(*args, name=name, **others)

    monkeypatch.setattr(making, "make", slow)
    return begun, go_on


def test_waiting_uploads_of_one_tenant_hold_up_nobody_else(
    owner: Person, stranger: Person, held: tuple[threading.Semaphore, threading.Event]
) -> None:
    begun, go_on = held
    answers: list[httpx.Response] = []
    pictures = form(pngs(4))

    def send(_: int) -> None:
        answers.append(owner.post("/v1/datasets", files=pictures, data={"name": "slow"}))

    with ThreadPoolExecutor(SLOW + MORE) as pool:
        sent = [pool.submit(send, number) for number in range(SLOW + MORE)]
        try:
            for _ in range(AT_WORK):
                assert begun.acquire(timeout=DEADLINE_S)
            deadline = time.monotonic() + DEADLINE_S
            while len(answers) < SLOW + MORE - AT_WORK - WAITING:
                assert time.monotonic() < deadline, f"{len(answers)} were refused"
                time.sleep(0.02)
            for path in ("/readyz", "/v1/datasets"):
                assert stranger.get(path, timeout=5).status_code == 200
            made = stranger.post("/v1/datasets", files=pictures, data={"name": "quick"}, timeout=5)
            assert made.status_code == 201, made.text
            assert not begun.acquire(blocking=False), "a tenant has more than its places"
        finally:
            go_on.set()
        for each in sent:
            each.result(DEADLINE_S)
    assert Counter(answer.status_code for answer in answers) == {
        422: AT_WORK + WAITING,
        503: SLOW + MORE - AT_WORK - WAITING,
    }
    refused = [answer for answer in answers if answer.status_code == 503]
    problem(refused[0], 503, "overloaded")
    assert refused[0].headers["retry-after"] == "10"


def test_few_thumbnails_are_made_at_once_and_large_files_in_a_process(
    owner: Person, stranger: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, make = threading.Semaphore(0), threading.Event(), thumbnails.thumbnail_of

    def slow(*args: Any, **others: Any) -> bytes:
        begun.release()
        assert go_on.wait(DEADLINE_S)
        return make(*args, **others)

    def get(_: int) -> int:
        return owner.get(f"/v1/datasets/{made['id']}/images/0/thumbnail").status_code

    made = owner.post("/v1/datasets", files=form(pngs(4))).json()
    monkeypatch.setattr(routes, "thumbnail_of", slow)
    with ThreadPoolExecutor(THUMBNAILS) as pool:
        answers = [pool.submit(get, number) for number in range(THUMBNAILS)]
        try:
            for _ in range(AT_WORK):
                assert begun.acquire(timeout=DEADLINE_S)
            for path in ("/readyz", "/v1/datasets"):
                assert stranger.get(path, timeout=5).status_code == 200
            assert not begun.acquire(timeout=0.5), "more are made at once than a tenant may"
        finally:
            go_on.set()
        assert {answer.result(DEADLINE_S) for answer in answers} == {200}
    monkeypatch.setattr(thumbnails, "_in_a_process", lambda *_: b"small")
    monkeypatch.setattr(thumbnails, "_BYTES_HERE", made["size_bytes"] // 8)
    assert owner.get(f"/v1/datasets/{made['id']}/images/0/thumbnail").content == b"small"
