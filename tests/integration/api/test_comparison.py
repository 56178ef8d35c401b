"""Jobs side by side: one protocol and the same pictures, or the difference in words."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.api import story
from tests.integration.api.conftest import problem
from tests.picture_files import form, pngs

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.jobs.lease import Attempt
    from tests.integration.api.conftest import Person

OTHER = story.PROTOCOL | {"resize": 299, "extractor": "inception_v3"}


def evaluated(
    owner: Person, session: Session, *fids: float, protocol: dict[str, Any] = story.PROTOCOL, **values: Any
) -> str:
    job = story.submit(owner, **values)
    add(session, story.start(session, job), *fids, protocol=protocol)
    return str(job["id"])


def add(session: Session, attempt: Attempt, *fids: float, protocol: dict[str, Any] = story.PROTOCOL) -> None:
    made = story.checkpoint(session, attempt, b"x", images_seen=protocol["resize"])
    for images_seen, fid in enumerate(fids):
        story.evaluation(session, attempt, made, images_seen=8 * images_seen, fid=fid, protocol=protocol)


def slaegan(owner: Person, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "SLAEGAN_URL": str(owner.base_url),
        "SLAEGAN_API_KEY": owner.headers["Authorization"].split()[1],
    }
    return subprocess.run(
        [sys.executable, "-P", "-m", "client.cli", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_curves_and_best_points(owner: Person, session: Session) -> None:
    ids = [evaluated(owner, session, 9.0, 4.0, 5.0), evaluated(owner, session, 8.0, 7.0, name="[red]two")]
    answer = owner.get("/v1/comparison", params={"job": ids})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["protocol"] == story.PROTOCOL
    first, second = body["jobs"]
    assert ([first["id"], second["id"]], second["name"]) == (ids, "[red]two")
    assert [point["fid"] for point in first["points"]] == [9.0, 4.0, 5.0]
    assert (first["best"]["fid"], first["latest"]["fid"], second["best"]["fid"]) == (4.0, 5.0, 7.0)
    assert first["best_reason"] == "KID 0.004 is the lowest."
    assert {point["protocol_hash"] for job in body["jobs"] for point in job["points"]} == {
        body["protocol_hash"]
    }
    again = owner.get("/v1/comparison", params={"job": [ids[0], *ids]}).json()
    assert again == body, "named twice, meant once"

    shown = slaegan(owner, "compare", ids[0], ids[1])
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("best") == shown.stdout.count("last") == 2
    assert "[red]two" in shown.stdout
    assert "vgg16, protocol" in shown.stdout


def test_the_common_protocol_is_found(owner: Person, session: Session) -> None:
    job = story.submit(owner)
    attempt = story.start(session, job)
    add(session, attempt, 3.0, 2.0)
    add(session, attempt, 30.0, 20.0, protocol=OTHER)
    other = evaluated(owner, session, 25.0, protocol=OTHER)
    body = owner.get("/v1/comparison", params={"job": [job["id"], other]}).json()
    assert body["protocol"] == OTHER
    assert [[point["fid"] for point in job["points"]] for job in body["jobs"]] == [[30.0, 20.0], [25.0]]


def test_a_difference_of_protocols_is_named(owner: Person, session: Session) -> None:
    ids = [evaluated(owner, session, 9.0), evaluated(owner, session, 8.0, protocol=OTHER)]
    body = problem(owner.get("/v1/comparison", params={"job": ids}), 409, "conflict")
    assert body["details"]["differing"] == {
        "extractor": {ids[0]: "vgg16", ids[1]: "inception_v3"},
        "resize": {ids[0]: 224, ids[1]: 299},
    }
    assert f"resize is 224 in job {ids[0]}, 299 in job {ids[1]}" in body["detail"]

    shown = slaegan(owner, "compare", *ids)
    assert shown.returncode == 1
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["differs", ids[0][:8], ids[1][:8]],
        ["extractor", "vgg16", "inception_v3"],
        ["resize", "224", "299"],
    ]
    assert "do not compare" in shown.stderr


def test_other_pictures_are_a_difference_though_they_are_as_many(owner: Person, session: Session) -> None:
    ids = [evaluated(owner, session, 9.0)]
    pictures = dict(list(pngs(5).items())[1:])
    dataset = owner.post("/v1/datasets", files=form(pictures)).json()["id"]
    ids.append(evaluated(owner, session, 8.0, dataset_id=dataset))
    body = problem(owner.get("/v1/comparison", params={"job": ids}), 409, "conflict")
    assert set(body["details"]["differing"]) == {"dataset"}
    assert len(set(body["details"]["differing"]["dataset"].values())) == 2


def test_what_cannot_be_compared(owner: Person, stranger: Person, session: Session) -> None:
    mine, foreign = evaluated(owner, session, 9.0), evaluated(stranger, session, 9.0)
    body = problem(owner.get("/v1/comparison", params={"job": [mine, foreign]}), 404, "not_found")
    assert body["detail"] == f"There is no job {foreign}."
    new = story.submit(owner, priority=0)["id"]
    body = problem(owner.get("/v1/comparison", params={"job": [mine, new]}), 409, "conflict")
    assert body["detail"].startswith(f"Job {new} (queued) has no metrics yet")


@pytest.mark.parametrize("count", [0, 1, 9])
def test_two_to_eight(count: int, owner: Person) -> None:
    ids = [f"{n:032x}" for n in range(count)]
    problem(owner.get("/v1/comparison", params={"job": ids}), 422, "invalid")
