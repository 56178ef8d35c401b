"""How long a training would take: by the tenant's own earlier jobs, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core.jobs import records
from core.schemas.families import FAMILIES
from tests.integration.api import story
from tests.integration.api.conftest import problem

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Person

SMALL = {"resolution": 64, "width": 0.125, "total_images": 8_000}


def measured(
    person: Person,
    session: Session,
    *,
    images_per_s: float,
    device: str = "NVIDIA L4",
    images_seen: int = 4_000,
    memory_bytes: int | None = None,
    config: dict[str, Any] = SMALL,
) -> None:
    """A job that has trained at this speed."""
    attempt = story.start(session, story.submit(person, config=config))
    records.record_facts(session, attempt, {"device": device})
    records.record_progress(
        session,
        attempt,
        images_seen=images_seen,
        images_per_s=images_per_s,
        losses={images_seen: {"d": 1.0}},
        peak_memory_bytes=memory_bytes,
    )
    session.commit()


def estimated(person: Person, config: dict[str, Any]) -> dict[str, Any]:
    response = person.post("/v1/jobs/estimate", json={"config": config})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_what_was_never_measured_is_not_known(owner: Person) -> None:
    body = estimated(owner, SMALL)
    assert (body["basis"], body["devices"]) == (None, [])


def test_the_median_of_jobs_of_the_same_configuration(owner: Person, session: Session) -> None:
    for speed, memory_bytes in ((100.0, 3 * 2**30), (50.0, 2**30), (80.0, None)):
        measured(owner, session, images_per_s=speed, memory_bytes=memory_bytes)
    measured(owner, session, images_per_s=2.0, device="x86_64")
    body = estimated(owner, SMALL | {"total_images": 16_000, "seed": 3, "evaluation": {"generated": 64}})
    assert body["basis"] == "same"
    fast, slow = body["devices"]
    assert fast == {
        "device": "NVIDIA L4",
        "jobs": 3,
        "images_per_s": 80.0,
        "training_s": 200.0,
        "fastest_s": 160.0,
        "slowest_s": 320.0,
        "memory_bytes": 3 * 2**30,
    }
    assert (slow["device"], slow["jobs"], slow["training_s"]) == ("x86_64", 1, 8_000.0)
    assert slow["memory_bytes"] is None


def test_jobs_alike_count_where_there_are_none_of_the_same(owner: Person, session: Session) -> None:
    measured(owner, session, images_per_s=100.0)
    body = estimated(owner, SMALL | {"coverage": 1.0})
    assert (body["basis"], len(body["devices"])) == ("alike", 1)
    measured(owner, session, images_per_s=40.0, config=SMALL | {"coverage": 1.0})
    body = estimated(owner, SMALL | {"coverage": 1.0})
    assert (body["basis"], body["devices"][0]["images_per_s"]) == ("same", 40.0)


@pytest.mark.parametrize(
    "config",
    [{"width": 0.25}, {"resolution": 128}, {"batch": 16}, {"family": "dcgan", "width": 8}],
    ids=["width", "resolution", "batch", "family"],
)
def test_other_networks_tell_nothing(owner: Person, session: Session, config: dict[str, Any]) -> None:
    measured(owner, session, images_per_s=100.0)
    assert estimated(owner, SMALL | config)["basis"] is None


def test_first_iterations_and_strangers_tell_nothing(
    owner: Person, stranger: Person, session: Session
) -> None:
    measured(owner, session, images_per_s=3.0, images_seen=80)
    measured(stranger, session, images_per_s=100.0)
    assert estimated(owner, SMALL)["basis"] is None


@pytest.mark.parametrize("family", FAMILIES)
def test_every_default_is_told(owner: Person, family: str) -> None:
    config = estimated(owner, {"family": family, "resolution": 64})["config"]
    assert config == FAMILIES[family].model_validate({"resolution": 64}).model_dump(mode="json")


def test_a_wrong_value_is_named_and_nothing_is_submitted(owner: Person) -> None:
    body = problem(owner.post("/v1/jobs/estimate", json={"config": {"resolution": 100}}), 422, "invalid")
    assert [error["where"] for error in body["errors"]] == ["body.config.resolution"]
    assert owner.get("/v1/jobs").json()["items"] == []
    assert owner.get("/v1/audit", params={"action": "estimate_job"}).json()["items"] == []
