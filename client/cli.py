"""The command line, `slaegan`. It imports neither torch nor the service: a client-only install runs it."""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.prompt import Prompt
from rich.text import Text

from client import connection, control, keys, lint, models, operations, tenants, uploading, usage, weights
from client.arguments import asked_job, configuration, find_dataset, find_job, find_weights
from client.backtracking import question, told, wait_for
from client.commands import generations
from client.comparison import comparison_table, differences_table
from client.logs import printed
from client.options import Data, Job, Key, Url, connect, path_of, say
from client.problems import not_installed
from client.results import download_results
from client.tables import datasets_table, jobs_table, workers_table
from client.transfer import require_source
from client.uploading import send
from client.verdict import verdict
from client.watch import display_for, in_style
from client.watch import watch as watch_job
from core.errors import Conflict, InvalidRequest, SlaeganError
from core.schemas.jobs import JobOut, Status
from core.schemas.training import DEFAULT_FAMILY

if TYPE_CHECKING:
    from client.http import SlaeGan

app = typer.Typer(
    name="slaegan", no_args_is_help=True, pretty_exceptions_enable=False, help=(
        "Train a GAN on a hundred pictures: start a stack with `slaegan up`, then `slaegan train FOLDER --watch`."
    ),
)  # fmt: skip
app.add_typer(control.app)
app.add_typer(lint.app)
app.add_typer(generations.app)
app.add_typer(weights.app, name="weights")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.command()(models.models)
app.command()(usage.usage)
app.command()(operations.drain)
app.command()(operations.gc)
app.command()(uploading.upload)
_LEFT_RUNNING = 130
# The dataset of a job that is checked before its pictures are uploaded.
_NOT_YET = UUID(int=0)

OpenPage = Annotated[bool, typer.Option("--open/--no-open", help="Open the dashboard in the browser.")]

