"""`slaegan upload`: pictures become datasets, with progress; what broke off goes on when the command is repeated."""

from __future__ import annotations

from pathlib import Path  # typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from client.arguments import find_dataset
from client.commands.lint import counted, lint_lines
from client.options import (
    DATASETS,
    Data,
    Json,
    Key,
    Url,
    connect,
    path_of,
    print_json_line,
    say,
    say_aside,
)
from client.transfer import require_source
from core.errors import DatasetUnusable, InvalidRequest
from core.schemas.datasets import LabelSource, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.http import SlaeGan
    from core.schemas.datasets import DatasetOut

    Progressed = Callable[[int, int], None]


_SHOWN_REJECTIONS = 20
_SHOWN_CLASSES = 20
_INTERRUPTED = 130

Sources = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE...",
        help="Folders of pictures, or zip or tar files; with --remove, none is needed.",
        parser=path_of,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        metavar="DATASET",
        help="Make a new version of this dataset (id, its beginning, or last); by default a dataset of its own.",
    ),
]
Labels = Annotated[
    LabelSource,
    typer.Option(
        help="Where classes come from: folders (each class's pictures in one of its own), csv (a file labels.csv of "
        "pictures and their classes), auto (that file if there is one, else folders that look like classes), none."
    ),
]
Remove = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PICTURE", help="Leave this out: its name, position or sha256 there. As often as needed."
    ),
]


app = typer.Typer()


@app.command(rich_help_panel=DATASETS, epilog="Example: slaegan upload cats/ more.zip")
def upload(
    sources: Sources = None,
    *,
    name: Annotated[str | None, typer.Option(help="For people; by default the file's.")] = None,
    to: To = None,
    remove: Remove = None,
    labels: Labels = "auto",
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Make a dataset of each folder or archive, or a new version of one; `slaegan datasets` lists the ids.

    A dataset never changes: what is added and removed makes its next version, and trainings name the version.

    A large upload (16 MiB and more) goes on by itself after a broken connection. If the command ends before it is
    there, give the same command again: it goes on from there, for as long as the service keeps the upload (a day).

    With --json each dataset that is made is a line.
    """
    given = sources or []
    if remove and to is None:
        raise InvalidRequest("--remove needs --to, the dataset that has the pictures.")
    if not given and not remove:
        raise InvalidRequest("Give pictures to upload: folders, or zip or tar files.")
    if name is not None and len(given) > 1:
        raise InvalidRequest(f"--name names one dataset, and {len(given)} are to be made: leave it out.")
    if to is not None and len(given) > 1:
        raise InvalidRequest(f"A version is made of one upload, and {len(given)} are given.")
    for path in given:
        require_source(path)
    with connect(url, key, data) as client:
        if to is not None:
            before, source = find_dataset(client, to).id, given[0] if given else None
            version = _made(
                source,
                lambda progress: client.create_version(
                    before,
                    source=source,
                    remove=remove or (),
                    name=name or "",
                    labels=labels,
                    progress=progress,
                ),
            )
            _tell_or_print(version, as_json=as_json)
            return
        for path in given:
            made = send(client, path, name=name or path.resolve().stem, labels=labels)
            _tell_or_print(made, as_json=as_json)


def send(client: SlaeGan, source: Path, *, name: str, labels: LabelSource = "auto") -> DatasetOut:
    """Upload a folder or an archive, with progress on stderr.

    Args:
        client: of the service.
        source: a folder of pictures, or a zip or tar file.
        name: for people.
        labels: where the pictures' classes come from.
    """
    return _made(
        source,
        lambda progress: client.create_dataset(source, name=name, labels=labels, progress=progress),
    )


def _tell_or_print(dataset: DatasetOut, *, as_json: bool) -> None:
    if as_json:
        print_json_line(dataset)
    else:
        tell(dataset)


def _made(source: Path | None, make: Callable[[Progressed], DatasetOut]) -> DatasetOut:
    if source is not None:
        say_aside(f"Uploading {source} …")
    columns = (TextColumn("  "), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        bar = shown.add_task("", total=None, visible=False)

        def progress(sent_bytes: int, size_bytes: int) -> None:
            shown.update(bar, completed=sent_bytes, total=size_bytes, visible=True)

        try:
            return make(progress)
        except KeyboardInterrupt:
            if not shown.tasks[bar].visible:
                raise
            shown.stop()
            say_aside("Interrupted. The same command goes on from there.")
            raise typer.Exit(_INTERRUPTED) from None
        except DatasetUnusable as error:
            # The reasons on lines of their own, as after a success; the sentence itself comes last.
            found = [Rejection.model_validate(item) for item in error.details.get("rejected", [])]
            _tell_rejections(found, say_aside)
            raise DatasetUnusable(
                error.message.replace("see details.rejected", "see above").replace(
                    "See details.rejected", "See above"
                )
            ) from None


def tell(dataset: DatasetOut) -> None:
    """Say what became of an upload."""
    changed = (
        f" ({dataset.added_count} added, {dataset.removed_count} removed)" if dataset.version > 1 else ""
    )
    version = f", version {dataset.version}" if dataset.version > 1 else ""
    rejected = counted(sum(not rejection.is_of_label for rejection in dataset.rejected), "file")
    say(
        f"Dataset {dataset.id}{version}: {counted(dataset.image_count, 'picture')}{changed}, {rejected} rejected"
    )
    if dataset.classes:
        named = [f"{one.name} ({one.images})" for one in dataset.classes[:_SHOWN_CLASSES]]
        more = (
            [f"{len(dataset.classes) - _SHOWN_CLASSES} more"] if len(dataset.classes) > _SHOWN_CLASSES else []
        )
        say(f"  {_classes(len(dataset.classes))}: {', '.join([*named, *more])}")
    _tell_rejections(dataset.rejected, say)
    for line in lint_lines(dataset):
        say(line)


def _classes(count: int) -> str:
    return f"{count} class" if count == 1 else f"{count} classes"


def _tell_rejections(rejected: list[Rejection], to: Callable[[str], None]) -> None:
    for rejection in rejected[:_SHOWN_REJECTIONS]:
        to(f"  {rejection.name}: {rejection.reason}")
    if (more := len(rejected) - _SHOWN_REJECTIONS) > 0:
        to(f"  and {more} more")
