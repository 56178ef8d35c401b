"""`slaegan checkpoints`: generators and training states, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from client.arguments import find_job
from client.options import Data, Job, Json, Key, Run, Url, connect, print_json, say, show
from client.tables import checkpoints_table

app = typer.Typer(no_args_is_help=True, help="Generators and training states of a job: list, pin, fetch.")

CheckpointId = Annotated[
    UUID, typer.Argument(metavar="ID", help="A checkpoint's id, as `slaegan checkpoints list` shows it.")
]


@app.command("list", epilog="Example: slaegan checkpoints list last --kind generator")
def list_checkpoints(
    job: Job,
    *,
    kind: Annotated[Literal["generator", "state"] | None, typer.Option(help="Only these.")] = None,
    run: Run = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List a job's checkpoints, by images seen."""
    with connect(url, key, data) as client:
        found = client.checkpoints(find_job(client, job).id, kind=kind, run=run)
    if as_json:
        print_json(found)
    else:
        show(checkpoints_table(found))


@app.command(epilog="Example: slaegan checkpoints pin 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def pin(
    checkpoint: CheckpointId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Keep a checkpoint, whatever its job's retention says."""
    with connect(url, key, data) as client:
        found = client.pin_checkpoint(checkpoint)
    if as_json:
        print_json(found)
    else:
        say(f"Checkpoint {found.id} is pinned.")


@app.command(epilog="Example: slaegan checkpoints unpin 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def unpin(
    checkpoint: CheckpointId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Leave a checkpoint to its job's retention again."""
    with connect(url, key, data) as client:
        found = client.unpin_checkpoint(checkpoint)
    if as_json:
        print_json(found)
    else:
        say(f"Checkpoint {found.id} is left to its job's retention.")


@app.command(
    epilog="Example: slaegan checkpoints download 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11 --to state.pt"
)
def download(
    checkpoint: CheckpointId,
    to: Annotated[Path | None, typer.Option(help="The file; by default ./<kind>-<images seen>.")] = None,
    *,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Fetch a checkpoint; its hash is verified. Broken off, the same command goes on from there."""
    columns = (TextColumn("  "), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with (
        connect(url, key, data) as client,
        Progress(*columns, transient=True, console=Console(stderr=True)) as bar,
    ):
        found = client.checkpoint(checkpoint)
        task = bar.add_task("", total=found.size_bytes)
        path = client.download_checkpoint(
            found,
            to=to or Path(f"{found.kind}-{found.images_seen:08}"),
            progress=lambda size_bytes: bar.update(task, completed=size_bytes),
        )
    if as_json:
        print_json({"path": path, "sha256": found.sha256})
    else:
        say(str(path))
