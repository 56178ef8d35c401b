"""One of everything that a tenant can have, for tests that go to every route."""

from __future__ import annotations

import re
from base64 import b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from core.errors import DataFailed
from core.jobs import endings, records
from tests.integration.api import story
from tests.picture_files import png

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Person

HOOK = {"url": "https://example.com/hook", "events": ["queued"]}


def one_of_everything(owner: Person, session: Session) -> dict[str, str]:
    """The owner's things by the names of the path parameters that they stand for; the job is running."""
    job = story.submit(owner, name="the owner's own", webhook=HOOK)
    attempt = story.start(session, job)
    made = story.checkpoint(session, attempt, b"x")
    story.sample(session, attempt, png())
    picture = story.store_file(png())
    story.evaluation(session, attempt, made, images_seen=0, fid=9.0, picture=picture)
    path = f"/v1/jobs/{job['id']}"
    generation = story.rendered(owner, session, job["id"], "generations", {"kind": "pictures", "count": 1})
    export = story.rendered(owner, session, job["id"], "exports", {"format": "onnx"})
    return {
        "generation_id": generation,
        "export_id": export,
        "name": story.RENDERED,
        "upload_id": begun_upload(owner, b"x" * 8),
        "key_id": new_key(owner),
        "dataset_id": job["dataset_id"],
        "job_id": job["id"],
        "position": "0",
        "checkpoint_id": owner.get(f"{path}/checkpoints").json()["items"][0]["id"],
        "evaluation_id": owner.get(f"{path}/metrics").json()["items"][0]["evaluation_id"],
        "delivery_id": owner.get(f"{path}/deliveries").json()["items"][0]["id"],
        "sample_id": owner.get(f"{path}/samples").json()["items"][0]["id"],
    }


def new_key(owner: Person) -> str:
    """A key of the owner's, without its token."""
    response = owner.post("/v1/keys", json={"name": "the owner's spare", "scopes": ["read"]})
    assert response.status_code == HTTPStatus.CREATED, response.text
    return str(response.json()["id"])


def begun_upload(owner: Person, data: bytes, *, length: int | None = None) -> str:
    """An upload of the owner's that holds these bytes; complete, unless its length is another."""
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(data) if length is None else length),
        "Upload-Metadata": f"filename {b64encode(b'the-owner.zip').decode()}",
        "Content-Type": "application/offset+octet-stream",
    }
    response = owner.post("/v1/uploads", content=data, headers=headers)
    assert response.status_code == HTTPStatus.CREATED, response.text
    return str(response.json()["id"])


def filled(path: str, ids: Mapping[str, str]) -> str:
    """A path of the document with ids in it."""
    for name in re.findall(r"{(\w+)}", path):
        assert name in ids, (
            f"{path} has a parameter {name!r} that these tests know no thing for: "
            "add one to one_of_everything in tests/integration/api/world.py"
        )
    return path.format(**ids)


def ended_jobs(owner: Person, session: Session) -> list[dict[str, Any]]:
    """A job that succeeded and one that failed, each with a generator and a state to go on from."""
    jobs = [story.submit(owner) for _ in range(2)]
    for job in jobs:
        attempt = story.start(session, job)
        made = story.checkpoint(session, attempt, b"weights", images_seen=8)
        story.evaluation(session, attempt, made, images_seen=8, fid=12.5)
        records.record_checkpoint(session, attempt, story.store_file(b"state"), kind="state", images_seen=8)
        if job is jobs[0]:
            endings.finish(session, attempt)
        else:
            endings.fail(session, attempt, DataFailed("The pictures cannot be read."))
        session.commit()
    return jobs
