"""What a training child says, on the job's record."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from core.db import migrate, sessions, take_back
from core.errors import DataFailed, LeaseLost, StoreUnavailable
from core.jobs import endings, records
from core.jobs.claim import claim as claim_job
from core.jobs.tables import Checkpoint, Job, LogLine, Sample
from core.metrics.protocol import planned_protocol
from core.schemas.judging import EvaluationConfig
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import PreparingTick, ProgressTick, SnapshotTick, StateTick, Tick
from core.settings import settings
from core.storage import store
from worker import training
from worker.effects import TrainingEffects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.jobs.lease import Attempt
    from tests.integration.jobs.conftest import Sessions


@pytest.fixture
def attempt(db: Sessions, submit: Callable[..., Job]) -> Attempt:
    submit()
    with db.begin() as session:
        claimed = claim_job(session, worker="w", lease_s=60)
    assert claimed is not None
    return claimed


def lines(db: Sessions) -> list[str]:
    with db() as session:
        return list(session.scalars(select(LogLine.line).order_by(LogLine.seq)))


def effects_of(attempt: Attempt, work_dir: Path) -> TrainingEffects:
    config = SlaeganConfig(resolution=64, evaluation=EvaluationConfig(extractor="vgg16", precision="fp32"))
    protocol = planned_protocol(config, image_count=4)
    return TrainingEffects(attempt, config=config, protocol=protocol, work_dir=work_dir)


def progress(images_seen: int) -> ProgressTick:
    return ProgressTick(images_seen=images_seen, images_per_s=1.0, losses={"real": 1.0})


def state(images_seen: int, work_dir: Path) -> StateTick:
    (work_dir / f"{images_seen}.pt").write_bytes(b"state")
    return StateTick(images_seen=images_seen, state=f"{images_seen}.pt")


def stored(attempt: Attempt) -> list[str]:
    return list(store().keys(f"jobs/{attempt.job_id}"))


@pytest.mark.usefixtures("_worker_settings")
def test_the_preparation_of_pictures_is_told_in_the_log(
    db: Sessions, attempt: Attempt, tmp_path: Path
) -> None:
    effects = effects_of(attempt, tmp_path)
    effects.carry_out([PreparingTick(done=3, total=4), PreparingTick(done=4, total=4)], ["a line of its own"])
    told = ["3 of 4 pictures are prepared", "4 of 4 pictures are prepared", "a line of its own"]
    assert lines(db) == told


@pytest.mark.usefixtures("_worker_settings")
def test_a_snapshots_pictures_are_kept_by_their_kinds(db: Sessions, attempt: Attempt, tmp_path: Path) -> None:
    files = {"generator": "g.safetensors", "grid": "g.png", "attention": "a.png"}
    for kind, name in files.items():
        (tmp_path / name).write_bytes(kind.encode())
    tick = SnapshotTick(images_seen=8, generator="g.safetensors", grid="g.png", extras={"attention": "a.png"})
    effects_of(attempt, tmp_path).carry_out([tick], [])
    with db() as session:
        rows = {row.kind: row for row in session.scalars(select(Sample))}
        for kind in ("grid", "attention"):
            row = rows.pop(kind)
            assert (row.images_seen, row.sha256) == (8, hashlib.sha256(kind.encode()).hexdigest())
            assert row.storage_key in stored(attempt)
    assert rows == {}
    assert not any((tmp_path / name).exists() for name in files.values())
    take_back(settings().database_url, revision="0015")
    migrate(settings().database_url)
    with db() as session:
        assert session.scalars(select(Sample.kind)).all() == ["grid"], "before, there were grids alone"


@pytest.mark.usefixtures("_worker_settings")
def test_the_clock_follows_the_order_of_what_was_said(db: Sessions, attempt: Attempt, tmp_path: Path) -> None:
    effects = effects_of(attempt, tmp_path)
    said: list[tuple[list[Tick], int]] = [
        ([progress(8), state(16, tmp_path)], 16),
        ([state(24, tmp_path), progress(32)], 32),
    ]
    for ticks, clock in said:
        effects.carry_out(ticks, [])
        with db() as session:
            assert session.get_one(Job, attempt.job_id).images_seen == clock


@pytest.mark.usefixtures("_worker_settings")
def test_a_file_stays_while_a_row_names_it(
    db: Sessions, attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects = effects_of(attempt, tmp_path)

    def answer_lost(work: Callable[..., object]) -> None:
        with sessions().begin() as session:
            work(session)
        raise LeaseLost("The answer to a commit that was made did not arrive.")

    with monkeypatch.context() as patch:
        patch.setattr("worker.effects.write", answer_lost)
        with pytest.raises(LeaseLost):
            effects.carry_out([state(8, tmp_path)], [])
    with db() as session:
        (key,) = session.scalars(select(Checkpoint.storage_key))
    assert stored(attempt) == [key]
    # The same age again: the row is there already, and the second file has none.
    effects.carry_out([state(8, tmp_path)], [])
    assert stored(attempt) == [key]
    with db.begin() as session:
        endings.hand_back(session, attempt, reason="taken away")
    with pytest.raises(LeaseLost):
        effects.carry_out([state(16, tmp_path)], [])
    assert stored(attempt) == [key], "what came too late is not kept"


@pytest.mark.usefixtures("_worker_settings")
def test_what_a_job_begins_from_is_never_random_instead(
    db: Sessions, attempt: Attempt, submit: Callable[..., Job], tmp_path: Path
) -> None:
    effects_of(attempt, tmp_path).carry_out([state(8, tmp_path)], [])
    assert training._init_from(attempt, work_dir=tmp_path) is None, "it was submitted without one"
    with db.begin() as session:
        begin = session.scalars(select(Checkpoint)).one()
        endings.fail(session, attempt, DataFailed("for the test"))
    submit(init_from=begin.id)
    with db.begin() as session:
        tuned = claim_job(session, worker="w", lease_s=60)
    assert tuned is not None
    found = training._init_from(tuned, work_dir=tmp_path)
    assert found is not None
    assert found.read_bytes() == b"state"
    with db.begin() as session:
        session.delete(session.get_one(Checkpoint, begin.id))
    with pytest.raises(DataFailed, match="deleted"):
        training._init_from(tuned, work_dir=tmp_path)


@pytest.mark.usefixtures("_worker_settings")
def test_a_state_that_the_store_does_not_give_is_passed_over(
    db: Sessions, attempt: Attempt, tmp_path: Path
) -> None:
    effects = effects_of(attempt, tmp_path)
    effects.carry_out([state(8, tmp_path), state(16, tmp_path)], [])
    with db() as session:
        newest, before = records.latest_states(session, attempt.job_id, run=attempt.run)
    store().delete(newest.storage_key)
    assert training._resume(attempt, work_dir=tmp_path) == tmp_path / "resume.state"
    with db() as session:
        assert session.get_one(Job, attempt.job_id).images_seen == before.images_seen == 8
        assert len(records.latest_states(session, attempt.job_id, run=attempt.run)) == 2, (
            "it may only be away"
        )
    store().delete(before.storage_key)
    with pytest.raises(StoreUnavailable):
        training._resume(attempt, work_dir=tmp_path)
