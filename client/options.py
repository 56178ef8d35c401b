"""What the commands have in common: where the service is, which job is meant, how something is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console

from client import connection
from client.http import SlaeGan
from client.watch import in_style

if TYPE_CHECKING:
    from rich.table import Table

Url = Annotated[str | None, typer.Option(envvar="SLAEGAN_URL", help="Address of the service.")]
Key = Annotated[
    str | None, typer.Option(envvar="SLAEGAN_API_KEY", help="API key; better in the environment.")
]
Data = Annotated[
    Path | None,
    typer.Option(envvar="SLAEGAN_DATA", help="Data folder of a local stack; it also tells address and key."),
]
Job = Annotated[str, typer.Argument(help="A job's id, the beginning of one, or `last`.")]
Dataset = Annotated[str, typer.Argument(help="A dataset's id, the beginning of one, or `last`.")]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON, for programs; where one thing comes after another, a line each."
    ),
]
Run = Annotated[
    int | None, typer.Option(min=1, help="Of an earlier run of the job; by default the present one.")
]

# Where `slaegan --help` lists a command.
TRAIN = "Train"
LOOK = "Look"
DATASETS = "Datasets"
STACK = "This machine"
ACCOUNT = "Account and service"
OPERATORS = "Operators: on the service's own database"


def path_of(text: str) -> Path:
    """A path as it was typed. Nothing at all, such as an unset variable of a shell, is not the current folder."""
    if not text:
        raise typer.BadParameter("It is empty; the folder where you are is a dot.")
    return Path(text)


def connect(url: str | None, key: str | None, data: Path | None) -> SlaeGan:
    """A client of the service that the options, the environment, or a running local stack name."""
    found = connection.find(url=url, key=key, data=data)
    return SlaeGan(found.url, found.key)


def say(text: str, *, console: Console | None = None) -> None:
    """Show a line. What users and the service say is text, not markup."""
    (console or Console()).print(in_style(text), soft_wrap=True)


def say_aside(text: str) -> None:
    """Show a line beside the result, on stderr."""
    say(text, console=Console(stderr=True))


def show(table: Table) -> None:
    """Print a table; no column is cut when nobody looks."""
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


def print_json(value: Any, *, aside: bool = False) -> None:
    """Print one JSON document: of models, data classes, and what JSON has. Aside: on stderr."""
    typer.echo(json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False), err=aside)


def print_json_line(value: Any) -> None:
    """Print JSON on a line of its own, at once: one of many."""
    typer.echo(json.dumps(to_jsonable_python(value), ensure_ascii=False))
