"""What load runs on: the service's processes with production's time constants, durable servers, eight pictures."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw
from psycopg.rows import dict_row

from benchmarks.load.figures import MeasurementFailed
from benchmarks.stack import Services, own_servers
from client import SlaeGan
from client.local import postgres
from core.db import migrate
from core.keys import ensure_local_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    import psycopg

SETTINGS = {
    # Far beyond what is measured here; every request is counted all the same.
    "SLAEGAN_REQUESTS_PER_MINUTE": "100000000", "SLAEGAN_MAX_QUEUED_JOBS": "1000000",
    "SLAEGAN_MAX_STREAMS": "1000",
    "SLAEGAN_DEVICE": "cpu", "SLAEGAN_THREADS": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
    "SLAEGAN_EVALUATE_MODULE": "benchmarks.chaos.evaluator",
}  # fmt: skip
# For a look at the harness itself: nothing that takes long waits long.
QUICK = {"SLAEGAN_LEASE_S": "6", "SLAEGAN_HEARTBEAT_S": "1", "SLAEGAN_SWEEP_S": "1"}
IDLE_CHILD = "benchmarks.load.idle_child"
CHEAP_TRAINER = "benchmarks.chaos.trainer"
PICTURES = 8
# More than anything here should take; a machine that is busy with other things is slow.
PATIENCE_S = 300


@dataclass
class Rig:
    """The running stack, a tenant with a key and a dataset, and a look into the database."""

    services: Services
    database_url: str
    key: str
    dataset_id: UUID
    database: psycopg.Connection

    @property
    def headers(self) -> dict[str, str]:
        """Of a request with the tenant's key."""
        return {"Authorization": f"Bearer {self.key}"}

    def rows(
        self, query: str, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[dict[str, Any]]:
        """Ask the database."""
        with self.database.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), parameters).fetchall()

    def value(self, query: str, parameters: Sequence[object] = ()) -> Any:
        """The one value that a query finds; None where it finds nothing."""
        found = self.rows(query, parameters)
        return next(iter(found[0].values())) if found else None

    def forget_jobs(self) -> None:
        """Remove all jobs, so that nobody trains them later."""
        self.database.execute("delete from jobs")

    def start_workers(self, count: int, *, train_module: str) -> tuple[str, ...]:
        """Start so many training workers, with what sweeps for them; returns their names when they take hints."""
        self.services.environment["SLAEGAN_TRAIN_MODULE"] = train_module
        names = tuple(f"train-{number}" for number in range(count))
        before = self.rows("select now() as now")[0]["now"]
        self.services.start(
            *(name for name in ("control", "beat") if not self.services.is_alive(name)), *names
        )
        seen = "select count(*) from workers where kind = 'train' and last_heartbeat_at > %s"
        self.until(lambda: self.value(seen, [before]) >= count, f"{count} workers have beaten their hearts")
        return names

    def stop(self, *names: str) -> None:
        """End some processes in order."""
        for name in names:
            self.services.processes[name].terminate()
        for name in names:
            self.services.processes[name].wait(60)

    def until(self, condition: Callable[[], object], what: str, *, poll_s: float = 0.05) -> None:
        """Wait for a condition.

        Raises:
            MeasurementFailed: it stays away; with the last lines of all logs.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise MeasurementFailed(f"Not within {PATIENCE_S} s: {what}\n{self.services.logs()}")
            time.sleep(poll_s)


@contextmanager
def running(folder: Path, *, extra: Mapping[str, str]) -> Iterator[Rig]:
    """Start servers and API in a folder of its own, emptied first; stop everything after the block, remove the data.

    Args:
        folder: on the disk that is to be measured; the processes' logs stay there.
        extra: settings beside those above.
    """
    shutil.rmtree(folder, ignore_errors=True)
    logs, store = folder / "services", folder / "store"
    for made in (logs, store):
        made.mkdir(parents=True)
    try:
        with own_servers(folder / "data", durable=True) as servers:
            migrate(servers.database_url)
            environment = {
                **SETTINGS,
                **extra,
                "DATABASE_URL": servers.database_url,
                "BROKER_URL": servers.broker_url,
                "STORAGE_URL": f"file://{store}",
                "SLAEGAN_DATA_DIR": str(logs / "data"),
            }
            services = Services(environment, logs)
            try:
                services.start("api")
                key = ensure_local_key(servers.database_url)
                with SlaeGan(services.url, key) as client:
                    dataset_id = client.create_dataset(_draw(logs / "pictures"), name="load").id
                with postgres.connect(servers.database_url) as database:
                    yield Rig(services, servers.database_url, key, dataset_id, database)
            finally:
                services.stop()
    finally:
        for made in (folder / "data", store, logs / "data"):
            shutil.rmtree(made, ignore_errors=True)


def say(text: str) -> None:
    """Tell the person who waits; results alone go to stdout."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def _draw(folder: Path) -> Path:
    folder.mkdir()
    for number in range(PICTURES):
        picture = Image.new("RGB", (64, 64), "white")
        box = (4 + number, 4 + number, 40 + 2 * number, 40 + 2 * number)
        ImageDraw.Draw(picture).ellipse(box, fill=(30 * number, 200 - 20 * number, 90))
        picture.save(folder / f"{number}.png")
    return folder
