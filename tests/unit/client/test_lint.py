from __future__ import annotations

import io
from datetime import UTC, datetime
from uuid import uuid4

from rich.console import Console

from client.commands.lint import lint_lines, lint_table
from core.schemas.datasets import DatasetOut, Finding, FoundPicture, Lint

NAME = "[red]cat[/]"


def dataset(lint: dict[str, int] | None) -> DatasetOut:
    return DatasetOut(
        id=(made := uuid4()), name="x", series_id=made, version=1, parent_id=None, image_count=9, added_count=9,
        removed_count=0, size_bytes=1, content_hash="", rejected=[], lint=lint,
        created_at=datetime.now(UTC),
    )  # fmt: skip


def test_the_table_shows_some_names_as_text_and_counts_the_rest() -> None:
    pictures = [FoundPicture(position=at, name=f"{NAME}{at}") for at in range(9)]
    finding = Finding(
        code="tiny",
        kind="below_64",
        severity="problem",
        advice="Find larger ones.",
        count=12,
        pictures=pictures,
    )
    console = Console(file=io.StringIO(), width=200)
    console.print(lint_table(Lint(findings=[finding], counts={"tiny": 12})))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    for part in ("tiny (below_64)", "problem", f"{NAME}0, ", "and 7 more", "Find larger ones."):
        assert part in shown


def test_whoever_uploads_gets_a_line_a_code() -> None:
    seen = dataset({"unusable": 2, "near_duplicate": 4})
    assert lint_lines(seen) == ["  near duplicate: 4 pictures", f"  `slaegan lint {seen.id}` says more."]
    assert lint_lines(dataset({})) == lint_lines(dataset(None)) == lint_lines(dataset({"unusable": 1})) == []
