"""Commands that change what becomes of a job."""

from __future__ import annotations

from typing import Annotated

import typer

from client.arguments import find_job
from client.options import Data, Job, Key, Url, connect, say
from core.schemas.jobs import ExtendIn

app = typer.Typer()


@app.command()
def cancel(job: Job, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Cancel a job."""
    with connect(url, key, data) as client:
        found = client.cancel_job(find_job(client, job).id)
    say(f"Job {found.id}: {found.status.value if found.status.final else 'stopping'}")


@app.command()
def pause(job: Job, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Pause a job: its training saves its state, and frees the device until `slaegan resume`."""
    with connect(url, key, data) as client:
        found = client.pause_job(find_job(client, job).id)
    say(f"Job {found.id}: {'pausing' if found.pause_requested else found.status.value}")


@app.command()
def resume(job: Job, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Queue a paused job again; it goes on where it was."""
    with connect(url, key, data) as client:
        found = client.resume_job(find_job(client, job).id)
    say(f"Job {found.id}: {found.status.value}")


@app.command()
def retry(
    job: Job,
    *,
    fresh: Annotated[bool, typer.Option(help="Begin at zero, not from the last state.")] = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Begin a new run of a failed or cancelled job, from its last state."""
    with connect(url, key, data) as client:
        found = client.retry_job(find_job(client, job).id, fresh=fresh)
    say(f"Job {found.id}: {found.status.value}, run {found.run}, from {found.images_seen} images")


@app.command()
def extend(
    job: Job,
    images: Annotated[int, typer.Option(help="Train until this many pictures were seen.")],
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Train a job that succeeded for longer, from its last state; its curve goes on."""
    with connect(url, key, data) as client:
        found = client.extend_job(find_job(client, job).id, ExtendIn(total_images=images))
    say(f"Job {found.id}: {found.status.value}, from {found.images_seen} to {found.total_images} images")
