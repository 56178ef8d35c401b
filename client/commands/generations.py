"""`slaegan generate` and `slaegan export`: what is made with a trained generator, fetched when it is done."""

from __future__ import annotations

import base64
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console

from client.arguments import find_job
from client.generations import main_file
from client.options import LOOK, Data, Job, Json, Key, Url, connect, path_of, print_json, say
from core.errors import InvalidRequest
from core.schemas.generations import GENERATION, MAX_PICTURE_BYTES, ExportFormat, ExportIn
from core.schemas.renderings import RenderingStatus
from core.schemas.wording import place, wording

if TYPE_CHECKING:
    from client.http import SlaeGan
    from core.schemas.generations import GenerationIn
    from core.schemas.renderings import GenerationOut, RenderingOut

app = typer.Typer()

Kind = Annotated[
    Literal["pictures", "interpolation", "style_mix", "projection"], typer.Option(help="What to make.")
]
Checkpoint = Annotated[
    UUID | None, typer.Option(help="A generator of the job, by its id; by default its best one.")
]
Truncation = Annotated[
    float | None, typer.Option(help="Below 1: nearer to the mean picture, and to each other.")
]
Classes = Annotated[
    list[str] | None, typer.Option("--class", metavar="NAME", help="Of generators trained by class.")
]
Seeds = Annotated[list[int] | None, typer.Option(metavar="SEED", help="Of an interpolation; give several.")]
Rows = Annotated[list[int] | None, typer.Option(metavar="SEED", help="Of a style mix: who gives the layout.")]
Columns = Annotated[
    list[int] | None, typer.Option(metavar="SEED", help="Of a style mix: who gives the style.")
]
Picture = Annotated[
    Path | None, typer.Option(help="Of a projection: the picture to come near to.", parser=path_of)
]
Form = Annotated[
    str | None, typer.Option(help="pictures: zip, grid or both. interpolation: mp4, webp or gif.")
]


@app.command(
    rich_help_panel=LOOK, epilog="Example: slaegan generate last --seed 1 --count 16 --out pictures/"
)
def generate(
    job: Job,
    *,
    kind: Kind = "pictures",
    seed: Annotated[int | None, typer.Option(help="Of the first picture; the next have the next.")] = None,
    count: Annotated[int | None, typer.Option(help="Pictures to make; by default 16.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default ./<kind>.", parser=path_of)] = None,
    truncation: Truncation = None,
    classes: Classes = None,
    nearest: Annotated[bool, typer.Option("--nearest", help="Tell the nearest training pictures.")] = False,
    seeds: Seeds = None,
    frames: Annotated[int | None, typer.Option(help="From one seed of a film to the next.")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second of a film.")] = None,
    form: Form = None,
    rows: Rows = None,
    columns: Columns = None,
    picture: Picture = None,
    steps: Annotated[int | None, typer.Option(help="Of a projection's search.")] = None,
    checkpoint: Checkpoint = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Make pictures with a job's best generator: by seed, a film between seeds, mixed styles, or the nearest to yours.

    The same seed of the same generator gives the same picture. Asked for again, nothing is computed again.
    """
    asked = _asked(
        kind=kind, seed=seed, count=count, truncation=truncation, nearest=nearest or None, seeds=seeds,
        frames=frames, fps=fps, form=form, rows=rows, columns=columns, steps=steps, checkpoint_id=checkpoint,
        picture=None if picture is None else _encoded(picture), **_classes(classes, kind=kind),
    )  # fmt: skip
    folder = out or Path(kind)
    with connect(url, key, data) as client:
        found = find_job(client, job)
        with Console(stderr=True).status("Waiting for a worker that generates ..."):
            made = client.wait_for_generation(client.generate(found.id, asked).id)
        paths = _fetched(client, made, folder=folder)
    _tell(made, paths, as_json=as_json)


@app.command(rich_help_panel=LOOK, epilog="Example: slaegan export last --format onnx --out generator.onnx")
def export(
    job: Job,
    *,
    out: Annotated[
        Path | None, typer.Option(help="File; by default in this folder, by its own name.", parser=path_of)
    ] = None,
    form: Annotated[ExportFormat, typer.Option("--format", help="Of the file.")] = "onnx",
    checkpoint: Checkpoint = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Fetch a job's best generator as a file for other programs, held against the original before it is told as done.

    onnx is for ONNX Runtime and others, torch_export for torch without this project's code, safetensors for this
    project's networks.
    """
    asked = ExportIn(format=form, checkpoint_id=checkpoint)
    with connect(url, key, data) as client:
        found = find_job(client, job)
        with Console(stderr=True).status("Waiting for a worker that exports ..."):
            made = client.wait_for_export(client.export(found.id, asked).id)
        file = main_file(made)
        path = client.download_rendered(file, to=out or Path(file.name))
    _tell(made, [path], as_json=as_json)


def _asked(**options: Any) -> GenerationIn:
    """What to ask for: the options that are given, all others as the service has them.

    Raises:
        InvalidRequest: they are wrong, or not of this kind: each is named.
    """
    try:
        return GENERATION.validate_python(
            {name: value for name, value in options.items() if value is not None}
        )
    except ValidationError as error:
        # The union puts the kind before each place.
        told = (
            ": ".join(filter(None, (place(entry).removeprefix(f"{options['kind']}."), wording(entry))))
            for entry in error.errors()
        )
        raise InvalidRequest(f"There can be no such {options['kind']}. {'; '.join(told)}") from None


def _classes(names: list[str] | None, *, kind: str) -> dict[str, Any]:
    if not names or kind == "pictures":
        return {"classes": names or None}
    if len(names) > 1:
        raise InvalidRequest(f"All of a {kind} are of one class; {len(names)} were given.")
    return {"class_name": names[0]}


def _encoded(picture: Path) -> str:
    if not picture.is_file():
        raise InvalidRequest(f"There is no file {picture}.")
    if (size_bytes := picture.stat().st_size) > MAX_PICTURE_BYTES:
        raise InvalidRequest(f"{picture} has {size_bytes} bytes; at most {MAX_PICTURE_BYTES} can be sent.")
    return base64.b64encode(picture.read_bytes()).decode()


def _fetched(client: SlaeGan, made: GenerationOut, *, folder: Path) -> list[Path]:
    """The main file and what else is not one of many; of an archive its pictures."""
    if made.status is RenderingStatus.CANCELLED:
        raise InvalidRequest(f"The generation {made.id} was called off by somebody else: ask again.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for file in made.files:
        if file.role == "picture":
            continue  # They are in the archive.
        path = client.download_rendered(file, to=folder / file.name)
        if file.role == "main" and file.media_type == "application/zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
                paths += [folder / name for name in archive.namelist()]
            path.unlink()
        else:
            paths.append(path)
    return paths


def _tell(made: RenderingOut, paths: list[Path], *, as_json: bool) -> None:
    if as_json:
        print_json(made.model_dump() | {"paths": paths})
        return
    for path in paths:
        say(str(path))
