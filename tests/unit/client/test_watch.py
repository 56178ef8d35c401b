from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from client.verdict import fid_text
from client.watch import describe, duration
from core.schemas.jobs import EventOut, Point


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3661, "1:01:01")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_fid_carries_its_extractor() -> None:
    facts = {"status": "done", "protocol_hash": "h", "protocol": {"extractor": "vgg16"}}
    point = Point.model_validate(facts | {"evaluation_id": uuid4(), "images_seen": 8, "fid": 12.34})
    assert fid_text(point) == "FID 12.3 (vgg16)"
    assert fid_text(point.model_copy(update={"fid": None})) == ""


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [
        ("running", {"worker": "train-0"}, "running on train-0"),
        (
            "evaluated",
            {"images_seen": 8, "metrics": {"fid": 1.5}, "extractor": "vgg16"},
            "8 images: fid 1.5 (vgg16)",
        ),
        ("failed", {"message": "The disk is full."}, "failed: The disk is full."),
        ("warning", {"message": "it went back"}, "warning: it went back"),
        ("evaluation_failed", {"images_seen": 8, "error": {"message": "why"}}, "no metrics at 8 images: why"),
        (
            "backtracked",
            {"images_seen": 8, "metrics": {"lpips": 0.25}},
            "backtracked at 8 images: LPIPS 0.25",
        ),
        (
            "backtracking_failed",
            {"images_seen": 8, "error": {"message": "why"}},
            "no backtracking at 8 images: why",
        ),
        ("cancel_requested", {}, "cancel requested"),
        (
            "alarm",
            {"kind": "copies", "message": "Half are copies.", "images_seen": 8},
            "ALARM (copies) at 8 images: Half are copies.",
        ),
        ("alarm_cleared", {"kind": "copies", "images_seen": 16}, "alarm cleared at 16 images: copies"),
        (
            "evaluation_skipped",
            {"images_seen": 8, "error": {"message": "why"}},
            "no metrics at 8 images: why",
        ),
    ],
)
def test_events_in_words(kind: str, payload: dict[str, object], text: str) -> None:
    event = EventOut(seq=1, type=kind, at=datetime.now(UTC), payload=payload)
    assert describe(event).endswith(text)
