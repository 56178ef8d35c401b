"""Commands that change what becomes of a job."""

from __future__ import annotations

from typing import Annotated

import typer

from client.arguments import find_job
from client.options import TRAIN, Data, Job, Json, Key, Url, connect, print_json, say
from core.schemas.jobs import ExtendIn, JobOut

app = typer.Typer()


@app.command(rich_help_panel=TRAIN, epilog="Example: slaegan cancel last")
def cancel(job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Cancel a job."""
    with connect(url, key, data) as client:
        found = client.cancel_job(find_job(client, job).id)
    _tell(found, found.status.value if found.status.final else "stopping", as_json=as_json)


@app.command(rich_help_panel=TRAIN, epilog="Example: slaegan pause 3f2a")
def pause(job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Pause a job: its training saves its state, and frees the device until `slaegan resume`."""
    with connect(url, key, data) as client:
        found = client.pause_job(find_job(client, job).id)
    _tell(found, "pausing" if found.pause_requested else found.status.value, as_json=as_json)


@app.command(rich_help_panel=TRAIN, epilog="Example: slaegan resume 3f2a")
def resume(job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Queue a paused job again; it goes on where it was."""
    with connect(url, key, data) as client:
        found = client.resume_job(find_job(client, job).id)
    _tell(found, found.status.value, as_json=as_json)


@app.command(rich_help_panel=TRAIN, epilog="Example: slaegan retry last --fresh")
def retry(
    job: Job,
    *,
    fresh: Annotated[bool, typer.Option(help="Begin at zero, not from the last state.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Begin a new run of a failed or cancelled job, from its last state."""
    with connect(url, key, data) as client:
        found = client.retry_job(find_job(client, job).id, fresh=fresh)
    text = f"{found.status.value}, run {found.run}, from {found.images_seen} images"
    _tell(found, text, as_json=as_json)


@app.command(rich_help_panel=TRAIN, epilog="Example: slaegan extend last --images 200000")
def extend(
    job: Job,
    images: Annotated[int, typer.Option(help="Train until this many pictures were seen.")],
    *,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Train a job that succeeded for longer, from its last state; its curve goes on."""
    with connect(url, key, data) as client:
        found = client.extend_job(find_job(client, job).id, ExtendIn(total_images=images))
    text = f"{found.status.value}, from {found.images_seen} to {found.total_images} images"
    _tell(found, text, as_json=as_json)


def _tell(job: JobOut, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        say(f"Job {job.id}: {text}")
