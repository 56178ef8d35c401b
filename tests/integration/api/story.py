"""What a worker would do to a job, step by step, through the worker's own functions."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from core import storage
from core.evaluations.tables import Evaluation
from core.jobs import best, records
from core.jobs.claim import claim as claim_job
from core.jobs.tables import Job
from core.renderings import service as renderings
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.jobs.lease import Attempt
    from tests.integration.api.conftest import Person

PROTOCOL = {"extractor": "vgg16", "resize": 224}


def upload(person: Person) -> str:
    """A dataset of four pictures."""
    response = person.post("/v1/datasets", files=form(pngs(4)))
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def submit(person: Person, **values: Any) -> dict[str, Any]:
    """A queued job; it is the next to be claimed."""
    body = {"dataset_id": upload(person), "priority": 100, "config": {"resolution": 64}, **values}
    response = person.post("/v1/jobs", json=body)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def start(session: Session, job: dict[str, Any], *, worker: str = "w1") -> Attempt:
    """A worker takes the job."""
    attempt = claim_job(session, worker=worker, lease_s=600)
    session.commit()
    assert attempt is not None
    assert str(attempt.job_id) == job["id"]
    return attempt


def store_file(data: bytes) -> records.StoredFile:
    """Bytes in the store, under a key of the kind that workers make."""
    suffix = ".png" if data.startswith(b"\x89PNG") else ".safetensors"
    key = f"jobs/{uuid4()}{suffix}"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        storage.store().put(key, path)
    return records.StoredFile(key=key, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def checkpoint(session: Session, attempt: Attempt, data: bytes, *, images_seen: int = 0) -> UUID:
    """A generator in the store, with its row."""
    made = records.record_checkpoint(
        session, attempt, store_file(data), kind="generator", images_seen=images_seen
    )
    session.commit()
    assert made is not None
    return made


def sample(
    session: Session, attempt: Attempt, data: bytes, *, images_seen: int = 0, kind: str = "grid"
) -> None:
    """A picture of a snapshot in the store, with its row."""
    records.record_sample(session, attempt, store_file(data), images_seen=images_seen, kind=kind)
    session.commit()


def evaluation(
    session: Session,
    attempt: Attempt,
    checkpoint_id: UUID,
    *,
    images_seen: int,
    fid: float | None,
    **values: Any,
) -> None:
    """A snapshot's evaluation: done with a FID, or still queued without."""
    protocol = values.get("protocol", PROTOCOL)
    # KID falls and rises with FID, which is what mostly happens.
    numbers = None if fid is None else {"fid": fid, "kid": fid / 1000, "kid_sd": 0.0001, "lpips": 0.5}
    metrics = numbers and {**numbers, **values.get("metrics", {})}
    session.add(
        Evaluation(
            job_id=attempt.job_id,
            run=attempt.run,
            images_seen=images_seen,
            checkpoint_id=checkpoint_id,
            protocol=protocol,
            protocol_hash=hashlib.sha256(repr(protocol).encode()).hexdigest(),
            status=values.get("status", "queued" if fid is None else "done"),
            metrics=metrics,
            **_named(values.get("picture")),
        )
    )
    session.flush()
    job = session.get_one(Job, attempt.job_id, populate_existing=True)
    for name, value in best.shown(session, job).items():
        setattr(job, name, value)
    session.commit()


RENDERED = "1.png"


def rendered(
    person: Person, session: Session, job_id: str, route: str, body: dict[str, Any], *, data: bytes = b"made"
) -> str:
    """A generation or an export that a worker has done, with one file."""
    response = person.post(f"/v1/jobs/{job_id}/{route}", json=body)
    assert response.status_code == HTTPStatus.CREATED, response.text
    post_rendering(session, str(response.json()["id"]), data=data)
    return str(response.json()["id"])


def claim_rendering(session: Session, rendering_id: str) -> renderings.Claim:
    """A worker takes renderings until it has this one."""
    while (claim := renderings.claim(session, worker="g1", lease_s=600)) is not None:
        session.commit()
        if str(claim.rendering_id) == rendering_id:
            return claim
    raise AssertionError("it was not in the queue")


def post_rendering(
    session: Session,
    rendering_id: str,
    *,
    data: bytes = b"made",
    name: str = RENDERED,
    media_type: str = "image/png",
) -> None:
    """A worker takes it, and posts one file."""
    claim = claim_rendering(session, rendering_id)
    stored = store_file(data)
    file = renderings.NewFile(
        name=name, role="main", media_type=media_type, storage_key=stored.key, sha256=stored.sha256,
        size_bytes=stored.size_bytes,
    )  # fmt: skip
    renderings.post(session, claim, files=[file], facts={"device": "cpu"})
    session.commit()


def _named(picture: records.StoredFile | None) -> dict[str, Any]:
    if picture is None:
        return {}
    sha256, size_bytes = picture.sha256, picture.size_bytes
    return {"picture_key": picture.key, "picture_sha256": sha256, "picture_size_bytes": size_bytes}
