"""What tests of the garbage collection have in common: putting things there, and looking at what goes."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import func, update

from core.datasets.ingest import preview_key
from core.datasets.tables import Dataset, StoredPicture
from core.db import sessions
from core.errors import SlaeganError
from core.evaluations.tables import Evaluation
from core.garbage.collect import collect
from core.garbage.names import FOLDERS
from core.garbage.report import Bounds, Report
from core.jobs import endings
from core.jobs.tables import Checkpoint, Job, Sample
from core.logs.tables import LogChunk
from core.renderings.tables import RenderedFile, Rendering
from core.schemas.judging import RetentionConfig
from core.schemas.slaegan import SlaeganConfig
from core.settings import settings
from core.storage import store
from tests.integration.jobs.test_lease import claim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.jobs.lease import Attempt
    from core.tables import Base
    from tests.integration.jobs.conftest import Sessions


__all__ = ["_folders", "attempt"]  # fixtures

HOUR = 3600
OLD, YOUNG = 2 * HOUR, 0


@pytest.fixture(autouse=True)
def _folders(_worker_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLAEGAN_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()
    sessions()  # Made now: threads that ask at once for the first time would make one each, and leave one open.


@pytest.fixture
def attempt(submit: Callable[..., Job], db: Sessions) -> Attempt:
    submit(config=SlaeganConfig(resolution=64, retention=RetentionConfig(best=1, last=1)))
    return claim(db)


def run(*, dry_run: bool = False, grace_s: float = HOUR, limit: int = 1000) -> Report:
    bounds = Bounds(grace_s=grace_s, limit=limit, dry_run=dry_run)
    return collect(bounds, data_dir=settings().data_dir)


def told(report: Report) -> dict[str, tuple[int, int]]:
    assert report.problems == []
    return {kind: (found.count, found.size_bytes) for kind, found in report.kinds.items() if found.count}


def only(kind: str, *, count: int, size_bytes: int = 0, **bounds: Any) -> None:
    """This kind and no other is found, is still there after a dry run, goes with the next, and then is gone."""
    there = {kind: (count, size_bytes)}
    assert told(run(dry_run=True, **bounds)) == there
    assert told(run(dry_run=True, **bounds)) == there, "a dry run removes nothing"
    assert told(run(**bounds)) == there
    assert told(run(**bounds)) == {}, "twice is no error"


def put(key: str, *, age_s: float = OLD, data: bytes = b"x") -> str:
    source = settings().data_dir / uuid4().hex
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(data)
    store().put(key, source)
    source.unlink()
    age(key, age_s)
    return key


def age(key: str, age_s: float) -> None:
    if settings().storage_url.startswith("file:"):
        path = settings().storage_url.removeprefix("file://") + "/" + key
        os.utime(path, (time.time() - age_s,) * 2)


def keys() -> set[str]:
    return {key for folder in FOLDERS for key in store().keys(folder)}


def checkpoint(db: Sessions, attempt: Attempt, kind: str, seen: int, **values: Any) -> str:
    """A checkpoint with its file."""
    key = put(f"jobs/{attempt.job_id}/1/{kind}-{seen}-{uuid4().hex[:8]}", data=b"12345")
    facts = {"run": 1, "attempt": 1, "sha256": "0" * 64, "size_bytes": 5} | values
    with db.begin() as session:
        session.add(Checkpoint(job_id=attempt.job_id, kind=kind, images_seen=seen, storage_key=key, **facts))
    return key


def end(db: Sessions, attempt: Attempt, *, succeeded: bool = True, age_s: float = OLD) -> None:
    with db.begin() as session:
        if succeeded:
            endings.finish(session, attempt)
        else:
            endings.fail(session, attempt, SlaeganError("for the test"))
        session.execute(
            update(Job)
            .where(Job.id == attempt.job_id)
            .values(finished_at=Job.finished_at - timedelta(seconds=age_s))
        )


_NUMBERS = count(100)


class Things:
    """Rows that name files, of every kind."""

    def __init__(self, db: Sessions, attempt: Attempt) -> None:
        self._db, self._attempt = db, attempt

    def name(self, kind: str) -> str:
        n = next(_NUMBERS)
        job = {"job_id": self._attempt.job_id, "run": 1}
        file = {"sha256": "0" * 64, "size_bytes": 1}
        key = f"jobs/{self._attempt.job_id}/1/{kind}-{uuid4().hex}"
        with self._db.begin() as session:
            row: Base
            match kind:
                case "state" | "generator":
                    row = Checkpoint(attempt=1, kind=kind, images_seen=n, storage_key=key, **job, **file)
                case "sample":
                    row = Sample(images_seen=n, storage_key=key, **job, **file)
                case "log":
                    row = LogChunk(first_seq=n, last_seq=n, attempt=1, storage_key=key, **job, **file)
                case "evaluation":
                    values: Any = {f"picture_{name}": value for name, value in file.items()}
                    row = Evaluation(
                        images_seen=n, protocol={}, protocol_hash="h", picture_key=key, **job, **values
                    )
                case "rendered":
                    rendering = self._rendering(n)
                    session.add(rendering)
                    session.flush()
                    row = RenderedFile(
                        rendering_id=rendering.id, name="1.png", position=0, role="main", media_type="image/png",
                        storage_key=key, **file,
                    )  # fmt: skip
                case "picture":
                    # No dataset holds it; an upload brought it just now.
                    sha256 = uuid4().hex * 2
                    key = f"pictures/{self._attempt.tenant_id}/{sha256[:2]}/{sha256}.png"
                    row = StoredPicture(
                        tenant_id=self._attempt.tenant_id, sha256=sha256, storage_key=key, width=1, height=1,
                        size_bytes=1,
                    )  # fmt: skip
                case _:
                    row = Dataset(
                        tenant_id=self._attempt.tenant_id, name="n", image_count=4, size_bytes=4, content_hash="h"
                    )  # fmt: skip
                    session.add(row)
                    session.flush()
                    return preview_key(row.id)
            session.add(row)
        return key

    def _rendering(self, n: int) -> Rendering:
        return Rendering(
            tenant_id=self._attempt.tenant_id, job_id=self._attempt.job_id, images_seen=n, generator_sha256="g",
            what="generation", request={"kind": "pictures"}, request_hash=str(n), status="done", facts={},
            finished_at=func.clock_timestamp(),
        )  # fmt: skip


KINDS = ("state", "generator", "sample", "log", "evaluation", "rendered", "picture", "preview")
