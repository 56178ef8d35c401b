"""`slaegan generations` and `slaegan exports`: what was made with a job's generators, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

from client.arguments import find_job
from client.options import Data, Job, Json, Key, Url, connect, print_json, say, show
from client.tables import facts_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core.schemas.renderings import RenderingOut

generations = typer.Typer(no_args_is_help=True, help="What `slaegan generate` made: list, show, delete.")
exports = typer.Typer(no_args_is_help=True, help="What `slaegan export` made: list, show, delete.")

GenerationId = Annotated[UUID, typer.Argument(metavar="ID", help="A generation's id.")]
ExportId = Annotated[UUID, typer.Argument(metavar="ID", help="An export's id.")]


@generations.command("list", epilog="Example: slaegan generations list last")
def list_generations(
    job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """List what was made with a job's generators, the newest first."""
    with connect(url, key, data) as client:
        _tell_all(client.generations(find_job(client, job).id), as_json=as_json)


@generations.command("show", epilog="Example: slaegan generations show 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def show_generation(
    generation: GenerationId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Show the state, the files and the facts of a generation."""
    with connect(url, key, data) as client:
        _tell(client.generation(generation), as_json=as_json)


@generations.command(
    "delete", epilog="Example: slaegan generations delete 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11"
)
def delete_generation(
    generation: GenerationId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Call off a generation that is not over, or remove one that is."""
    with connect(url, key, data) as client:
        client.delete_generation(generation)
    _tell_deleted("Generation", generation, as_json=as_json)


@exports.command("list", epilog="Example: slaegan exports list last")
def list_exports(
    job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """List the exports of a job, the newest first."""
    with connect(url, key, data) as client:
        _tell_all(client.exports(find_job(client, job).id), as_json=as_json)


@exports.command("show", epilog="Example: slaegan exports show 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def show_export(
    export: ExportId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Show the state, the file and the facts of an export."""
    with connect(url, key, data) as client:
        _tell(client.exported(export), as_json=as_json)


@exports.command("delete", epilog="Example: slaegan exports delete 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def delete_export(
    export: ExportId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Call off an export that is not over, or remove one that is."""
    with connect(url, key, data) as client:
        client.delete_export(export)
    _tell_deleted("Export", export, as_json=as_json)


def _tell_all(made: Iterable[RenderingOut], *, as_json: bool) -> None:
    if as_json:
        print_json(list(made))
        return
    table = Table("id", "kind", "state", "generator", "files", "created", box=None)
    for one in made:
        names = ", ".join(file.name for file in one.files)
        created = f"{one.created_at.astimezone():%Y-%m-%d %H:%M}"
        cells = (str(one.id), one.kind, one.status.value, f"at {one.images_seen} images", names, created)
        table.add_row(*(Text(cell) for cell in cells))
    show(table)


def _tell(made: RenderingOut, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        show(facts_table(made))


def _tell_deleted(what: str, which: UUID, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": which, "deleted": True})
    else:
        say(f"{what} {which} is called off, or removed.")
