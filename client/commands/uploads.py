"""`slaegan uploads`: uploads in parts that have not become a dataset yet."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from client.options import Data, Json, Key, Url, connect, print_json, say, show
from client.tables import uploads_table

app = typer.Typer(no_args_is_help=True, help="Large uploads on their way: list, give up.")


@app.command("list", epilog="Example: slaegan uploads list")
def list_uploads(*, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None) -> None:
    """List large uploads: how far they are, and until when they are kept."""
    with connect(url, key, data) as client:
        found = client.uploads()
    if as_json:
        print_json(found)
    else:
        show(uploads_table(found))


@app.command(epilog="Example: slaegan uploads delete 5f0c3c1e-7a55-4d0f-9a63-0d1f6a0b7c11")
def delete(
    upload: Annotated[UUID, typer.Argument(metavar="ID", help="As `slaegan uploads list` shows it.")],
    *,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Give up an upload; what has arrived of it is removed."""
    with connect(url, key, data) as client:
        client.delete_upload(upload)
    if as_json:
        print_json({"id": upload, "deleted": True})
    else:
        say(f"Upload {upload} is given up.")
