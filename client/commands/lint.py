"""`slaegan lint`: what of a dataset's pictures deserves a look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from client.arguments import find_dataset
from client.options import DATASETS, Data, Dataset, Json, Key, Url, connect, print_json, say, show

if TYPE_CHECKING:
    from core.schemas.datasets import DatasetOut, Finding, Lint

app = typer.Typer()
SHOWN_NAMES = 5
_STYLES = {"problem": "bold red", "warning": "yellow", "note": ""}


@app.command(rich_help_panel=DATASETS, epilog="Example: slaegan lint last")
def lint(
    dataset: Dataset, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Show what of a dataset deserves a look before training: duplicates, tiny pictures, odd shapes."""
    with connect(url, key, data) as client:
        report = client.lint(find_dataset(client, dataset).id)
    if as_json:
        print_json(report)
    elif report.findings:
        show(lint_table(report))
    else:
        say("Nothing stands out.")


def lint_table(report: Lint) -> Table:
    """A finding a row: what, how bad, how many, some names, what to do."""
    table = Table("what", "severity", "count", "pictures", "advice", box=None)
    for finding in report.findings:
        cells = (f"{finding.code} ({finding.kind})", finding.severity, str(finding.count), _names(finding))
        table.add_row(*(Text(cell) for cell in (*cells, finding.advice)), style=_STYLES[finding.severity])
    return table


def lint_lines(dataset: DatasetOut) -> list[str]:
    """A line a code of finding, for whoever has just uploaded; none where nothing stands out."""
    counts = (dataset.lint or {}).items()
    lines = [
        f"  {code.replace('_', ' ')}: {counted(count, 'picture')}"
        for code, count in counts
        if code != "unusable"
    ]
    return [*lines, f"  `slaegan lint {dataset.id}` says more."] if lines else []


def counted(number: int, thing: str) -> str:
    """Such as 1 picture, or 4 pictures."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _names(finding: Finding) -> str:
    names = [picture.name for picture in finding.pictures[:SHOWN_NAMES]]
    more = finding.count - len(names)
    return ", ".join(names) + (f" and {more} more" if names and more else "")
