"""Jobs on the service's own processes, which run with small time constants on the tests' servers."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from benchmarks.stack import Services
from core.schemas.jobs import JobIn, JobOut

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from client import SlaeGan

SMALL_TIMES = {
    "SLAEGAN_LEASE_S": "6",
    "SLAEGAN_HEARTBEAT_S": "1",
    "SLAEGAN_SWEEP_S": "1",
    "SLAEGAN_POLL_S": "0.2",
    "SLAEGAN_RETRY_PAUSE_S": "0.5",
    "SLAEGAN_MAX_INFRASTRUCTURE_FAILURES": "3",
}
TINY = {
    "resolution": 64,
    "width": 0.125,
    "batch": 4,
    "precision": "auto",
    "total_images": 32,
    "evaluate_every_images": 16,
    "checkpoint_every_images": 8,
    "evaluation": {"generated": 16, "lpips_pairs": 8, "extractor": "vgg16"},
}
LONG = TINY | {"total_images": 100_000, "evaluate_every_images": 100_000}


@contextmanager
def running_system(database_url: str, broker_url: str, folder: Path, *parts: str) -> Iterator[Services]:
    """API, workers, control and beat on a store of files, and what else is named."""
    environment = os.environ | SMALL_TIMES
    environment |= {
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "STORAGE_URL": (folder / "store").as_uri(),
        "SLAEGAN_DATA_DIR": str(folder / "data"),
    }
    system = Services(environment, folder)
    system.start("api", "train", "metrics", "control", *parts, "beat")
    yield system
    system.stop()


@dataclass
class Run:
    """A submitted job, followed through the API."""

    system: Services
    client: SlaeGan
    job_id: UUID

    @property
    def job(self) -> JobOut:
        return self.client.job(self.job_id)

    @property
    def story(self) -> list[str]:
        return [event.type for event in self.client.events(self.job_id)]

    def payloads(self, kind: str) -> list[dict[str, object]]:
        return [event.payload for event in self.client.events(self.job_id) if event.type == kind]

    def has_state(self, images_seen: int = 1) -> bool:
        return any(
            c.kind == "state" and c.images_seen >= images_seen for c in self.client.checkpoints(self.job_id)
        )

    def wait_for_state(self, images_seen: int = 1) -> None:
        self.system.until(lambda: self.has_state(images_seen) or self.job.status.final, "a saved state")
        assert self.has_state(images_seen), (self.job, self.system.logs())

    def wait_for(self, *statuses: str, timeout_s: float = 240) -> JobOut:
        self.system.until(
            lambda: self.job.status in statuses or self.job.status.final,
            f"one of {statuses}",
            timeout_s=timeout_s,
        )
        job = self.job
        assert job.status in statuses, (job.status, job.error, self.story, self.system.logs())
        return job


def draw_pictures(folder: Path, *, count: int = 8) -> Path:
    """Discs of several colours and sizes: few, but no two alike."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        picture = Image.new("RGB", (96, 80), "white")
        radius = 12 + 3 * number
        box = (48 - radius, 40 - radius, 48 + radius, 40 + radius)
        ImageDraw.Draw(picture).ellipse(box, fill=(30 * number, 200 - 20 * number, 90))
        picture.save(folder / f"{number}.png")
    return folder


def submit(system: Services, client: SlaeGan, dataset_id: UUID, config: dict[str, object]) -> Run:
    job = client.create_job(JobIn.model_validate({"dataset_id": dataset_id, "config": config}))
    return Run(system, client, job.id)
