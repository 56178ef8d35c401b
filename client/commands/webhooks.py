"""`slaegan webhooks`: what became of the messages that jobs send, and what they are signed with."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from client.arguments import find_job
from client.options import Data, Job, Json, Key, Url, connect, print_json, say, say_aside, show
from client.tables import deliveries_table
from core.schemas.webhooks import WebhookSecretOut

app = typer.Typer(no_args_is_help=True, help="Messages that jobs send: list, send again, secret.")


@app.command("list", epilog="Example: slaegan webhooks list last")
def list_deliveries(
    job: Job, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """List what became of a job's messages, the newest first."""
    with connect(url, key, data) as client:
        found = client.deliveries(find_job(client, job).id)
    if as_json:
        print_json(found)
    else:
        show(deliveries_table(found))


@app.command(epilog="Example: slaegan webhooks send 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def send(
    delivery: Annotated[UUID, typer.Argument(metavar="ID", help="As `slaegan webhooks list` shows it.")],
    *,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Send a message now, under its old id; also one that was delivered or given up."""
    with connect(url, key, data) as client:
        found = client.redeliver(delivery)
    if as_json:
        print_json(found)
    else:
        say(f"Delivery {found.id} of {found.event}: {found.status}")


@app.command(epilog="Example: slaegan webhooks secret")
def secret(*, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Print what your webhooks are signed with; needs a key with the scope admin."""
    with connect(url, key, data) as client:
        _tell(client.webhook_secret(), as_json=as_json)


@app.command(epilog="Example: slaegan webhooks rotate")
def rotate(*, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Make a new secret, and print it; the one before signs beside it for a while."""
    with connect(url, key, data) as client:
        _tell(client.rotate_webhook_secret(), as_json=as_json)


def _tell(found: WebhookSecretOut, *, as_json: bool) -> None:
    """The secret alone on stdout, for scripts."""
    if as_json:
        print_json(found)
        return
    if found.previous_until is not None:
        say_aside(f"Until {found.previous_until:%Y-%m-%d %H:%M %Z} the secret before it signs, too.")
    typer.echo(found.secret)
