"""Commands for what a job leaves: its results, its grids, its curve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.arguments import find_job
from client.options import LOOK, Data, Job, Json, Key, Run, Url, connect, print_json, say, say_aside, show
from client.results import download_results
from client.tables import samples_table
from client.terminal import keep_or_show, show_picture
from client.verdict import verdict
from core.errors import NotFound

app = typer.Typer()

Show = Annotated[bool, typer.Option("--show", help="Show it in the terminal.")]


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan download last --to results/")
def download(
    job: Job,
    to: Annotated[Path | None, typer.Option(help="Folder; by default ./<the job's id>.")] = None,
    *,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Fetch the best generator, the latest grid and the metrics; hashes are verified.

    The best has few copies and the highest recall among those with a KID near the lowest. Broken off, the same command
    goes on from there. `slaegan checkpoints download` fetches any other checkpoint.
    """
    with connect(url, key, data) as client:
        found = find_job(client, job)
        results = download_results(client, found, to=to or Path(str(found.id)))
    if as_json:
        names = ("checkpoint", "grid", "metrics", "curve_picture", "neighbours")
        print_json({name: getattr(results, name) for name in names})
        return
    for line in verdict(found):
        say_aside(line)
    for path in (
        results.checkpoint,
        results.grid,
        results.metrics,
        results.curve_picture,
        *results.neighbours,
    ):
        if path is not None:
            say(str(path))


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan samples last --show")
def samples(
    job: Job,
    *,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as grid or attention.")] = None,
    run: Run = None,
    to: Annotated[Path | None, typer.Option(help="Save all that are listed in this folder.")] = None,
    showing: Show = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List the pictures that a training drew: the same latents through time. With --show the last one."""
    with connect(url, key, data) as client:
        found = client.samples(find_job(client, job).id, kind=kind, run=run)
        if as_json:
            print_json(found)
        elif not showing:
            show(samples_table(found))
        if to is not None:
            to.mkdir(parents=True, exist_ok=True)
            for sample in found:
                client.download_sample(sample, to=to / f"{sample.kind}-{sample.images_seen:08}.png")
        if showing:
            if not found:
                raise NotFound(f"Job {job} has no such picture yet: wait for its first snapshot.")
            last = found[-1]
            say_aside(f"{last.kind} at {last.images_seen} images")
            show_picture(client.sample_picture(last.id))


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan curve last --to curve.png")
def curve(
    job: Job,
    *,
    to: Annotated[Path | None, typer.Option(help="Save it there (PNG).")] = None,
    showing: Show = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Fetch the FID curve as a picture, by default into ./curve.png; its numbers are in `slaegan metrics`."""
    with connect(url, key, data) as client:
        picture = client.curve(find_job(client, job).id)
    keep_or_show(picture, to=to, default=Path("curve.png"), showing=showing, as_json=as_json)
