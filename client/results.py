"""What a job leaves for its owner in one folder: the best generator, the latest grid, the curve, nearest pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from core.errors import NotFound
from core.schemas.jobs import JobOut, Point, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from client.http import SlaeGan
    from core.schemas.jobs import CheckpointOut, PictureOut

_POINTS = TypeAdapter(list[Point])


@dataclass(frozen=True)
class Results:
    """The files of one job; None for what the job has not made."""

    checkpoint: Path
    grid: Path | None
    metrics: Path
    curve_picture: Path | None
    points: list[Point]
    neighbours: list[Path]


def best_generator(job: JobOut, checkpoints: list[CheckpointOut]) -> CheckpointOut:
    """The generator of the best snapshot, as the service chose it; the latest one while none is evaluated.

    Raises:
        NotFound: the job has made none yet.
    """
    generators = {item.id: item for item in checkpoints if item.kind == "generator"}
    if not generators:
        if not job.status.final:
            raise NotFound(
                f"Job {job.id} has no generator yet ({job.status.value}): wait for its first snapshot."
            )
        advice = (
            "submit a new one"
            if job.status is Status.SUCCEEDED
            else f"`slaegan retry {job.id}`, or submit a new one"
        )
        raise NotFound(f"Job {job.id} ended without a generator ({job.status.value}): {advice}.")
    if job.best is not None and job.best.checkpoint_id in generators:
        return generators[job.best.checkpoint_id]
    return max(generators.values(), key=lambda item: item.images_seen)


def download_results(
    client: SlaeGan, job: JobOut, *, to: Path, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> Results:
    """Fetch a job's results; a generator or grid that is there already and right is not fetched again.

    Args:
        client: of the service.
        job: whose results.
        to: the folder, made if missing.
        progress: told the bytes there and the bytes in all, of the generator.

    Raises:
        NotFound: the job has no generator yet.
        InfrastructureError: a file did not arrive whole.
    """
    generator = best_generator(job, client.checkpoints(job.id))
    to.mkdir(parents=True, exist_ok=True)
    checkpoint = to / f"generator-{generator.images_seen:08}.safetensors"
    client.download_checkpoint(
        generator, to=checkpoint, progress=lambda done: progress(done, generator.size_bytes)
    )
    grids = [sample for sample in client.samples(job.id) if sample.kind == "grid"]
    grid = None
    if grids:
        latest = max(grids, key=lambda item: item.images_seen)
        grid = to / f"grid-{latest.images_seen:08}.png"
        client.download_sample(latest, to=grid)
    points = client.metrics(job.id)
    metrics = to / "metrics.json"
    metrics.write_bytes(_POINTS.dump_json(points, indent=2))
    curve_picture = None
    if any(point.fid is not None for point in points):
        curve_picture = to / "curve.png"
        client.curve(job.id).save(curve_picture)
    neighbours = []
    for seen, picture in sorted(_pictures(job).items()):
        path = to / f"neighbours-{seen:08}.png"
        client.download_picture(picture, to=path)
        neighbours.append(path)
    return Results(checkpoint, grid, metrics, curve_picture, points, neighbours)


def _pictures(job: JobOut) -> dict[int, PictureOut]:
    """Of the best and the last snapshot, by images seen."""
    shown = (point for point in (job.best, job.latest) if point is not None)
    return {point.images_seen: point.picture for point in shown if point.picture is not None}
