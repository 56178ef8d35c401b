"""A worker and its warm child, which here is a small process that does as its request's seed says."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from core.renderings import requests
from core.renderings.tables import RenderedFile, Rendering
from core.settings import settings
from core.storage import store
from tests.integration.jobs.garbage import _folders, attempt, checkpoint, run, told
from tests.integration.jobs.test_lease import run_sweep
from tests.integration.jobs.test_renderings import MOST, ask, let_the_lease_end, row, taken
from tests.waiting import wait_until
from worker import rendering
from worker.stopping import Flag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from core.jobs.lease import Attempt
    from tests.integration.jobs.conftest import Sessions

__all__ = ["_folders", "attempt"]  # fixtures

ROOT = Path(__file__).parents[3]
ANSWER, REFUSE, DIE, HANG = range(4)
CHILD = f"""
import hashlib, json, os, pathlib, sys, time
from core.parent import bind_to_parent
after = lambda name: sys.argv[sys.argv.index(name) + 1]
bind_to_parent(int(after("--parent-pid")))
ticks = os.fdopen(int(after("--ticks-fd")), "w")
for line in sys.stdin:
    spec = json.loads(pathlib.Path(line.strip()).read_text())
    seed = spec["request"]["seed"] % 4
    if seed == {DIE}:
        os._exit(3)
    if seed == {HANG}:
        time.sleep(600)
    folder = pathlib.Path(spec["work_dir"])
    folder.mkdir()
    data = pathlib.Path(spec["generator"]).read_bytes()
    (folder / "1.png").write_bytes(data)
    file = {{"name": "1.png", "media_type": "image/png", "size_bytes": len(data), "role": "main",
        "sha256": hashlib.sha256(data).hexdigest()}}
    tick = {{"tick": "rendered", "files": [file], "facts": {{"pid": os.getpid()}}}}
    if seed == {REFUSE}:
        tick = {{"tick": "error", "code": "configuration_failed", "message": "not today"}}
    print(json.dumps(tick), file=ticks, flush=True)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _folders: None) -> Iterator[None]:
    (tmp_path / "small_renderer.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    chosen = {"RENDER_MODULE": "small_renderer", "POLL_S": "0.05", "HEARTBEAT_S": "0.1"}
    for name, value in (chosen | {"MAX_EVALUATION_ATTEMPTS": str(MOST)}).items():
        monkeypatch.setenv(f"SLAEGAN_{name}", value)
    settings.cache_clear()
    yield
    rendering._WARM.close()
    assert children() == [], "no process is left"


@pytest.fixture
def held(db: Sessions, attempt: Attempt) -> Attempt:
    """A job with a generator."""
    checkpoint(db, attempt, "generator", 8, sha256=hashlib.sha256(b"12345").hexdigest())
    return attempt


def work(db: Sessions, *, stop: Flag | None = None) -> Rendering:
    """Take the next one, and stay with it to its end."""
    claim = taken(db)
    rendering.render(claim, worker="g1", stop=stop or Flag())
    return row(db, claim.rendering_id)


def rendered(db: Sessions, held: Attempt, seed: int = ANSWER) -> Rendering:
    ask(db, held, seed)
    return work(db)


def pid_of(found: Rendering) -> int:
    assert found.status == "done", found.error
    assert found.facts is not None
    return int(found.facts["pid"])


def children() -> list[int]:
    # Beside them, the servers of the tests.
    return [child.pid for child in psutil.Process().children() if "small_renderer" in child.cmdline()]


def test_one_child_answers_one_request_after_the_other(db: Sessions, held: Attempt) -> None:
    first, second = (rendered(db, held, ANSWER + 4 * n) for n in range(2))
    assert pid_of(first) == pid_of(second) == children()[0]
    with db() as session:
        file = session.get_one(RenderedFile, (first.id, "1.png"))
    assert b"".join(store().read(file.storage_key)) == b"12345"
    assert file.sha256 == hashlib.sha256(b"12345").hexdigest()
    scratch = settings().data_dir.absolute() / "scratch" / "g1"
    assert [path.name for path in scratch.iterdir()] == ["generators"], "what a request left is gone"


def test_what_the_child_refuses_fails_and_the_child_stays(db: Sessions, held: Attempt) -> None:
    pid = pid_of(rendered(db, held))
    refused = rendered(db, held, REFUSE)
    assert (refused.status, refused.error["code"]) == ("failed", "configuration_failed")  # type: ignore[index]
    assert pid_of(rendered(db, held, ANSWER + 4)) == pid


def test_a_child_that_dies_is_tried_again_and_then_given_up(db: Sessions, held: Attempt) -> None:
    pid = pid_of(rendered(db, held))
    asked = ask(db, held, DIE)
    for tried in range(settings().max_evaluation_attempts):
        assert row(db, asked).attempts == tried
        work(db)
        let_the_lease_end(db)
        run_sweep(db)
    found = row(db, asked)
    assert (found.status, found.error["code"]) == ("failed", "unavailable")  # type: ignore[index]
    assert "ended with code 3" in found.error["message"]  # type: ignore[index]
    assert pid_of(rendered(db, held, ANSWER + 4)) != pid


def test_a_child_that_was_killed_meanwhile_costs_no_try(db: Sessions, held: Attempt) -> None:
    pid = pid_of(rendered(db, held))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, what="its end")
    again = rendered(db, held, ANSWER + 4)
    assert pid_of(again) != pid
    assert again.attempts == 1


