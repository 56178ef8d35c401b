"""`slaegan estimate`: what a training would take, before it is submitted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from client.arguments import configuration
from client.commands.train import Family, Settings
from client.options import TRAIN, Data, Json, Key, Url, connect, print_json, say
from core.schemas.estimates import EstimateIn

if TYPE_CHECKING:
    from core.schemas.estimates import EstimateOut

app = typer.Typer()


@app.command(rich_help_panel=TRAIN, epilog="Example: slaegan estimate --family stylegan2 --resolution 128")
def estimate(
    family: Family = None,
    resolution: Annotated[int | None, typer.Option(help="64, 128, 256, 512 or 1024.")] = None,
    images: Annotated[int | None, typer.Option(help="Pictures until the end of the training.")] = None,
    settings: Settings = None,
    *,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
) -> None:
    """Tell how long a training would take, and how much memory, by your earlier jobs. Nothing is submitted."""
    config = configuration(settings or [], family=family, resolution=resolution, total_images=images)
    with connect(url, key, data) as client:
        found = client.estimate(EstimateIn.model_validate({"config": config}))
    if as_json:
        print_json(found)
        return
    for line in told(found):
        say(line)


def told(found: EstimateOut) -> list[str]:
    """The estimate in words, a line for each kind of device."""
    if found.basis is None:
        return [
            "Not known yet: none of your jobs has trained these networks. Once this one runs, it tells its own."
        ]
    alike = "" if found.basis == "same" else ", which differ from it in options"
    return [
        f"{one.device}: {_time(one.training_s)} ({_time(one.fastest_s)} to {_time(one.slowest_s)}), "
        f"{one.images_per_s:.3g} images/s{_memory(one.memory_bytes)}; by {one.jobs} of your jobs{alike}."
        for one in found.devices
    ]


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _memory(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f", {size_bytes / 2**30:.1f} GiB"
