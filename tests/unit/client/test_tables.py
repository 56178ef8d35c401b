from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from rich.console import Console

from client.results import best_generator
from client.tables import datasets_table, jobs_table, keys_table, usage_table
from client.watch import LiveDisplay, PlainDisplay
from core.errors import NotFound
from core.schemas.datasets import DatasetOut
from core.schemas.jobs import JobOut, Status
from core.schemas.keys import KeyOut
from core.schemas.usage import DayUsageOut, UsageOut

# A closing tag that nothing opened, a colour, an emoji's code: all mean something to rich.
NAME = "cats [/old] [red]x[/] :cat:"


def job() -> JobOut:
    given = {"id": uuid4(), "name": NAME, "status": Status.RUNNING, "images_seen": 8, "total_images": 16}
    given |= {
        "created_at": datetime.now(UTC),
        "best": None,
        "latest": None,
        "losses": {NAME: 1.0},
        "alarms": [],
    }
    return JobOut.model_construct(**{"images_per_s": None, "eta_s": None} | given)


def test_names_in_tables_are_text() -> None:
    dataset = DatasetOut(
        id=uuid4(),
        name=NAME,
        series_id=uuid4(),
        version=1,
        parent_id=None,
        image_count=4,
        added_count=4,
        removed_count=0,
        size_bytes=1,
        content_hash="",
        rejected=[],
        created_at=datetime.now(UTC),
    )
    for table in (jobs_table([job()]), datasets_table([dataset])):
        console = Console(file=io.StringIO(), width=200)
        console.print(table)
        assert NAME in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


def test_days_before_the_first_with_anything_are_left_out() -> None:
    def day(number: int, seconds: float) -> DayUsageOut:
        return DayUsageOut(
            device_s=seconds, training_s=seconds, evaluation_s=0, by_device={}, day=date(2026, 1, number)
        )

    items = [day(1, 0), day(2, 3), day(3, 0)]
    moment = datetime.now(UTC)
    console = Console(file=io.StringIO(), width=200)
    console.print(usage_table(UsageOut(since=moment, until=moment, total=items[1], items=items)))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert ["2026-01-01" in shown, "2026-01-02" in shown, "2026-01-03" in shown] == [False, True, True]


def test_a_job_that_is_over_is_not_to_be_waited_for() -> None:
    for status, advice in (
        (Status.RUNNING, "wait for"),
        (Status.FAILED, "slaegan retry"),
        (Status.SUCCEEDED, "submit a new one"),
    ):
        with pytest.raises(NotFound, match=advice):
            best_generator(job().model_copy(update={"status": status}), [])


@pytest.mark.parametrize("display", [LiveDisplay, PlainDisplay])
def test_what_is_said_of_a_job_is_text(display: type[LiveDisplay | PlainDisplay]) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=display is LiveDisplay, no_color=True)
    with (shown := display(console)):
        shown.say(f"failed: {NAME}")
        shown.show(job())
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert f"failed: {NAME}" in text
    assert f"{NAME} 1" in text


@pytest.mark.parametrize(
    ("revoked", "ends_in_h", "word"),
    [(False, None, "good"), (False, 1, "until"), (False, -1, "ended"), (True, 1, "revoked")],
)
def test_the_state_of_a_key(revoked: bool, ends_in_h: int | None, word: str) -> None:  # noqa: FBT001  # a parameter of pytest's
    now = datetime.now(UTC)
    key = KeyOut(
        id=uuid4(),
        name=NAME,
        hint=None,
        scopes=["read"],
        created_at=now,
        expires_at=None if ends_in_h is None else now + timedelta(hours=ends_in_h),
        last_used_at=None,
        revoked_at=now if revoked else None,
        replaced_by=None,
    )
    console = Console(file=io.StringIO(), width=200)
    console.print(keys_table([key]))
    told = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert [known for known in ("good", "until", "ended", "revoked") if known in told] == [word]