def test_a_child_that_hangs_is_killed(db: Sessions, held: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLAEGAN_RENDER_TIMEOUT_S", "0.5")
    settings.cache_clear()
    found = rendered(db, held, HANG)
    assert (found.status, found.error["code"]) == ("failed", "time_limit")  # type: ignore[index]
    assert children() == []


def during(hanging: UUID, db: Sessions, then: Flag | None = None, tenant_id: UUID | None = None) -> None:
    """Once the request is under way: set the flag, or call it off."""
    wait_until(children, what="the child")
    if then is not None:
        then.set()
    elif tenant_id is not None:
        with db.begin() as session:
            requests.remove(session, tenant_id=tenant_id, what="generation", rendering_id=hanging)


def test_what_is_called_off_stops_at_once(db: Sessions, held: Attempt) -> None:
    asked = ask(db, held, HANG)
    caller = threading.Thread(target=during, args=(asked, db), kwargs={"tenant_id": held.tenant_id})
    caller.start()
    assert work(db).status == "cancelled"
    caller.join()
    assert children() == []


def test_a_worker_that_must_go_hands_its_request_back(db: Sessions, held: Attempt) -> None:
    asked, stop = ask(db, held, HANG), Flag()
    caller = threading.Thread(target=during, args=(asked, db), kwargs={"then": stop})
    caller.start()
    found = work(db, stop=stop)
    caller.join()
    assert (found.status, found.attempts) == ("queued", 0)
    assert children() == []


def test_files_that_came_too_late_are_removed_again(db: Sessions, held: Attempt) -> None:
    ask(db, held)
    late = taken(db)
    let_the_lease_end(db)
    run_sweep(db)
    before = set(store().keys("jobs"))
    rendering.render(late, worker="g1", stop=Flag())
    assert set(store().keys("jobs")) == before
    assert row(db, late.rendering_id).status == "queued"
    assert told(run(grace_s=0)) == {}, "no file without a row"


def test_a_damaged_generator_is_not_used(db: Sessions, attempt: Attempt) -> None:
    checkpoint(db, attempt, "generator", 8, sha256="f" * 64)
    asked = ask(db, attempt)
    work(db)
    let_the_lease_end(db)
    run_sweep(db)
    assert row(db, asked).status == "queued", "another try: the store may have been at fault"
    assert children() == []
