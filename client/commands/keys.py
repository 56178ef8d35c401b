"""Commands for the API keys of one's own tenant; they need a key with the scope admin."""

from __future__ import annotations

from datetime import datetime  # typer reads it at run time
from typing import Annotated
from uuid import UUID  # typer reads it at run time

import typer
from pydantic import ValidationError

from client.options import Data, Json, Key, Url, connect, print_json, say, show
from client.tables import facts_table, keys_table
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


@app.command("list", epilog="Example: slaegan keys list")
def list_keys(*, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """List the keys, the newest first."""
    with connect(url, key, data) as client:
        found = list(client.keys())
    if as_json:
        print_json(found)
    else:
        show(keys_table(found))


@app.command(epilog="Example: slaegan keys current")
def current(*, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """Show the key that asks: its tenant, its scopes, when it ends."""
    with connect(url, key, data) as client:
        found = client.current_key()
    if as_json:
        print_json(found)
    else:
        show(facts_table(found))


@app.command(epilog="Example: slaegan keys create laptop --scope read --expires 2027-01-01")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    *,
    scopes: Scopes = None,
    expires: Expires = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Make a key, and print its token to stdout, this once."""
    wanted = wish(name, scopes or ["read", "write"], expires)
    with connect(url, key, data) as client:
        made = client.create_key(wanted)
    shown_once(made.token, made.id, as_json=as_json)


@app.command(epilog="Example: slaegan keys rotate 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11 --grace 3600")
def rotate(
    key_id: KeyId,
    grace: Annotated[
        int, typer.Option(min=0, max=MAX_GRACE_S, metavar="SECONDS", help="How long the old token goes on.")
    ] = 0,
    *,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Make a new token for a key, with its name, scopes and end, and print it to stdout, this once."""
    with connect(url, key, data) as client:
        made = client.rotate_key(key_id, RotateIn(grace_s=grace))
    shown_once(made.token, made.id, as_json=as_json)


@app.command(epilog="Example: slaegan keys revoke 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def revoke(
    key_id: KeyId, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """End a key at once."""
    with connect(url, key, data) as client:
        client.revoke_key(key_id)
    told_revoked(key_id, as_json=as_json)


def told_revoked(key_id: UUID, *, as_json: bool) -> None:
    """Say that a key opens nothing any more."""
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
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


def shown_once(token: str | None, key_id: UUID, *, as_json: bool) -> None:
    """The token alone on stdout, for scripts; the rest on stderr. As JSON: both."""
    assert token is not None, "the client raises where an answer lacks it"
    if as_json:
        print_json({"id": key_id, "token": token})
        return
    typer.echo(f"Key {key_id}. Keep the token: it is not shown again.", err=True)
    typer.echo(token)