TrainSource = Annotated[
    Path | None,
    typer.Argument(help="A folder of pictures, or a zip or tar file.", metavar="[SOURCE]", parser=path_of),
]
TrainDataset = Annotated[
    str | None,
    typer.Option(
        help="Instead of a source: train on this dataset, a version that is there already (id, its beginning, or last)."
    ),
]
Family = Annotated[
    str | None,
    typer.Option(help=f"Family of models, {DEFAULT_FAMILY} if not given: `slaegan models` lists them."),
]
TrainSettings = Annotated[
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
Series = Annotated[UUID | None, typer.Option(help="All versions of a dataset: the id of the first.")]


def main() -> None:
    """Run the command line; errors are sentences on stderr and exit status 1."""
    try:
        app()
    except SlaeganError as error:
        Console(stderr=True).print(f"[bold red]{error.title}.[/] ", end="")
        Console(stderr=True).print(Text(error.message), soft_wrap=True)
        raise SystemExit(1) from None


@app.command()
def up(
    data: Data = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    open_page: OpenPage = False,  # noqa: FBT002  # a flag of the command line
) -> None:
    """Run the whole service on this machine, until Ctrl-C.

    PostgreSQL and Valkey come from wheels and live inside the data folder (by default in your user data folder),
    with sockets only; then API, a trainer for each CUDA device (or one for the CPU), workers for metrics, sweeps and
    chores, and beat.
    With DATABASE_URL, BROKER_URL or STORAGE_URL set, those servers are used instead.
    """
    try:
        from client.local.place import Place  # noqa: PLC0415  # not in a client-only install
        from client.local.up import up as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    run(data or connection.default_data_folder(), place=Place(host, port), say=say, open_page=open_page)


@app.command()
def train(  # noqa: PLR0917  # typer takes options as parameters
    source: TrainSource = None,
    dataset: TrainDataset = None,
    family: Family = None,
    resolution: Annotated[int | None, typer.Option(help="64, 128, 256, 512 or 1024.")] = None,
    images: Annotated[int | None, typer.Option(help="Train until this many pictures were seen.")] = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    priority: Annotated[int, typer.Option(help="Higher runs first.")] = 0,
    settings: TrainSettings = None,
    init_from: InitFrom = None,
    webhook: WebhookUrl = None,
    watching: Annotated[bool, typer.Option("--watch", help="Show progress until the job is over.")] = False,  # noqa: FBT002
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Submit a training: on pictures, which are uploaded, or on a dataset that is there already."""
    if (source is None) == (dataset is None):
        raise InvalidRequest(
            "Give either pictures to upload and train on, or --dataset with one that is there."
        )
    configured = partial(
        configuration, settings or [], family=family, resolution=resolution, total_images=images
    )
    asking = partial(asked_job, priority=priority, webhook={"url": webhook} if webhook is not None else None)
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
            asked = asked.model_copy(update={"dataset_id": send(client, source, name=named).id})
        job = client.create_job(asked)
        say(f"Job {job.id}")
        if watching:
            _watch(client, job)


@app.command()
def jobs(
    status: Annotated[Status | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 20,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List jobs, the newest first."""
    with connect(url, key, data) as client:
        table = jobs_table(islice(client.jobs(status=status), limit))
    _wide_console().print(table)


@app.command()
def datasets(
    series: Series = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List datasets, each by its newest version, the newest first."""
    with connect(url, key, data) as client:
        table = datasets_table(client.datasets(series_id=series))
    _wide_console().print(table)


@app.command()
def workers(url: Url = None, key: Key = None, data: Data = None) -> None:
    """List the workers, and what they are doing."""
    with connect(url, key, data) as client:
        table = workers_table(client.workers())
    _wide_console().print(table)


@app.command()
def watch(job: Job, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Show a job's progress until it is over."""
    with connect(url, key, data) as client:
        _watch(client, find_job(client, job))


@app.command()
def logs(
    job: Job,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job is over.")] = False,
    tail: Annotated[int | None, typer.Option(min=1, max=100_000, help="Only the last so many lines.")] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Print what a job's training printed; of a long log the middle is cut."""
    with connect(url, key, data) as client:
        for line in printed(client, find_job(client, job).id, follow=follow, tail=tail):
            typer.echo(line)


@app.command()
def download(
    job: Job,
    to: Annotated[Path | None, typer.Option(help="Folder; by default ./<the job's id>.")] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Fetch the best generator, the latest grid and the metrics; hashes are verified.

    The best has few copies and the highest recall among those with a KID near the lowest.
    """
    with connect(url, key, data) as client:
        found = find_job(client, job)
        results = download_results(client, found, to=to or Path(str(found.id)))
    for line in verdict(found):
        Console(stderr=True).print(in_style(line), soft_wrap=True)
    for path in (
        results.checkpoint,
        results.grid,
        results.metrics,
        results.curve_picture,
        *results.neighbours,
    ):
        if path is not None:
            say(str(path))


@app.command()
def compare(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB JOB...", help="Two to eight jobs, as elsewhere.")],
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Show jobs side by side; exit status 1, with what differs, where their numbers do not compare."""
    with connect(url, key, data) as client:
        found = [find_job(client, job).id for job in jobs]
        try:
            table = comparison_table(client.compare(found))
        except Conflict as error:
            if differing := error.details.get("differing"):
                _wide_console().print(differences_table(differing))
            raise
    _wide_console().print(table)


@app.command()
def backtrack(
    job: Job,
    *,
    to: Annotated[Path | None, typer.Option(help="Where to save the sheet of pictures, a PNG.")] = None,
    held_out: Annotated[bool, typer.Option(help="Of pictures that were kept from the training.")] = False,
    pictures: Annotated[int, typer.Option(min=1, max=200, help="So many, evenly chosen.")] = 16,
    steps: Annotated[int, typer.Option(min=1, max=2_000, help="Of the search for each picture.")] = 200,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Measure how near the best generator comes to real pictures when its latents are optimised for that."""
    asked = question(held_out=held_out, pictures=pictures, steps=steps)
    if to is not None and not to.resolve().parent.is_dir():
        raise InvalidRequest(f"There is no folder {to.resolve().parent} to save the sheet in.")
    with connect(url, key, data) as client:
        found = find_job(client, job)
        with Console(stderr=True).status(
            "Backtracking: it waits for a metrics worker, then takes minutes ..."
        ):
            done = wait_for(client, client.backtrack(found.id, asked))
        for line in told(done):
            say(line)
        if to is not None and done.picture is not None:
            client.download_picture(done.picture, to=to)
            say(str(to))
        elif to is not None:
            say("It left no picture.")
    raise typer.Exit(0 if done.status == "done" else 1)


@app.command()
def doctor(url: Url = None, key: Key = None, data: Data = None) -> None:
    """Say what works here, what does not, and what to do about it; exit status 1 if something needed is broken."""
    from client.doctor import examine  # noqa: PLC0415  # it looks at parts that may not be installed

    findings = examine(url=url, key=key, data=data)
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "broken": "[bold red]BROKEN[/]"}
    for finding in findings:
        _wide_console().print(f"{marks[finding.state]:>16} {finding.subject}: ", end="")
        say(finding.text)
    raise typer.Exit(1 if any(finding.state == "broken" for finding in findings) else 0)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-output"),
    pictures: Annotated[
        Path | None, typer.Option(help="Folder or archive; by default the bundled faces.")
    ] = None,
    images: Annotated[int | None, typer.Option(help="Train until this many pictures were seen.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
) -> None:
    """Run the whole loop once, on a stack of its own: upload, train at 64², evaluate, download."""
    try:
        from client.demo import PRESET  # noqa: PLC0415  # not in a client-only install
        from client.demo import demo as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    given = {"total_images": images} if images is not None else {}
    config = configuration(settings or [], **(PRESET.model_dump(exclude_unset=True) | given))
    bundled = Path(__file__).parents[1] / "examples" / "emoji-faces.zip"
    summary = run(output, pictures=pictures or bundled, config=config, console=Console())
    say(f"Done. {summary} names the grid, the curve and the checkpoint.")


def _watch(client: SlaeGan, job: JobOut) -> None:
    console = Console()
    while True:
        try:
            ended = watch_job(client, job.id, display=display_for(console))
        except KeyboardInterrupt:
            if _goes_on(client, job, console):
                continue
            raise typer.Exit(_LEFT_RUNNING) from None
        for line in verdict(ended):
            say(line)
        if ended.status is Status.SUCCEEDED:
            say(f"Succeeded. `slaegan download {ended.id}` fetches the best generator.")
            return
        say(f"Job {ended.id} {ended.status.value}. {(ended.error or {}).get('message', '')}")
        raise typer.Exit(1)


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


def _wide_console() -> Console:
    """A console that cuts no column when nobody looks."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


if __name__ == "__main__":
    main()
