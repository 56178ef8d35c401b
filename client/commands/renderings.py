"""`slaegan generations` and `slaegan exports`: what was asked of a job's generators, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from client.arguments import find_job
from client.options import Data, Job, Json, Key, Url, connect, print_json, say, show
from client.tables import renderings_table

if TYPE_CHECKING:
    from core.schemas.renderings import RenderingOut

generations = typer.Typer(no_args_is_help=True, help="Pictures and films made of a job: list, show, delete.")
exports = typer.Typer(no_args_is_help=True, help="Generators exported of a job: list, show, delete.")

GenerationId = Annotated[
    UUID, typer.Argument(metavar="ID", help="A generation's id, as `slaegan generations list` shows it.")
]
ExportId = Annotated[
    UUID, typer.Argument(metavar="ID", help="An export's id, as `slaegan exports list` shows it.")
]


@generations.command("list", epilog="Example: slaegan generations list last")
def list_generations(
    job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """List what was generated of a job, the newest first; what is over is kept for a week."""
    with connect(url, key, data) as client:
        _list(list(client.generations(find_job(client, job).id)), as_json=as_json)


@generations.command("show", epilog="Example: slaegan generations show 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def show_generation(
    generation: GenerationId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Show a generation: its state, files and facts, such as the nearest training pictures."""
    with connect(url, key, data) as client:
        _show(client.generation(generation), as_json=as_json)


@generations.command(
    "delete", epilog="Example: slaegan generations delete 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11"
)
def delete_generation(
    generation: GenerationId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Call a generation off that is not over, or remove one that is, with its files."""
    with connect(url, key, data) as client:
        client.delete_generation(generation)
    _gone(f"Generation {generation}", generation, as_json=as_json)


@exports.command("list", epilog="Example: slaegan exports list last")
def list_exports(
    job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """List what was exported of a job, the newest first; what is over is kept for a week."""
    with connect(url, key, data) as client:
        _list(list(client.exports(find_job(client, job).id)), as_json=as_json)


@exports.command("show", epilog="Example: slaegan exports show 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def show_export(
    export: ExportId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Show an export: its state, its file, and how far it is from the original."""
    with connect(url, key, data) as client:
        _show(client.exported(export), as_json=as_json)


@exports.command("delete", epilog="Example: slaegan exports delete 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def delete_export(
    export: ExportId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Call an export off that is not over, or remove one that is, with its file."""
    with connect(url, key, data) as client:
        client.delete_export(export)
    _gone(f"Export {export}", export, as_json=as_json)


def _list(found: list[RenderingOut], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        show(renderings_table(found))


def _show(found: RenderingOut, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    show(renderings_table([found]))
    for file in found.files:
        say(f"{file.role}  {file.name}  {file.size_bytes:,} bytes  sha256 {file.sha256}")
    for name, value in (found.facts or {}).items():
        say(f"{name}: {value}")
    if found.error is not None:
        say(f"error: {found.error.get('message', '')}")


def _gone(what: str, rendering_id: UUID, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": rendering_id, "deleted": True})
    else:
        say(f"{what} is gone.")
