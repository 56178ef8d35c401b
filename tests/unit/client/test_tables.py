from __future__ import annotations

import io
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from rich.console import Console

from client.tables import datasets_table, jobs_table
from client.watch import LiveDisplay, PlainDisplay
from core.schemas.datasets import DatasetOut
from core.schemas.jobs import JobOut, Status

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
        image_count=4,
        size_bytes=1,
        content_hash="",
        rejected=[],
        created_at=datetime.now(UTC),
    )
    for table in (jobs_table([job()]), datasets_table([dataset])):
        console = Console(file=io.StringIO(), width=200)
        console.print(table)
        assert NAME in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


@pytest.mark.parametrize("display", [LiveDisplay, PlainDisplay])
def test_what_is_said_of_a_job_is_text(display: type[LiveDisplay | PlainDisplay]) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=display is LiveDisplay, no_color=True)
    with (shown := display(console)):
        shown.say(f"failed: {NAME}")
        shown.show(job())
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert f"failed: {NAME}" in text
    assert f"{NAME} 1" in text
