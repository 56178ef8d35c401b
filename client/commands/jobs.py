"""Commands that look at jobs: which there are, what has happened to them, how their curves run."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Annotated

import typer

from client.arguments import find_dataset, find_job
from client.comparison import comparison_table, differences_table
from client.logs import printed
from client.options import (
    LOOK,
    Data,
    Job,
    Json,
    Key,
    Run,
    Url,
    connect,
    print_json,
    print_json_line,
    say,
    show,
)
from client.tables import attempts_table, facts_table, jobs_table, losses_table, points_table
from client.verdict import verdict
from client.watch import describe
from core.errors import Conflict
from core.schemas.jobs import Status

app = typer.Typer()

Statuses = Annotated[
    list[Status] | None, typer.Option(help="Only jobs in this state; several times for several.")
]
Since = Annotated[
    datetime | None, typer.Option(help="Only jobs submitted at this time or later, by this machine's clock.")
]


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan jobs --status running --status queued --limit 5")
def jobs(
    *,
    status: Statuses = None,
    dataset: Annotated[str | None, typer.Option(help="Only jobs on this dataset.")] = None,
    family: Annotated[str | None, typer.Option(help="Only jobs of this family of models.")] = None,
    text: Annotated[str | None, typer.Option(help="Only jobs whose name contains this.")] = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List jobs, the newest first."""
    with connect(url, key, data) as client:
        on = find_dataset(client, dataset).id if dataset is not None else None
        created_after = since.astimezone() if since is not None else None
        found = client.jobs(
            status=status, dataset_id=on, family=family, text=text, created_after=created_after
        )
        listed = list(islice(found, limit))
    if as_json:
        print_json(listed)
    else:
        show(jobs_table(listed))


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan job last")
def job(job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Show one job: its state, its configuration, what reproduces it, and what its curve says."""
    with connect(url, key, data) as client:
        found = find_job(client, job)
    if as_json:
        print_json(found)
        return
    show(facts_table(found, left_out={"latest", "best", "best_reason", "alarms"}))
    for line in verdict(found):
        say(line)


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan events last --follow")
def events(
    job: Job,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job is over.")] = False,
    after: Annotated[int, typer.Option(min=0, help="Only those with a greater number.")] = 0,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Print what has happened to a job; with --json an event a line."""
    with connect(url, key, data) as client:
        found = find_job(client, job).id
        told = client.follow_events(found, after=after) if follow else client.events(found, after=after)
        for event in told:
            if as_json:
                print_json_line(event)
            else:
                say(f"{event.seq:>5}  {describe(event) or f'{event.at.astimezone():%H:%M:%S}  {event.type}'}")


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan logs last --follow --tail 20")
def logs(
    job: Job,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job is over.")] = False,
    tail: Annotated[int | None, typer.Option(min=1, max=100_000, help="Only the last so many lines.")] = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Print what a job's training printed; of a long log the middle is cut. With --json a line of JSON each."""
    with connect(url, key, data) as client:
        for line in printed(client, find_job(client, job).id, follow=follow, tail=tail):
            if as_json:
                print_json_line(line)
            else:
                typer.echo(line.line)


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan metrics last --json")
def metrics(
    job: Job, *, run: Run = None, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Show a job's curve: FID, KID, precision, recall and copies of every evaluated snapshot."""
    with connect(url, key, data) as client:
        points = client.metrics(find_job(client, job).id, run=run)
    if as_json:
        print_json(points)
    else:
        show(points_table(points))


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan losses last --points 20")
def losses(
    job: Job,
    *,
    points: Annotated[int, typer.Option(min=1, help="Put together into at most so many points.")] = 20,
    run: Run = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Show a job's losses: of each stretch of the training the mean."""
    with connect(url, key, data) as client:
        found = client.losses(find_job(client, job).id, points=points, run=run)
    if as_json:
        print_json(found)
    else:
        show(losses_table(found))


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan attempts last")
def attempts(job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """List each time that a job held a device: its training, and the evaluations of its snapshots."""
    with connect(url, key, data) as client:
        found = client.attempts(find_job(client, job).id)
    if as_json:
        print_json(found)
    else:
        show(attempts_table(found))


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan compare last 3f2a")
def compare(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB JOB...", help="Two to eight jobs, as elsewhere.")],
    *,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Show jobs side by side; exit status 1, with what differs, where their numbers do not compare."""
    with connect(url, key, data) as client:
        found = [find_job(client, job).id for job in jobs]
        try:
            compared = client.compare(found)
        except Conflict as error:
            if not as_json and (differing := error.details.get("differing")):
                show(differences_table(differing))
            raise
    if as_json:
        print_json(compared)
    else:
        show(comparison_table(compared))
