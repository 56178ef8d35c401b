"""Every family through the service: whether KID falls by half within ten minutes of training on this machine.

    python -m benchmarks.halving --pictures FOLDER [--families dcgan ...] [--minutes 10] [--results FILE]

Runs the real API, queue, trainer and metrics worker on loopback. For each family a first job of one iteration tells
where KID begins; a second one trains at the family's defaults at 64 pixels until an evaluated snapshot has half of
that, and is then cancelled; or until the time is over. Seconds count from the start of the training to the number in
the job's record. One JSON object a line; what stands in the file of results is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from benchmarks.ablation_results import append, read_lines
from benchmarks.ablation_run import ROOT
from benchmarks.ablation_speed import Speeds
from benchmarks.ablation_suites import of_length, stages_of
from benchmarks.stack import Services, own_servers
from core.db import migrate
from core.schemas.families import FAMILIES, parse_config
from core.schemas.jobs import JobIn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from client import SlaeGan
    from core.schemas.families import Config
    from core.schemas.jobs import JobOut, Point

GENERATED = 500
EVERY_S = 45.0  # of training between two evaluations
_POLL_S = 1.0


def main() -> int:
    """Run what the command line says; the exit status is 1 where a KID did not fall by half."""
    parser = argparse.ArgumentParser(prog="benchmarks.halving", description=__doc__)
    parser.add_argument("--pictures", type=Path, required=True, help="a folder, zip or tar of pictures")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, at most")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "ablation" / "halving.jsonl")
    parser.add_argument("--speeds", type=Path, default=ROOT / "docs" / "ablation" / "speed.json")
    parser.add_argument("--weights", type=Path, default=platformdirs.user_cache_path("slaegan") / "weights")
    options = parser.parse_args()
    done = {line["family"]: line for line in read_lines(options.results)}
    todo = [family for family in options.families if family not in done]
    if todo:
        speeds = Speeds(options.speeds)
        stages = [stage for family in todo for stage, _ in stages_of(_defaults(family))]
        speeds.measure(stages, weights_dir=options.weights)
        with _service(options.pictures, options.weights) as (services, dataset_id):
            for family in todo:
                config = _planned(_defaults(family), speeds, seconds=60 * options.minutes)
                done[family] = _halve(services, dataset_id, config, limit_s=60 * options.minutes)
                append(options.results, done[family])
                print(json.dumps(done[family]), flush=True)
    return 0 if all(done[family]["halved"] for family in options.families) else 1


def _defaults(family: str) -> Config:
    return parse_config({"family": family, "resolution": 64})


def _planned(config: Config, speeds: Speeds, *, seconds: float) -> Config:
    """What fits in the time at the measured speed, evaluated every EVERY_S of its last stage."""
    stages = stages_of(config)
    last = speeds.of(stages[-1][0])["iteration_s"]
    planned = of_length(config, [speeds.images(one, seconds=share * seconds) for one, share in stages])
    every = max(1, round(EVERY_S / last)) * config.shown
    judged = {"evaluate_every_images": every, "evaluation": {"generated": GENERATED}}
    return parse_config(planned.model_dump(mode="json") | judged)


@contextmanager
def _service(pictures: Path, weights: Path) -> Iterator[tuple[Services, UUID]]:
    """The whole service on loopback, with the pictures as a dataset; its files are removed after the block."""
    with tempfile.TemporaryDirectory(prefix="slaegan-halving-") as name:
        folder = Path(name)
        with own_servers(folder / "servers", durable=True) as servers:
            migrate(servers.database_url)
            environment = {
                "DATABASE_URL": servers.database_url,
                "BROKER_URL": servers.broker_url,
                "STORAGE_URL": (folder / "store").as_uri(),
                "SLAEGAN_DATA_DIR": str(folder / "data"),
                "SLAEGAN_WEIGHTS_DIR": str(weights),
                "SLAEGAN_DEVICE": "cpu",
            }
            services = Services(environment, folder)
            try:
                services.start("api", "train", "metrics", "control", "beat")
                with services.client() as client:
                    dataset_id = client.create_dataset(pictures, name=pictures.name).id
                yield services, dataset_id
            finally:
                services.stop()


def _halve(services: Services, dataset_id: UUID, config: Config, *, limit_s: float) -> dict[str, Any]:
    """Train until KID has fallen by half, or the time is over; what was seen on the way."""
    with services.client() as client:
        begin = _begun(client, dataset_id, config)
        assert begin.kid is not None
        job = _submitted(client, dataset_id, config)
        print(f"{config.family}: KID begins at {begin.kid:.3f}", file=sys.stderr, flush=True)
        curve: list[dict[str, Any]] = []
        while True:
            job, points = client.job(job.id), client.metrics(job.id)
            curve = [_seen(client, job, point) for point in points if point.kid is not None]
            halved = next((one for one in curve if one["kid"] <= begin.kid / 2), None)
            trained_s = time.time() - job.started_at.timestamp() if job.started_at else 0.0
            if halved or job.status.final or trained_s > limit_s:
                break
            time.sleep(_POLL_S)
        if not job.status.final:
            client.cancel_job(job.id)
            services.until(lambda: client.job(job.id).status.final, "the job is cancelled")
    return {
        "bench": "halving",
        "family": config.family,
        "kid_begin": begin.kid,
        "halved": halved is not None and halved["seconds"] <= limit_s,
        "at": halved,
        "curve": curve,
        "status": job.status,
        "config": config.model_dump(mode="json"),
        "protocol": begin.protocol,
        "facts": job.facts,
    }


def _submitted(client: SlaeGan, dataset_id: UUID, config: Config) -> JobOut:
    asked = {"dataset_id": dataset_id, "name": config.family, "config": config.model_dump(mode="json")}
    return client.create_job(JobIn.model_validate(asked))


def _begun(client: SlaeGan, dataset_id: UUID, config: Config) -> Point:
    """The snapshot after one iteration, evaluated."""
    one = {"total_images": config.shown, "evaluate_every_images": config.shown}
    if config.family == "codes":
        one |= {"autoencoder_images": config.batch, "total_images": config.batch + config.shown}
    job = _submitted(client, dataset_id, parse_config(config.model_dump(mode="json") | one))
    while not job.status.final:
        time.sleep(_POLL_S)
        job = client.job(job.id)
    assert job.latest is not None, (job.status, job.error)
    return job.latest


def _seen(client: SlaeGan, job: JobOut, point: Point) -> dict[str, Any]:
    told = client.evaluation(point.evaluation_id).finished_at
    assert told is not None
    assert job.started_at is not None
    seconds = round((told - job.started_at).total_seconds(), 1)
    return {"seconds": seconds, "images_seen": point.images_seen, "kid": point.kid, "fid": point.fid}


if __name__ == "__main__":
    sys.exit(main())
