"""What chaos runs on: the whole stack with small time constants, cheap children, a small store, two tenants."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import httpx
import psutil
from PIL import Image, ImageDraw

from benchmarks.chaos.look import Database
from benchmarks.chaos.plan import TENANTS
from benchmarks.chaos.receiver import Receiver, listening
from benchmarks.stack import Servers, Services, own_servers
from client import SlaeGan
from core.db import migrate
from core.keys import ensure_local_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LEASE_S = 4.0
SWEEP_S = 1.0
STOP_S = 10.0
RESERVE_BYTES = 1024 * 1024
# At most; a tmpfs takes only what lies on it, some 100 MB for each real training.
STORE_BYTES = 8 * 1024**3
MARK = "SLAEGAN_CHAOS_RUN"
NAMES = ("api", "train-0", "train-1", "metrics-0", "control", "chores", "beat")
SETTINGS = {
    "SLAEGAN_LEASE_S": f"{LEASE_S:g}", "SLAEGAN_HEARTBEAT_S": "0.5", "SLAEGAN_SWEEP_S": f"{SWEEP_S:g}",
    "SLAEGAN_POLL_S": "0.2", "SLAEGAN_STOP_S": f"{STOP_S:g}", "SLAEGAN_KILL_S": "3",
    "SLAEGAN_RETRY_PAUSE_S": "0.2", "SLAEGAN_STORE_RESERVE_BYTES": str(RESERVE_BYTES),
    # Faults are many here, and no job shall end because of their number.
    "SLAEGAN_MAX_INFRASTRUCTURE_FAILURES": "50", "SLAEGAN_MAX_EVALUATION_ATTEMPTS": "8",
    # As soon as it takes anything: two leases.
    "SLAEGAN_GARBAGE_EVERY_S": "2", "SLAEGAN_GARBAGE_GRACE_S": f"{2 * LEASE_S:g}",
    "SLAEGAN_TRAIN_MODULE": "benchmarks.chaos.trainer",
    "SLAEGAN_EVALUATE_MODULE": "benchmarks.chaos.evaluator",
    "SLAEGAN_DEVICE": "cpu", "SLAEGAN_THREADS": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
    "SLAEGAN_REQUESTS_PER_MINUTE": "100000",
    "SLAEGAN_WEBHOOK_PRIVATE_ADDRESSES": "true", "SLAEGAN_WEBHOOK_POLL_S": "0.5", "SLAEGAN_WEBHOOK_TIMEOUT_S": "2",
    "SLAEGAN_WEBHOOK_RETRIES_S": f"[{', '.join(['0.3'] * 30)}]",
}  # fmt: skip


@dataclass
class Rig:
    """The running stack, and how a chaos run reaches each part of it."""

    folder: Path
    servers: Servers
    services: Services
    store: Path
    store_is_small: bool
    names: tuple[str, ...]
    mark: str
    receiver: Receiver
    database: Database
    keys: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, UUID] = field(default_factory=dict)

    def post(self, tenant: str, path: str, body: object = None, *, timeout_s: float = 15) -> httpx.Response:
        """Ask the API for something, once. Raises httpx.TransportError where no answer is read."""
        return httpx.post(
            f"{self.services.url}{path}", json=body, timeout=timeout_s,
            headers={"Authorization": f"Bearer {self.keys[tenant]}"},
        )  # fmt: skip

    def get_json(self, tenant: str, path: str) -> dict[str, object]:
        """What the API says. Raises httpx.HTTPError."""
        headers = {"Authorization": f"Bearer {self.keys[tenant]}"}
        answer = httpx.get(f"{self.services.url}{path}", headers=headers, timeout=15)
        answer.raise_for_status()
        found: dict[str, object] = answer.json()
        return found

    def requests(self) -> tuple[str, ...]:
        """Which of a tenant's requests about a job this service knows."""
        paths = httpx.get(f"{self.services.url}/openapi.json", timeout=15).json()["paths"]
        wanted = ("cancel", "pause", "retry", "extend")
        return tuple(name for name in wanted if f"/v1/jobs/{{job_id}}/{name}" in paths)

    def logs(self) -> list[Path]:
        """Of all processes and servers."""
        return sorted([*self.services.folder.glob("*.log"), *(self.folder / "data" / "logs").glob("*.log")])

    def survivors(self) -> list[psutil.Process]:
        """Processes of this run's service that still live, found by the mark in their environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found


@contextmanager
def running(
    folder: Path, *, extra: Mapping[str, str] | None = None, modules: Mapping[str, str] | None = None
) -> Iterator[Rig]:
    """Start everything in a folder of its own, emptied first; stop everything after the block.

    Args:
        folder: for data and logs; what an earlier run left there is removed.
        extra: settings beside, or instead of, those above.
        modules: what to start instead of the service's own modules, by kind: for planted bugs.
    """
    for old in ("data", "services", "store"):
        _unmount(folder / old)
        shutil.rmtree(folder / old, ignore_errors=True)
    logs, store = folder / "services", folder / "store"
    for made in (logs, store):
        made.mkdir(parents=True)
    small = _mount(store)
    try:
        with listening() as receiver, own_servers(folder / "data", durable=True) as servers:
            migrate(servers.database_url)
            mark = uuid4().hex
            environment = {
                **SETTINGS,
                "DATABASE_URL": servers.database_url,
                "BROKER_URL": servers.broker_url,
                "STORAGE_URL": f"file://{store}",
                "SLAEGAN_DATA_DIR": str(logs / "data"),
                MARK: mark,
                **(extra or {}),
            }
            services = Services(environment, logs, modules=dict(modules or {}))
            database = Database(servers.database_url, store)
            rig = Rig(folder, servers, services, store, small, NAMES, mark, receiver, database)
            try:
                services.start(*rig.names)
                _upload(rig)
                yield rig
            finally:
                services.stop()
                database.close()
    finally:
        if small:
            _unmount(store)


def _upload(rig: Rig) -> None:
    """Give each tenant a key and a few pictures."""
    pictures = rig.folder / "services" / "pictures"
    pictures.mkdir()
    for number in range(8):
        picture = Image.new("RGB", (64, 64), "white")
        box = (4 + number, 4 + number, 40 + 2 * number, 40 + 2 * number)
        ImageDraw.Draw(picture).ellipse(box, fill=(30 * number, 200 - 20 * number, 90))
        picture.save(pictures / f"{number}.png")
    for tenant in TENANTS:
        rig.keys[tenant] = ensure_local_key(rig.servers.database_url, tenant=tenant)
        with SlaeGan(rig.services.url, rig.keys[tenant]) as client:
            rig.datasets[tenant] = client.create_dataset(pictures, name="chaos").id


def _mount(folder: Path) -> bool:
    """Make a folder a small disk of its own, where that is allowed."""
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={STORE_BYTES}", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def resize(folder: Path, size_bytes: int) -> bool:
    """Give such a disk another size; False where more lies on it."""
    command = ["mount", "-o", f"remount,size={size_bytes}", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _unmount(folder: Path) -> None:
    """Take such a disk away again; a process that just ends may still hold it for a moment."""
    deadline = time.monotonic() + 10
    while folder.is_mount():
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)
        if time.monotonic() > deadline:
            subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
        time.sleep(0.05)
