"""The command that tells for how long devices were held."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # typer reads it at run time
from typing import Annotated

import typer

from client.options import Data, Key, Url, connect, show
from client.tables import usage_table


def usage(
    since: Annotated[
        datetime | None, typer.Option(help="In this machine's time; by default 30 days ago.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="By default now.")] = None,
    *,
    by_day: Annotated[bool, typer.Option("--by-day", help="A day a row, in UTC, instead of a job.")] = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Show for how long your jobs held devices: their trainings, and the evaluations of their snapshots."""
    begin, end = (time.astimezone() if time is not None else None for time in (since, until))
    with connect(url, key, data) as client:
        told = client.usage(since=begin, until=end, group="day" if by_day else "job")
    show(usage_table(told))
