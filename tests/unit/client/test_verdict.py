from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from rich.console import Console

from client.tables import jobs_table
from client.verdict import verdict
from client.watch import LiveDisplay, PlainDisplay
from core.schemas.jobs import Alarm, JobOut, Point, Status

ALARM = Alarm(kind="kid_below_zero", message="KID is [low].", images_seen=16, evaluation_id=UUID(int=7))


def point(images_seen: int, **metrics: float) -> Point:
    facts = {
        "images_seen": images_seen,
        "status": "done",
        "protocol_hash": "h",
        "protocol": {"extractor": "vgg16"},
    }
    return Point.model_validate(facts | {"evaluation_id": uuid4()} | metrics)


def job(**values: Any) -> JobOut:
    given = {"id": uuid4(), "name": "n", "status": Status.RUNNING, "images_seen": 16, "total_images": 16}
    given |= {"created_at": datetime.now(UTC), "images_per_s": None, "eta_s": None, "losses": {}}
    given |= {"best": None, "latest": None, "best_reason": None, "alarms": []}
    return JobOut.model_construct(**given | values)


def test_nothing_is_said_before_the_first_evaluation() -> None:
    assert verdict(job()) == []


def test_the_last_stands_beside_the_best() -> None:
    best = point(8, fid=12.34, kid=0.01234, recall=0.5, copy_rate=0.02)
    assert verdict(job(best=best, latest=point(16, fid=20.0), best_reason="Why.", alarms=[ALARM])) == [
        "ALARM (kid below zero) at 16 images: KID is [low].",
        "Best, at 8 images: FID 12.3 (vgg16), kid 0.0123, recall 0.5, copy_rate 0.02. Why.",
        "It was selected on the training set: the best of many looks better than it is.",
        "Last, at 16 images: FID 20.0 (vgg16).",
    ]


@pytest.mark.parametrize("display", [LiveDisplay, PlainDisplay])
def test_an_alarm_is_in_red_wherever_jobs_are_shown(display: type[LiveDisplay | PlainDisplay]) -> None:
    red = "\x1b[1;31m"
    for alarms in ([], [ALARM]):
        console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
        console.print(jobs_table([job(alarms=alarms)]))
        text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
        assert ("KID BELOW ZERO" in text, red in text) == (bool(alarms), bool(alarms))
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    with (shown := display(console)):
        shown.say(verdict(job(alarms=[ALARM]))[0])
        shown.show(job(alarms=[ALARM]))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert f"{red}ALARM (kid below zero) at 16 images: KID is [low]." in text
    assert "ALARM: kid below zero" in text
