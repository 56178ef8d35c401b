"""`slaegan train` and `slaegan watch`: submit a training, and follow it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.prompt import Prompt

from client.arguments import asked_job, configuration, find_dataset, find_job, find_weights
from client.commands.uploading import send, tell
from client.options import (
    TRAIN,
    Data,
    Job,
    Json,
    Key,
    Url,
    connect,
    path_of,
    print_json,
    print_json_line,
    say,
)
from client.transfer import require_source
from client.verdict import verdict
from client.watch import display_for
from client.watch import watch as watch_job
from core.errors import InvalidRequest
from core.schemas.jobs import JobOut, Status
from core.schemas.training import DEFAULT_FAMILY

if TYPE_CHECKING:
    from client.http import SlaeGan

app = typer.Typer()
JOB_FAILED = 3
LEFT_RUNNING = 130
# The dataset of a job that is checked before its pictures are uploaded.
_NOT_YET = UUID(int=0)

Source = Annotated[
    Path | None,
    typer.Argument(help="A folder of pictures, or a zip or tar file.", metavar="SOURCE", parser=path_of),
]
Trained = Annotated[
    str | None,
    typer.Option(
        help="Instead of a source: train on this dataset, a version that is there already (id, its beginning, or last)."
    ),
]
Family = Annotated[
    str | None,
    typer.Option(help=f"Family of models, {DEFAULT_FAMILY} if not given: `slaegan models` lists them."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any configuration value, such as evaluation.generated=500: `slaegan models FAMILY` lists them.",
    ),
]
InitFrom = Annotated[
    str | None,
    typer.Option(
        metavar="JOB",
        help="Begin from the weights of this job (id, its beginning, or last), or of a checkpoint.",
    ),
]
WebhookUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Send a signed message there when the job ends, pauses or raises an alarm."
    ),
]
MaxQueue = Annotated[
    int | None, typer.Option(metavar="SECONDS", help="Fail when no worker has begun the job by then.")
]
MaxRun = Annotated[
    int | None,
    typer.Option(metavar="SECONDS", help="End the training, as finished, after so long on a device."),
]


@app.command(
    rich_help_panel=TRAIN,
    epilog="Example: slaegan train my-pictures/ --resolution 256 --images 100000 --watch",
)
def train(
    source: Source = None,
    dataset: Trained = None,
    family: Family = None,
    resolution: Annotated[int | None, typer.Option(help="64, 128, 256, 512 or 1024.")] = None,
    images: Annotated[int | None, typer.Option(help="Train until this many pictures were seen.")] = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    priority: Annotated[int, typer.Option(help="Higher runs first.")] = 0,
    settings: Settings = None,
    init_from: InitFrom = None,
    webhook: WebhookUrl = None,
    max_queue: MaxQueue = None,
    max_run: MaxRun = None,
    *,
    watching: Annotated[bool, typer.Option("--watch", help="Show progress until the job is over.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Submit a training: on pictures, which are uploaded, or on a dataset that is there already.

    With --watch, the exit status is 3 where the job fails or is cancelled.
    """
    if (source is None) == (dataset is None):
        raise InvalidRequest(
            "Give either pictures to upload and train on, or --dataset with one that is there."
        )
    configured = partial(
        configuration, settings or [], family=family, resolution=resolution, total_images=images
    )
    asking = partial(
        asked_job, priority=priority, webhook={"url": webhook} if webhook is not None else None,
        max_queue_s=max_queue, max_run_s=max_run,
    )  # fmt: skip
    # What begins from a job is of its family, which is not known yet.
    config = configured() if init_from is None else None
    if source is not None:
        require_source(source)
    with connect(url, key, data) as client:
        begin = None
        if init_from is not None:
            begin, shape = find_weights(client, init_from)
            config = configured(shape)
        if source is None:
            there = find_dataset(client, dataset or "")
            trained, named = there.id, name or there.name
        else:
            trained, named = _NOT_YET, name or source.resolve().stem
        asked = asking(dataset_id=trained, name=named, config=config, init_from=begin)
        if source is not None:
            made = send(client, source, name=named)
            if not as_json:
                tell(made)
            asked = asked.model_copy(update={"dataset_id": made.id})
        _submitted(client, client.create_job(asked), watching=watching, as_json=as_json)


@app.command(rich_help_panel=TRAIN, epilog="Example: slaegan watch last")
def watch(job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Show a job's progress until it is over; exit status 3 where it fails or is cancelled.

    With --json: its events as they come, a line each, then the job as it ended.
    """
    with connect(url, key, data) as client:
        (_stream if as_json else _watch)(client, find_job(client, job))


def _submitted(client: SlaeGan, job: JobOut, *, watching: bool, as_json: bool) -> None:
    if not as_json:
        say(f"Job {job.id}")
    elif not watching:
        print_json(job)
    if watching:
        (_stream if as_json else _watch)(client, job)


def _stream(client: SlaeGan, job: JobOut) -> None:
    try:
        for event in client.follow_events(job.id):
            print_json_line(event)
    except KeyboardInterrupt:
        raise typer.Exit(LEFT_RUNNING) from None
    ended = client.job(job.id)
    print_json_line(ended)
    if ended.status is not Status.SUCCEEDED:
        raise typer.Exit(JOB_FAILED)


def _watch(client: SlaeGan, job: JobOut) -> None:
    console = Console()
    while True:
        try:
            ended = watch_job(client, job.id, display=display_for(console))
        except KeyboardInterrupt:
            if _goes_on(client, job, console):
                continue
            raise typer.Exit(LEFT_RUNNING) from None
        for line in verdict(ended):
            say(line)
        if ended.status is Status.SUCCEEDED:
            say(f"Succeeded. `slaegan download {ended.id}` fetches the best generator.")
            return
        say(f"Job {ended.id} {ended.status.value}. {(ended.error or {}).get('message', '')}")
        raise typer.Exit(JOB_FAILED)


def _goes_on(client: SlaeGan, job: JobOut, console: Console) -> bool:
    """Ask what Ctrl-C meant; whether to go on watching."""
    answer = "leave"
    if console.is_terminal:
        answer = Prompt.ask(
            "Cancel the job, leave it running, or go on watching?", choices=["cancel", "leave", "watch"],
            default="leave", console=console,
        )  # fmt: skip
    if answer == "cancel":
        client.cancel_job(job.id)
        say("Cancelling …")
        return True
    if answer == "leave":
        say(f"The job stays as it is; see it with `slaegan watch {job.id}`.")
    return answer == "watch"
