"""Commands for evaluations beside the curve: ask how near a generator comes to real pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from client.arguments import find_job
from client.backtracking import question, told, wait_for
from client.options import LOOK, Data, Job, Json, Key, Url, connect, print_json, say, show
from client.tables import evaluations_table, facts_table
from core.errors import InvalidRequest

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Evaluations on demand: list, show, call off.")
app.add_typer(group, name="evaluations", rich_help_panel=LOOK)

EvaluationId = Annotated[UUID, typer.Argument(metavar="ID", help="An evaluation's id.")]


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan backtrack last --pictures 8 --to reached.png")
def backtrack(
    job: Job,
    *,
    to: Annotated[Path | None, typer.Option(help="Where to save the sheet of pictures, a PNG.")] = None,
    held_out: Annotated[bool, typer.Option(help="Of pictures that were kept from the training.")] = False,
    pictures: Annotated[int, typer.Option(min=1, max=200, help="So many, evenly chosen.")] = 16,
    steps: Annotated[int, typer.Option(min=1, max=2_000, help="Of the search for each picture.")] = 200,
    as_json: Json = False,
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
        if as_json:
            print_json(done)
        else:
            for line in told(done):
                say(line)
        if to is not None and done.picture is not None:
            client.download_picture(done.picture, to=to)
        if to is not None and not as_json:
            say(str(to) if done.picture is not None else "It left no picture.")
    raise typer.Exit(0 if done.status == "done" else 1)


@group.command("list", epilog="Example: slaegan evaluations list last")
def list_evaluations(
    job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """List what was asked of a job by `slaegan backtrack`, the newest first."""
    with connect(url, key, data) as client:
        found = client.backtrackings(find_job(client, job).id)
    if as_json:
        print_json(found)
    else:
        show(evaluations_table(found))


@group.command("show", epilog="Example: slaegan evaluations show 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def show_evaluation(
    evaluation: EvaluationId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Show an evaluation: of the curve, or on demand."""
    with connect(url, key, data) as client:
        found = client.evaluation(evaluation)
    if as_json:
        print_json(found)
    else:
        show(facts_table(found))


@group.command(epilog="Example: slaegan evaluations cancel 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def cancel(
    evaluation: EvaluationId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Call off an evaluation on demand that is not over."""
    with connect(url, key, data) as client:
        client.cancel_evaluation(evaluation)
    if as_json:
        print_json({"id": evaluation, "cancelled": True})
    else:
        say(f"Evaluation {evaluation} is called off.")
