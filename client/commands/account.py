"""Commands that tell of your account and of the service: what was used, what was changed, who works."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Annotated
from uuid import UUID

import typer

from client.options import ACCOUNT, Data, Json, Key, Url, connect, print_json, show
from client.tables import audit_table, usage_table, workers_table

app = typer.Typer()


@app.command(rich_help_panel=ACCOUNT, epilog="Example: slaegan usage --by-day --since 2026-03-01")
def usage(
    since: Annotated[
        datetime | None, typer.Option(help="In this machine's time; by default 30 days ago.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="By default now.")] = None,
    *,
    by_day: Annotated[bool, typer.Option("--by-day", help="A day a row, in UTC, instead of a job.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Show for how long your jobs held devices: their trainings, and the evaluations of their snapshots."""
    begin, end = (time.astimezone() if time is not None else None for time in (since, until))
    with connect(url, key, data) as client:
        told = client.usage(since=begin, until=end, group="day" if by_day else "job")
    if as_json:
        print_json(told)
    else:
        show(usage_table(told))


@app.command(rich_help_panel=ACCOUNT, epilog="Example: slaegan audit --action revoke_key")
def audit(
    *,
    action: Annotated[str | None, typer.Option(help="Only this, such as create_job.")] = None,
    by: Annotated[UUID | None, typer.Option(metavar="KEY_ID", help="Only what this key did.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List who changed what, the newest first; needs a key with the scope admin."""
    with connect(url, key, data) as client:
        found = list(islice(client.audit(action=action, key_id=by), limit))
    if as_json:
        print_json(found)
    else:
        show(audit_table(found))


@app.command(rich_help_panel=ACCOUNT, epilog="Example: slaegan workers")
def workers(*, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """List the workers, and what they are doing."""
    with connect(url, key, data) as client:
        found = client.workers()
    if as_json:
        print_json(found)
    else:
        show(workers_table(found))
