"""The Python client against a running service, sync and async, over connections that end."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest

from client import AsyncJob, AsyncSlaeGan, Dataset, Job, SlaeGan
from core.errors import DataFailed, NotFound
from core.jobs import endings
from core.schemas.jobs import JobIn, Point, Status
from core.schemas.slaegan import SlaeganConfig
from tests.integration.api import story
from tests.picture_files import png, pngs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

WEIGHTS = bytes(range(256)) * 1000


def key_of(person: Person) -> str:
    return person.headers["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def service(api: Api, owner: Person) -> Iterator[SlaeGan]:
    with SlaeGan(str(api.url), key_of(owner)) as service:
        yield service


@pytest.fixture
def evaluated(owner: Person, session: Session) -> UUID:
    """A job with a generator, a grid and two points of a curve."""
    job = story.submit(owner, name="<script>alert(1)</script>")
    attempt = story.start(session, job)
    for images_seen, fid in ((0, 90.0), (800, 12.5)):
        made = story.checkpoint(session, attempt, WEIGHTS, images_seen=images_seen)
        story.evaluation(session, attempt, made, images_seen=images_seen, fid=fid)
    story.sample(session, attempt, png(), images_seen=800)
    endings.finish(session, attempt)
    session.commit()
    return UUID(job["id"])


def folder_of_pictures(folder: Path) -> Path:
    folder.mkdir()
    for name, data in pngs(5).items():
        (folder / name).write_bytes(data)
    return folder


def test_from_pictures_to_a_job(service: SlaeGan, tmp_path: Path) -> None:
    dataset = service.create_dataset(folder_of_pictures(tmp_path / "cats"), name="cats")
    assert isinstance(dataset, Dataset)
    assert [image.name for image in dataset.images()] == sorted(pngs(5))
    assert dataset.preview().media_type == "image/jpeg"
    assert "data:image/jpeg;base64," in dataset._repr_html_()
    job = dataset.train(SlaeganConfig(resolution=64), name="first", priority=3)
    assert isinstance(job, Job)
    assert (job.dataset_id, job.name, job.priority) == (dataset.id, "first", 3)
    assert job.pause().status is Status.PAUSED
    assert [event.type for event in job.events()] == ["queued", "paused"]
    assert job.cancel().refresh().status is Status.CANCELLED
    assert job.wait().status is Status.CANCELLED
    with pytest.raises(NotFound, match="no grid yet"):
        job.grid()
    second = dataset.add_version(remove=["0"])
    assert (second.version, second.image_count) == (2, 4)
    dataset.delete()
    with pytest.raises(NotFound):
        dataset.refresh()


def test_a_curve_is_a_frame_where_there_is_pandas(
    service: SlaeGan, evaluated: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = service.job(evaluated)
    frame = job.metrics()
    assert list(frame["images_seen"]) == [0, 800]
    assert list(frame["fid"]) == [90.0, 12.5]
    assert set(frame["extractor"]) == {"vgg16"}
    imported = builtins.__import__

    def without_pandas(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    points = job.metrics()
    assert [type(point) for point in points] == [Point, Point]
    assert points == job.points()


def test_a_notebook_shows_curve_and_grid(service: SlaeGan, evaluated: UUID) -> None:
    job = service.job(evaluated)
    shown = job._repr_html_()
    assert shown.count("data:image/png;base64,") == 2
    assert "<script>" not in shown
    assert job.grid().data == png()
    assert "text/html" in job.curve()._repr_mimebundle_()


def test_the_best_generator_arrives(service: SlaeGan, evaluated: UUID, tmp_path: Path) -> None:
    (tmp_path / "g.part").write_bytes(WEIGHTS[:1000])  # what an earlier try left
    told: list[int] = []
    path = service.job(evaluated).download_generator(tmp_path / "g", progress=told.append)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(WEIGHTS).digest()
    assert told[0] > 1000


def test_waiting_raises_the_class_that_the_job_failed_with(
    service: SlaeGan, owner: Person, session: Session
) -> None:
    job = story.submit(owner)
    endings.fail(session, story.start(session, job), DataFailed("The pictures cannot be read."))
    session.commit()
    with pytest.raises(DataFailed, match="cannot be read"):
        service.wait(UUID(job["id"]))


def test_a_lost_answer_makes_no_second_job(service: SlaeGan, owner: Person) -> None:
    """The first answer never arrives: the connection is closed on it, and the request comes again."""
    dataset_id = UUID(story.upload(owner))
    sent = 0
    transport = service._transport.http._transport
    handle = transport.handle_request

    def lose_the_first(request: Any) -> Any:
        nonlocal sent
        response = handle(request)
        sent += 1
        if sent == 1:
            response.read()
            raise httpx.ReadError("lost", request=request)
        return response

    transport.handle_request = lose_the_first  # type: ignore[method-assign]
    job = service.create_job(JobIn(dataset_id=dataset_id, name="once", config=SlaeganConfig(resolution=64)))
    assert sent == 2
    assert [one["id"] for one in owner.get("/v1/jobs").json()["items"]] == [str(job.id)]


def test_the_same_on_an_event_loop(api: Api, owner: Person, evaluated: UUID, tmp_path: Path) -> None:
    async def everything() -> None:
        async with AsyncSlaeGan(str(api.url), key_of(owner)) as service:
            dataset = await service.create_dataset(folder_of_pictures(tmp_path / "cats"), name="cats")
            assert [image.position async for image in dataset.images()] == [0, 1, 2, 3, 4]
            job = await dataset.train(SlaeganConfig(resolution=64))
            await job.cancel()
            first, second = await asyncio.gather(job.wait(), service.job(evaluated))
            assert isinstance(first, AsyncJob)
            assert (first.status, second.status) == (Status.CANCELLED, Status.SUCCEEDED)
            assert [event.type async for event in job.follow_events()] == ["queued", "cancelled"]
            assert {job.id async for job in service.jobs()} == {first.id, second.id}
            assert list((await second.metrics())["fid"]) == [90.0, 12.5]
            path = await second.download_generator(tmp_path / "g")
            assert path.read_bytes() == WEIGHTS
            assert "&lt;script&gt;" in second._repr_html_()

    asyncio.run(everything())
