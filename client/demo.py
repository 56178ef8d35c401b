"""`slaegan demo`: the whole loop on this machine, from the bundled pictures to a generator."""

from __future__ import annotations

import json
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

from rich.text import Text

from client import connection
from client.http import SlaeGan
from client.local.folder import DataFolder
from client.local.place import Place
from client.local.stack import running_stack
from client.local.up import StopRequested, stop_on_signals
from client.results import download_results
from client.verdict import verdict
from client.watch import display_for, in_style, watch
from core.errors import from_code
from core.schemas.jobs import METRICS, JobIn, JobOut, Status
from core.schemas.judging import EvaluationConfig
from core.schemas.slaegan import SlaeganConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from client.local.stack import Stack
    from core.schemas.families import Config
    from core.schemas.jobs import Point

_STOPPED = 130
# Five points on the curve, the untrained generator's among them, in a few minutes on two CPU cores.
PRESET = SlaeganConfig(
    resolution=64,
    total_images=5_600,
    evaluate_every_images=1_400,
    # Small evaluations, without the search for copies: they share the cores with the training.
    evaluation=EvaluationConfig(generated=200, lpips_pairs=64, copies=0),
)


def demo(output: Path, *, pictures: Path, config: Config, console: Console) -> Path:
    """Run a stack of its own, train, evaluate, leave the results, stop.

    Args:
        output: the folder for the results; the stack lives in `stack/` in it, and goes when all went well.
        pictures: a folder or archive.
        config: what to train.
        console: where progress is shown.

    Returns:
        The path of summary.json.

    Raises:
        SlaeganError: what went wrong; the stack's folder with its logs is kept.
    """
    begun = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    summary = output / "summary.json"
    summary.unlink(missing_ok=True)
    folder = DataFolder(output / "stack")
    _remove_old(folder)
    place = Place("127.0.0.1", _free_port())

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    with stop_on_signals() as check_stop:
        say("Starting PostgreSQL, Valkey, the API and the workers …")
        try:
            # Servers that the environment happens to name are somebody's: a demo touches none of them.
            with running_stack(folder, place=place, say=say, check_stop=check_stop, external={}) as stack:
                facts = _train(
                    stack, output=output, pictures=pictures, config=config, console=console, check=check_stop
                )
        except StopRequested:
            say("The demo was stopped.")
            raise SystemExit(_STOPPED) from None
    summary.write_text(json.dumps({**facts, "wall_s": round(time.monotonic() - begun, 1)}, indent=2))
    shutil.rmtree(folder.path)
    return summary


def _train(
    stack: Stack,
    *,
    output: Path,
    pictures: Path,
    config: Config,
    console: Console,
    check: Callable[[], None],
) -> dict[str, Any]:
    def on_poll() -> None:
        check()
        stack.check()

    found = connection.find(url=None, key=None, data=stack.folder.path)
    with SlaeGan(found.url, found.key) as client:
        dataset = client.create_dataset(pictures, name="demo")
        console.print(
            f"Uploaded {dataset.image_count} pictures; training at {config.resolution}x{config.resolution}."
        )
        job: JobOut = client.create_job(JobIn(dataset_id=dataset.id, name="demo", config=config))
        job = watch(client, job.id, display=display_for(console), on_poll=on_poll)
        if job.status is not Status.SUCCEEDED:
            error = job.error or {"code": "job_failed", "message": f"The job ended {job.status.value}."}
            raise from_code(error["code"], error["message"])
        results = download_results(client, job, to=output)
    for line in verdict(job):
        console.print(in_style(line), soft_wrap=True)
    return {
        "status": job.status.value,
        "job_id": str(job.id),
        "images_seen": job.images_seen,
        "curve": [
            point.model_dump(mode="json", include={"images_seen", "fid", "kid", "lpips", "protocol"})
            for point in results.points
            if point.fid is not None
        ],
        "best": _numbers(job.best),
        "best_reason": job.best_reason,
        "selected_on": "training set",
        "last": _numbers(job.latest),
        "alarms": [alarm.model_dump(mode="json") for alarm in job.alarms],
        "grid": str(results.grid),
        "curve_picture": str(results.curve_picture),
        "checkpoint": str(results.checkpoint),
        "neighbours": [str(path) for path in results.neighbours],
    }


def _numbers(point: Point | None) -> dict[str, float] | None:
    return None if point is None else point.model_dump(include={"images_seen", *METRICS}, exclude_none=True)


def _remove_old(folder: DataFolder) -> None:
    """Remove what a failed demo left, unless it still runs."""
    if folder.exists():
        with folder.locked():
            folder.wait_for_leftovers(timeout_s=0)
            shutil.rmtree(folder.path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
