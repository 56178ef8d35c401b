"""The service's own processes, started as in production but with small time constants, on the tests' servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import psutil
from PIL import Image, ImageDraw

from client.http import Client
from core.keys import ensure_local_key
from core.schemas.jobs import JobIn, JobOut
from tests.e2e.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

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


@dataclass
class System:
    """One API, one trainer, one evaluator, control and beat, in process groups of their own.

    Args:
        environment: with the three URLs.
        folder: for logs, scratch and caches.
    """

    environment: dict[str, str]
    folder: Path
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *kinds: str) -> None:
        for kind in kinds:
            module = ["api.main"] if kind == "api" else ["worker.app", kind]
            with (self.folder / f"{kind}.log").open("ab") as log:
                self.processes[kind] = subprocess.Popen(
                    [sys.executable, "-P", "-m", *module],
                    env=self.environment | {"SLAEGAN_PORT": str(self.port)},
                    cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
        if "api" in kinds:
            self.until(self._ready, "the API is ready")

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}", ensure_local_key(self.environment["DATABASE_URL"]))

    def trainer(self) -> psutil.Process | None:
        """The training child of the present attempt, once it computes."""
        worker = self.processes["train"]
        if worker.poll() is not None:
            return None
        for child in psutil.Process(worker.pid).children(recursive=True):
            if "worker.train_process" in " ".join(child.cmdline()):
                return child
        return None

    def supervisor(self) -> psutil.Process:
        """The pool child of the trainer's worker."""
        (child,) = psutil.Process(self.processes["train"].pid).children()
        return child

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def until(self, condition: Callable[[], object], what: str, *, timeout_s: float = 240) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"Not within {timeout_s} s: {what}\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """The last lines that every process wrote, for a failed assertion."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-25:])
            for path in sorted(self.folder.glob("*.log"))
        )


@dataclass
class Run:
    """A submitted job, followed through the API."""

    system: System
    client: Client
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


def submit(system: System, client: Client, dataset_id: UUID, config: dict[str, object]) -> Run:
    job = client.create_job(JobIn.model_validate({"dataset_id": dataset_id, "config": config}))
    return Run(system, client, job.id)
