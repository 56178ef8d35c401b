"""Commands that look at datasets, fetch their pictures, and delete them; `slaegan upload` makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from client.arguments import find_dataset
from client.options import DATASETS, Data, Dataset, Json, Key, Url, connect, print_json, say, show
from client.tables import datasets_table, facts_table, images_table
from client.terminal import keep_or_show

app = typer.Typer()


@app.command(rich_help_panel=DATASETS, epilog="Example: slaegan datasets")
def datasets(
    *,
    series: Annotated[
        UUID | None, typer.Option(help="All versions of a dataset: the id of the first.")
    ] = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List datasets, each by its newest version, the newest first."""
    with connect(url, key, data) as client:
        found = list(client.datasets(series_id=series))
    if as_json:
        print_json(found)
    else:
        show(datasets_table(found))


@app.command(rich_help_panel=DATASETS, epilog="Example: slaegan dataset last")
def dataset(
    dataset: Dataset, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Show one dataset: its version, its classes, what was rejected and why."""
    with connect(url, key, data) as client:
        found = find_dataset(client, dataset)
    if as_json:
        print_json(found)
    else:
        show(facts_table(found))


@app.command(rich_help_panel=DATASETS, epilog="Example: slaegan images last --to pictures/")
def images(
    dataset: Dataset,
    *,
    to: Annotated[
        Path | None, typer.Option(help="Save them in this folder, as they are trained on (PNG).")
    ] = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """List a dataset's pictures; with --to they are fetched, and their hashes verified."""
    with connect(url, key, data) as client:
        found = find_dataset(client, dataset).id
        listed = list(client.dataset_images(found))
        if as_json:
            print_json(listed)
        elif to is None:
            show(images_table(listed))
        if to is not None:
            to.mkdir(parents=True, exist_ok=True)
            for image in listed:
                # Named by place: what users call their pictures may be a path.
                client.download_image(found, image, to=to / f"{image.position:06}.png")
            if not as_json:
                say(f"{len(listed)} pictures in {to}")


@app.command(rich_help_panel=DATASETS, epilog="Example: slaegan preview last --show")
def preview(
    dataset: Dataset,
    *,
    to: Annotated[Path | None, typer.Option(help="Save it there (JPEG).")] = None,
    showing: Annotated[bool, typer.Option("--show", help="Show it in the terminal.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Fetch a contact sheet of a dataset's first 64 pictures, by default into ./preview.jpg."""
    with connect(url, key, data) as client:
        picture = client.preview(find_dataset(client, dataset).id)
    keep_or_show(picture, to=to, default=Path("preview.jpg"), showing=showing, as_json=as_json)


@app.command(rich_help_panel=DATASETS, epilog="Example: slaegan delete 3f2a")
def delete(
    dataset: Dataset, *, as_json: Json = False, url: Url = None, key: Key = None, data: Data = None
) -> None:
    """Delete one version of a dataset; refused while a job that is not over needs it."""
    with connect(url, key, data) as client:
        found = find_dataset(client, dataset)
        client.delete_dataset(found.id)
    if as_json:
        print_json({"id": found.id, "deleted": True})
    else:
        say(f"Dataset {found.id} ({found.name}, version {found.version}) is deleted.")
