"""Snapshots that newer ones have overtaken while they waited for their evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from core.evaluations import service as evaluations
from core.evaluations.tables import Evaluation
from core.jobs import endings
from core.jobs.tables import JobEvent
from core.metrics.protocol import planned_protocol
from core.schemas.judging import EvaluationConfig, RetentionConfig
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import SnapshotTick
from core.storage import store
from tests.integration.jobs.test_lease import claim, claim_evaluation, snapshot, status, story
from tests.integration.jobs.test_retention import ages
from worker.effects import TrainingEffects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from core.jobs.tables import Job
    from tests.integration.jobs.conftest import Sessions

# The generators of some queued evaluations, but one, are all that retention keeps.
CONFIG = SlaeganConfig(
    resolution=64,
    evaluation_backlog=2,
    evaluation=EvaluationConfig(extractor="vgg16", precision="fp32"),
    retention=RetentionConfig(best=1, last=1),
)


def states(db: Sessions) -> dict[int, str]:
    with db() as session:
        rows = session.scalars(select(Evaluation).order_by(Evaluation.images_seen))
        return {row.images_seen: row.status for row in rows}


def skip(db: Sessions, job_id: UUID, config: SlaeganConfig = CONFIG) -> list[str]:
    with db.begin() as session:
        return evaluations.skip_overtaken(session, job_id=job_id, run=1, config=config)


def test_the_oldest_are_skipped_and_the_newest_never(db: Sessions, submit: Callable[..., Job]) -> None:
    job = submit(config=CONFIG)
    attempt = claim(db)
    for seen in (0, 8, 16):
        snapshot(db, attempt, seen)
    held = claim_evaluation(db)
    assert skip(db, job.id) == [], "the one that runs does not wait"
    for seen in (24, 32):
        snapshot(db, attempt, seen)
    assert len(skip(db, job.id)) == 2
    assert states(db) == {0: "running", 8: "skipped", 16: "skipped", 24: "queued", 32: "queued"}
    assert ages(db, job.id) == [0, 24, 32], "retention no longer keeps the generators of skipped ones"
    with db() as session:
        row = session.scalars(select(Evaluation).where(Evaluation.images_seen == 8)).one()
        assert row.error == {"code": "skipped", "message": "overtaken by newer snapshots"}
        assert row.finished_at is not None
        events = session.scalars(select(JobEvent).where(JobEvent.type == "evaluation_skipped")).all()
        assert sorted(event.payload["images_seen"] for event in events) == [8, 16]
    assert skip(db, job.id) == [], "once"

    with db.begin() as session:
        endings.finish(session, attempt)
    for _ in range(3):
        with db.begin() as session:
            evaluations.post(session, held, {"fid": 1.0, "kid": 1.0, "kid_sd": 0.1})
        if status(db, job.id) == "evaluating":
            held = claim_evaluation(db)
    assert story(db, job.id)[-1] == "succeeded"


def test_without_a_limit_all_wait(db: Sessions, submit: Callable[..., Job]) -> None:
    unlimited = CONFIG.model_copy(update={"evaluation_backlog": None})
    job = submit(config=unlimited)
    attempt = claim(db)
    for seen in range(0, 80, 8):
        snapshot(db, attempt, seen)
    assert skip(db, job.id, unlimited) == []
    assert set(states(db).values()) == {"queued"}


def test_another_jobs_evaluations_do_not_count(db: Sessions, submit: Callable[..., Job]) -> None:
    for _ in range(2):
        job = submit(config=CONFIG)
        attempt = claim(db)
        for seen in (0, 8):
            snapshot(db, attempt, seen)
    assert skip(db, job.id) == []


def test_what_is_being_claimed_is_left_alone(db: Sessions, submit: Callable[..., Job]) -> None:
    job = submit(config=CONFIG)
    attempt = claim(db)
    for seen in (0, 8, 16):
        snapshot(db, attempt, seen)
    with db.begin() as session:
        held = evaluations.claim(session, worker="m", lease_s=60)
        assert held is not None
        assert skip(db, job.id) == [], "neither waited for nor skipped"
    assert states(db) == {0: "running", 8: "queued", 16: "queued"}


@pytest.mark.usefixtures("_worker_settings")
def test_a_training_that_outruns_its_evaluator_keeps_few_files(
    db: Sessions, submit: Callable[..., Job], tmp_path: Path
) -> None:
    job = submit(config=CONFIG)
    protocol = planned_protocol(CONFIG, image_count=4)
    effects = TrainingEffects(claim(db), config=CONFIG, protocol=protocol, work_dir=tmp_path)
    for seen in range(0, 48, 8):
        for name in ("generator.safetensors", "grid.png"):
            (tmp_path / name).write_bytes(b"x")
        tick = SnapshotTick(images_seen=seen, generator="generator.safetensors", grid="grid.png")
        effects.carry_out([tick], [])
    assert states(db) == dict.fromkeys((0, 8, 16, 24), "skipped") | {32: "queued", 40: "queued"}
    generators = [key for key in store().keys(f"jobs/{job.id}") if "generator-" in key]
    assert len(generators) == len(ages(db, job.id)) == 2
