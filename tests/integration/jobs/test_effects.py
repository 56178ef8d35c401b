"""What a training child says, on the job's record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from core.db import sessions
from core.jobs import lease
from core.jobs.tables import LogLine
from core.schemas.ticks import PreparingTick
from core.schemas.training import EvaluationConfig, SlaeganConfig
from core.settings import settings
from worker.effects import MAX_LOG_LINES, TrainingEffects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core.jobs.lease import Attempt
    from core.jobs.tables import Job
    from tests.integration.jobs.conftest import Sessions


@pytest.fixture
def _worker_settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of a worker on the test's database; these effects need no broker and no store."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("BROKER_URL", "unused://")
    monkeypatch.setenv("STORAGE_URL", tmp_path.as_uri())
    settings.cache_clear()
    sessions.cache_clear()
    yield
    sessions().kw["bind"].dispose()
    settings.cache_clear()
    sessions.cache_clear()


@pytest.fixture
def attempt(db: Sessions, submit: Callable[..., Job]) -> Attempt:
    submit()
    with db.begin() as session:
        claimed = lease.claim(session, worker="w", lease_s=60)
    assert claimed is not None
    return claimed


def lines(db: Sessions) -> list[str]:
    with db() as session:
        return list(session.scalars(select(LogLine.line).order_by(LogLine.seq)))


@pytest.mark.usefixtures("_worker_settings")
def test_the_preparation_of_pictures_is_told_in_the_log(
    db: Sessions, attempt: Attempt, tmp_path: Path
) -> None:
    config = SlaeganConfig(resolution=64, evaluation=EvaluationConfig(extractor="vgg16", precision="fp32"))
    effects = TrainingEffects(attempt, config=config, image_count=4, work_dir=tmp_path)
    effects.carry_out([PreparingTick(done=3, total=4), PreparingTick(done=4, total=4)], ["a line of its own"])
    told = ["3 of 4 pictures are prepared", "4 of 4 pictures are prepared", "a line of its own"]
    assert lines(db) == told
    effects.carry_out([], ["."] * MAX_LOG_LINES)
    effects.carry_out([PreparingTick(done=4, total=4)], [])
    assert len(lines(db)) == MAX_LOG_LINES + 1  # the last says that the log is cut
