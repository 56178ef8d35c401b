"""Commands for the API keys of one's own tenant; they need a key with the scope admin."""

from __future__ import annotations

from datetime import datetime  # typer reads it at run time
from typing import Annotated
from uuid import UUID  # typer reads it at run time

import typer
from pydantic import ValidationError

from client.options import Data, Key, Url, connect, say, show
from client.tables import keys_table
from core.errors import InvalidRequest
from core.schemas.keys import MAX_GRACE_S, KeyIn, RotateIn

app = typer.Typer(no_args_is_help=True, help="API keys of your tenant: make, list, rotate, revoke.")

KeyId = Annotated[UUID, typer.Argument(metavar="ID", help="A key's id, as `slaegan keys list` shows it.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope", help="read, write or admin; several times for several. By default read and write."
    ),
]
Expires = Annotated[datetime | None, typer.Option(help="When the key ends, in this machine's time.")]


@app.command("list")
def list_keys(url: Url = None, key: Key = None, data: Data = None) -> None:
    """List the keys, the newest first."""
    with connect(url, key, data) as client:
        table = keys_table(client.keys())
    show(table)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    *,
    scopes: Scopes = None,
    expires: Expires = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Make a key, and print its token to stdout, this once."""
    wanted = wish(name, scopes or ["read", "write"], expires)
    with connect(url, key, data) as client:
        made = client.create_key(wanted)
    shown_once(made.token, made.id)


@app.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[
        int, typer.Option(min=0, max=MAX_GRACE_S, metavar="SECONDS", help="How long the old token goes on.")
    ] = 0,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Make a new token for a key, with its name, scopes and end, and print it to stdout, this once."""
    with connect(url, key, data) as client:
        made = client.rotate_key(key_id, RotateIn(grace_s=grace))
    shown_once(made.token, made.id)


@app.command()
def revoke(key_id: KeyId, url: Url = None, key: Key = None, data: Data = None) -> None:
    """End a key at once."""
    with connect(url, key, data) as client:
        client.revoke_key(key_id)
    say(f"Key {key_id} is revoked.")


def wish(name: str, scopes: list[str], expires: datetime | None) -> KeyIn:
    """The key that the options ask for.

    Raises:
        InvalidRequest: names each wrong value.
    """
    expires_at = expires.astimezone() if expires is not None else None
    try:
        return KeyIn.model_validate({"name": name, "scopes": scopes, "expires_at": expires_at})
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()]
        raise InvalidRequest("No such key can be made. " + "; ".join(wrong)) from None


def shown_once(token: str | None, key_id: UUID) -> None:
    """The token alone on stdout, for scripts; the rest on stderr."""
    assert token is not None, "only an answer that is told again lacks it"
    typer.echo(f"Key {key_id}. Keep the token: it is not shown again.", err=True)
    typer.echo(token)
