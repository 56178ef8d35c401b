"""What the API tells of jobs: lists, fields, progress, curves and losses."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from PIL import Image
from sqlalchemy import event, update

from core import db
from core.jobs import records
from core.jobs.tables import Job
from tests.integration.api import story
from tests.integration.api.conftest import problem

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Person


def test_list_filters_and_goes_on_by_cursor(owner: Person) -> None:
    jobs = [story.submit(owner, priority=0) for _ in range(4)]
    owner.post(f"/v1/jobs/{jobs[1]['id']}/cancel")

    def ids(**query: Any) -> list[str]:
        page = owner.get("/v1/jobs", params={"limit": 2, **query}).json()
        found = [job["id"] for job in page["items"]]
        return found + (ids(**query | {"cursor": page["next_cursor"]}) if page["next_cursor"] else [])

    made = [job["id"] for job in jobs][::-1]
    assert ids() == made
    assert ids(status="cancelled") == [jobs[1]["id"]]
    assert ids(status="queued") == [i for i in made if i != jobs[1]["id"]]
    assert ids(dataset_id=jobs[2]["dataset_id"]) == [jobs[2]["id"]]
    problem(owner.get("/v1/jobs", params={"status": "dead"}), 422, "invalid")
    problem(owner.get("/v1/jobs", params={"limit": 0}), 422, "invalid")


def test_list_filters_by_name_family_and_time(owner: Person, session: Session) -> None:
    made = [story.submit(owner, name=name, priority=0) for name in ("Red 100%", "red_2", "blue")]
    for number, job in enumerate(made):
        moment = datetime(2026, 3, 1 + number, 12, tzinfo=UTC)
        session.execute(update(Job).where(Job.id == UUID(job["id"])).values(created_at=moment))
    session.commit()

    def names(**query: Any) -> list[str]:
        response = owner.get("/v1/jobs", params=query)
        assert response.status_code == 200, response.text
        return [job["name"] for job in response.json()["items"]]

    assert names(text="RED") == ["red_2", "Red 100%"]
    assert names(text="0%") == ["Red 100%"]
    assert names(text="d_") == ["red_2"]
    assert names(text="%") == ["Red 100%"]
    assert names(family="slaegan") == ["blue", "red_2", "Red 100%"]
    assert names(family="other") == []
    assert names(created_after="2026-03-02T12:00:00Z") == ["blue", "red_2"]
    assert names(created_before="2026-03-02T13:00:00+01:00") == ["Red 100%"]
    assert names(status=["queued", "failed"]) == ["blue", "red_2", "Red 100%"]
    assert names(status=["running", "failed"], text="red") == []
    for wrong in ({"created_after": "2026-03-02T12:00:00"}, {"text": ""}, {"colour": "red"}, {"status": "x"}):
        problem(owner.get("/v1/jobs", params=wrong), 422, "invalid")


def test_only_the_fields_that_are_asked_for(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    story.evaluation(session, attempt, story.checkpoint(session, attempt, b"x"), images_seen=0, fid=9.0)
    path = f"/v1/jobs/{job['id']}"
    part = owner.get(path, params={"fields": "status,id"}).json()
    assert part == {"id": job["id"], "status": "running"}
    (listed,) = owner.get("/v1/jobs", params={"fields": "id,status"}).json()["items"]
    assert listed == part
    assert owner.get(path, params={"fields": "best"}).json()["best"]["fid"] == 9.0
    told = problem(owner.get(path, params={"fields": "id,stat"}), 422, "invalid")
    assert "'stat'" in told["errors"][0]["what"]


def test_polling_costs_nothing_until_something_happens(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    paths = [f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/metrics", "/v1/jobs"]
    tags = {path: owner.get(path).headers["etag"] for path in paths}
    for path, tag in tags.items():
        for header in (tag, f'"x", {tag}', "*", tag.removeprefix("W/")):
            again = owner.get(path, headers={"If-None-Match": header})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert owner.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    attempt = story.start(session, job)
    story.evaluation(session, attempt, story.checkpoint(session, attempt, b"x"), images_seen=0, fid=9.0)
    for path, tag in tags.items():
        changed = owner.get(path, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag


def test_a_list_asks_the_database_as_often_as_one_job_does(owner: Person, session: Session) -> None:
    for _ in range(3):
        job = story.submit(owner)
        attempt = story.start(session, job)
        story.evaluation(session, attempt, story.checkpoint(session, attempt, b"x"), images_seen=0, fid=9.0)
    statements: list[str] = []
    engine = db.sessions().kw["bind"]

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    try:
        one = owner.get(f"/v1/jobs/{job['id']}")
        alone = len(statements)
        many = owner.get("/v1/jobs")
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert one.json()["best"]["fid"] == 9.0
    assert [job["best"]["fid"] for job in many.json()["items"]] == [9.0] * 3
    # A list has its jobs, and then their curves.
    assert (alone, len(statements)) == (1, 3), statements


def test_progress_eta_latest_and_best(owner: Person, session: Session) -> None:
    job = story.submit(owner, config={"resolution": 64, "total_images": 1000})
    attempt = story.start(session, job)
    records.record_progress(
        session, attempt, images_seen=400, images_per_s=20.0, losses={400: {"generator": 0.5}}
    )
    session.commit()
    made = story.checkpoint(session, attempt, b"x", images_seen=400)
    other = {"extractor": "inception_v3"}
    story.evaluation(session, attempt, made, images_seen=0, fid=5.0, protocol=other)
    story.evaluation(session, attempt, made, images_seen=100, fid=300.0)
    story.evaluation(session, attempt, made, images_seen=200, fid=100.5)
    story.evaluation(session, attempt, made, images_seen=300, fid=1000.0)
    story.evaluation(session, attempt, made, images_seen=400, fid=None)
    seen = owner.get(f"/v1/jobs/{job['id']}").json()
    assert (seen["status"], seen["worker"], seen["attempt"]) == ("running", "w1", 1)
    assert (seen["progress"], seen["images_per_s"], seen["eta_s"]) == (0.4, 20.0, 30.0)
    assert seen["losses"] == {"generator": 0.5}
    assert (seen["latest"]["images_seen"], seen["latest"]["fid"]) == (300, 1000.0)
    # 5.0 is lower, but of another protocol; 100.5 is lower than 1000.0 as a number, not as a text.
    assert (seen["best"]["images_seen"], seen["best"]["fid"]) == (200, 100.5)
    assert seen["best_reason"] == "KID 0.1005 is the lowest."
    curve = owner.get(f"/v1/jobs/{job['id']}/metrics").json()["items"]
    assert [(p["images_seen"], p["fid"], p["status"]) for p in curve] == [
        (0, 5.0, "done"), (100, 300.0, "done"), (200, 100.5, "done"), (300, 1000.0, "done"), (400, None, "queued")
    ]  # fmt: skip
    assert [p["protocol"]["extractor"] for p in curve] == ["inception_v3", *["vgg16"] * 4]
    assert (curve[1]["kid"], curve[1]["kid_sd"], curve[1]["lpips"]) == (0.3, 0.0001, 0.5)
    assert curve[0]["protocol_hash"] != curve[1]["protocol_hash"]


def test_the_best_is_near_the_lowest_kid_and_covers_more(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    made = story.checkpoint(session, attempt, b"x")
    near = {"kid_sd": 0.02}
    for images_seen, fid, metrics in [
        (0, 30.0, near | {"recall": 0.3}),
        (100, 20.0, near | {"recall": 0.1}),
        (200, 10.0, near | {"recall": 0.9, "copy_rate": 0.5}),
        (300, 90.0, near | {"recall": 0.8}),
    ]:
        story.evaluation(session, attempt, made, images_seen=images_seen, fid=fid, metrics=metrics)
    seen = owner.get(f"/v1/jobs/{job['id']}").json()
    assert (seen["best"]["images_seen"], seen["latest"]["images_seen"]) == (0, 300)
    assert seen["best_reason"] == (
        "KID 0.03 is within one standard deviation (0.02) of the lowest, 0.01; of 3 such snapshots 2 with a copy rate "
        "of at most 20% remain, and of them it has the highest recall, 0.30."
    )


def test_losses_are_averaged_in_the_database(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    losses = {8 * i: {"generator": float(i), "discriminator": 1.0} for i in range(100)}
    records.record_progress(session, attempt, images_seen=800, images_per_s=1, losses=losses)
    session.commit()
    every = owner.get(f"/v1/jobs/{job['id']}/losses").json()["items"]
    assert {item["images_seen"]: item["losses"] for item in every} == losses
    few = owner.get(f"/v1/jobs/{job['id']}/losses", params={"points": 10}).json()["items"]
    assert [item["images_seen"] for item in few] == [8 * (10 * i + 9) for i in range(10)]
    for what, expected in {"losses": 4.5, "lowest": 0, "highest": 9}.items():
        assert [item[what]["generator"] for item in few] == [10 * i + expected for i in range(10)]
    problem(owner.get(f"/v1/jobs/{job['id']}/losses", params={"points": 0}), 422, "invalid")


def test_the_curve_as_a_picture(owner: Person, session: Session) -> None:
    job = story.submit(owner, name="a $name$ with _signs_")
    empty = owner.get(f"/v1/jobs/{job['id']}/curve.png")
    attempt = story.start(session, job)
    made = story.checkpoint(session, attempt, b"x")
    for images_seen, fid in [(0, 300.0), (100, 100.0), (200, 120.0)]:
        story.evaluation(session, attempt, made, images_seen=images_seen, fid=fid)
    drawn = owner.get(f"/v1/jobs/{job['id']}/curve.png")
    story.evaluation(session, attempt, made, images_seen=150, fid=None, status="skipped")
    with_skipped = owner.get(f"/v1/jobs/{job['id']}/curve.png")
    assert with_skipped.content != drawn.content, "skipped snapshots are marked"
    for response in (empty, drawn, with_skipped):
        assert response.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(response.content)) as image:
            assert image.size == (960, 540)
    blue = (31, 119, 180, 255)
    counts = [
        {color: n for n, color in Image.open(io.BytesIO(r.content)).getcolors(2**20) or []}.get(blue, 0)
        for r in (empty, drawn)
    ]
    assert counts[0] == 0, "nothing is drawn before the first evaluation"
    assert counts[1] > 500, "the line is drawn"
