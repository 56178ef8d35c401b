"""Commands of an operator: they work on the service's own database and store, which are every tenant's."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from client.options import OPERATORS, Data, Json, print_json, print_json_line
from client.problems import not_installed
from core.errors import DatabaseUnavailable, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from core.garbage.report import Report

SECONDS_AN_HOUR = 3600
app = typer.Typer()


@app.command(rich_help_panel=OPERATORS, epilog="Example: slaegan gc --dry-run")
def gc(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would go, and remove nothing.")
    ] = False,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="HOURS", help="Younger things stay; by default as the service does it (24)."
        ),
    ] = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Remove what nobody needs: files without a row, old checkpoints, deleted datasets. The service does so by itself.

    It works on the database and the store of DATABASE_URL, BROKER_URL and STORAGE_URL, or of a local stack. The grace
    must be longer than any upload takes; it is never taken for less than two leases of a worker (two minutes).
    """
    try:
        _point_to_the_service(data)
        from core.garbage.collect import collect  # noqa: PLC0415  # not in a client-only install
        from core.garbage.report import Bounds  # noqa: PLC0415
        from core.settings import settings  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    grace_s = settings().garbage_grace_s if grace is None else grace * SECONDS_AN_HOUR
    bounds = Bounds(grace_s=grace_s, limit=settings().garbage_limit, dry_run=dry_run)
    # Without a word on where the service keeps its data on this machine, its folders are left alone.
    data_dir = Path(os.environ["SLAEGAN_DATA_DIR"]).absolute() if "SLAEGAN_DATA_DIR" in os.environ else None
    while True:
        report = collect(bounds, data_dir=data_dir)
        if as_json:
            print_json_line(report)
        else:
            _tell(report)
        if dry_run or report.problems or not report.more:
            raise typer.Exit(1 if report.problems else 0)


def _tell(report: Report) -> None:
    for line in report.lines():
        typer.echo(line)
    for problem in report.problems:
        typer.echo(problem, err=True)


@app.command(rich_help_panel=OPERATORS, epilog="Example: slaegan drain train-0-gpu1 --hand-back")
def drain(
    worker: Annotated[str, typer.Argument(help="A worker's name, as `slaegan workers` shows it.")],
    *,
    hand_back: Annotated[
        bool, typer.Option("--hand-back", help="Do not finish the present job: save it, and give it back.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Let the worker take work again.")] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Have a worker take nothing new, so that its machine can be taken away; it also holds after a restart.

    It works on the database of DATABASE_URL (BROKER_URL and STORAGE_URL must be set, too), or of a local stack.
    """
    if undo and hand_back:
        raise InvalidRequest("--undo and --hand-back contradict each other: give one of them.")
    with service_database(data) as session:
        from core.audit import trail  # noqa: PLC0415  # not in a client-only install
        from core.jobs import workers  # noqa: PLC0415

        mode: Literal["finish", "hand_back"] | None
        mode = None if undo else "hand_back" if hand_back else "finish"
        workers.drain(session, worker, mode)
        trail.record_operator(session, "undrain_worker" if undo else "drain_worker", subject=worker)
    if as_json:
        print_json({"name": worker, "drain": mode})
        return
    typer.echo(f"{worker} {'takes work again' if undo else 'takes no new work'}.")


@contextmanager
def service_database(data: Path | None) -> Iterator[Session]:
    """A transaction on the service's own database; its end commits.

    Args:
        data: the data folder of a local stack, for where the environment does not name the database.

    Raises:
        DatabaseUnavailable: it does not answer, or has not been migrated to this version.
    """
    try:
        _point_to_the_service(data)
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415  # not in a client-only install

        from core.db import sessions  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    try:
        with sessions().begin() as session:
            yield session
    except DBAPIError as error:
        raise DatabaseUnavailable(f"The database does not answer as it should: {error.orig}") from error


def _point_to_the_service(data: Path | None) -> None:
    """Have the settings name the service's own servers: those of the environment, else a running local stack's."""
    from client.local.programs import external_urls  # noqa: PLC0415  # it asks for no package beyond the client's

    if len(external_urls()) == len(("DATABASE_URL", "BROKER_URL", "STORAGE_URL")):
        return
    from client.local.urls import operator_environment  # noqa: PLC0415  # not in the images of the service

    os.environ.update(operator_environment(data))
