"""`slaegan weights`: pretrained weights on this machine, which a client-only install has no use for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from client.options import Json, print_json, print_json_line, say
from client.problems import not_installed

if TYPE_CHECKING:
    from client.local.weights import File
    from core.schemas.judging import Extractor

app = typer.Typer(
    no_args_is_help=True, help="Pretrained weights on this machine: what is there, fetch, verify."
)

Folder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the weights; by default the service's own: SLAEGAN_WEIGHTS_DIR, or your cache."
    ),
]


@app.command("list", epilog="Example: slaegan weights list")
def show(*, folder: Folder = None, as_json: Json = False) -> None:
    """List every extractor's weights: whether they are there, their sha256, size and source."""
    _print(_files(folder), as_json=as_json)


@app.command(epilog="Example: slaegan weights verify")
def verify(*, folder: Folder = None, as_json: Json = False) -> None:
    """Hash all weights that are there; exit status 1 if any are not what they should be."""
    files = [file for file in _files(folder) if file.path is not None]
    _print(files, as_json=as_json)
    raise typer.Exit(1 if any(file.state == "wrong" for file in files) else 0)


@app.command(epilog="Example: slaegan weights fetch inception_v3")
def fetch(
    names: Annotated[list[str], typer.Argument(help="Extractors, as `slaegan weights list` names them.")],
    *,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Download weights; what broke off goes on where it was, and only verified files get their name."""
    try:
        from client.local.weights import known_extractor  # noqa: PLC0415  # not in a client-only install
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    for extractor in [known_extractor(name) for name in names]:
        path = _fetched(extractor, folder)
        if as_json:
            print_json_line({"extractor": extractor, "path": path})
        else:
            say(str(path))


def _fetched(extractor: Extractor, folder: Path | None) -> Path:
    from client.local.weights import fetch_weights  # noqa: PLC0415  # not in a client-only install

    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task(extractor, total=None)
        return fetch_weights(
            extractor, folder, progress=lambda size_bytes: bar.update(task, completed=size_bytes)
        )


def _files(folder: Path | None) -> list[File]:
    try:
        from client.local.weights import weights_files  # noqa: PLC0415  # not in a client-only install
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    return weights_files(folder)


def _print(files: list[File], *, as_json: bool) -> None:
    if as_json:
        print_json(files)
        return
    table = Table("extractor", "state", "MB", "sha256", "file, or source", box=None)
    for column in table.columns[3:]:
        column.overflow = "fold"  # to be compared and copied: nothing is cut off
    for file in files:
        size = "" if file.size_bytes is None else f"{file.size_bytes / 1e6:.1f}"
        cells = (file.extractor, file.state, size, file.sha256 or "", str(file.path or file.source))
        table.add_row(*map(Text, cells))
    console = Console()
    (console if console.is_terminal else Console(width=250)).print(table)
