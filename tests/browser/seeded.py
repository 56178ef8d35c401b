"""Jobs as workers leave them, made through the workers' own functions: what the pages have to show."""

from __future__ import annotations

import io
import math
import random
from typing import TYPE_CHECKING, Any

from PIL import Image
from sqlalchemy import func, insert, select

from core.errors import OutOfMemory
from core.jobs import endings, records, requests
from core.jobs.tables import Job, JobEvent, LogLine, Worker
from tests.integration.api import story

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.orm import Session

    from core.jobs.lease import Attempt
    from tests.integration.api.conftest import Person

TOTAL = 4_000
# A name that would be a script, were it ever read as HTML.
HOSTILE = "<img src=x onerror=alert(1)>"
PROTOCOL = {"extractor": "vgg16", "resize": 224, "generated": 200, "real": 120}
FACTS = {
    "device": "NVIDIA L4",
    "torch": "2.14.0",
    "seed": 1,
    "dataset_sha256": "6f" * 32,
    "precision": "bf16",
    "parameters": {"generator": 29_100_000},
}


def grid(step: int, *, side: int = 64, columns: int = 8, rows: int = 4) -> bytes:
    """A sheet of patches that get clearer with time, so that people can see it change."""
    dice = random.Random(7)
    patches = Image.new("RGB", (columns, rows))
    patches.putdata([tuple(dice.randrange(60, 230) for _ in range(3)) for _ in range(columns * rows)])
    clear = patches.resize((columns * side, rows * side), Image.Resampling.NEAREST)
    noise = Image.effect_noise(clear.size, max(4, 90 - 10 * step)).convert("RGB")
    written = io.BytesIO()
    Image.blend(noise, clear, min(0.9, 0.2 + 0.08 * step)).save(written, "PNG")
    return written.getvalue()


def submit(person: Person, name: str, **values: Any) -> dict[str, Any]:
    """A queued job, on the person's only dataset; it is not taken before those that `start` submits."""
    have = person.get("/v1/datasets").json()["items"]
    dataset_id = have[0]["id"] if have else story.upload(person)
    config = {"resolution": 64, "total_images": TOTAL}
    return story.submit(person, name=name, config=config, dataset_id=dataset_id, **{"priority": 0, **values})


def start(person: Person, session: Session, name: str, *, worker: str) -> Attempt:
    """A job that a worker has taken; no other tenant of the database may have queued ones."""
    return story.start(session, submit(person, name, priority=100), worker=worker)


def train(session: Session, attempt: Attempt, *, snapshots: int, copies: float = 0.0) -> None:
    """Progress, losses, samples and evaluated snapshots up to a share of the training; the log of it, too."""
    records.record_facts(session, attempt, FACTS)
    for step in range(1, snapshots + 1):
        seen = step * TOTAL // 10
        losses = {
            at: {"generator": 1.2 + math.sin(at / 300) / 4, "discriminator": 0.6 + math.cos(at / 200) / 5}
            for at in range(seen - TOTAL // 10 + 40, seen + 1, 40)
        }
        records.record_progress(session, attempt, images_seen=seen, images_per_s=41.5, losses=losses)
        snapshot(session, attempt, seen, copies=copies * step)
    log(session, attempt.job_id, [f"{n * 40} images, G 1.2, D 0.6, 41.5 images/s" for n in range(1, 60)])
    session.commit()


def snapshot(session: Session, attempt: Attempt, seen: int, *, copies: float = 0.0) -> None:
    """A generator, its grid, and its evaluation with a picture of nearest neighbours."""
    step = seen * 10 // TOTAL
    made = story.checkpoint(session, attempt, b"weights of %d" % seen, images_seen=seen)
    story.sample(session, attempt, grid(step), images_seen=seen)
    fid = 40 + 260 * math.exp(-step / 3)
    metrics = {
        "precision": min(0.9, 0.1 * step), "recall": 0.55 - 0.04 * abs(step - 6), "copy_rate": copies,
        "lpips_intra": 0.4, "copy_threshold": 0.21, "nearest_lpips": 0.33,
        "floor_fid_halves": 38.0, "floor_fid_mirror": 21.0, "floor_kid_halves": 0.012, "floor_kid_mirror": 0.004,
    }  # fmt: skip
    picture = story.store_file(grid(step, columns=6, rows=4))
    story.evaluation(
        session, attempt, made, images_seen=seen, fid=fid, protocol=PROTOCOL, metrics=metrics, picture=picture
    )


def log(session: Session, job_id: UUID, lines: list[str]) -> None:
    """Lines of a training, behind those that there are."""
    job = session.get_one(Job, job_id, with_for_update=True)
    rows = [
        {"job_id": job_id, "seq": job.log_seq + n, "attempt": 1, "line": line}
        for n, line in enumerate(lines, start=1)
    ]
    session.execute(insert(LogLine), rows)
    job.log_seq += len(lines)
    session.commit()


def alarm(session: Session, attempt: Attempt) -> None:
    """An alarm of copies on a job, from its newest evaluation."""
    job = session.get_one(Job, attempt.job_id, populate_existing=True)
    job.alarms = [
        {
            "kind": "copies",
            "message": "34% of the generated pictures copy a training picture (the limit is 20%): look at them beside "
            "their nearest training pictures. An earlier snapshot, or more pictures, may help.",
            "images_seen": job.images_seen,
            "evaluation_id": str(job.latest_evaluation_id),
        }
    ]
    session.commit()


def some_jobs(person: Person, session: Session) -> dict[str, str]:
    """A job in each state that a page shows differently; their ids by what they are."""
    ids = {}
    done = start(person, session, "Emoji faces, first try", worker="gpu-1")
    train(session, done, snapshots=10)
    endings.finish(session, done)
    session.commit()
    endings.settle(session, done.job_id)
    failed = start(person, session, "Scratches at 1024", worker="gpu-1")
    endings.fail(
        session, failed, OutOfMemory("The device has 22 GiB, and 31 GiB were needed: lower the batch.")
    )
    copying = start(person, session, "Six stamps, no augmentation", worker="gpu-1")
    train(session, copying, snapshots=7, copies=0.05)
    alarm(session, copying)
    running = start(person, session, "Rare weld defects", worker="gpu-2")
    train(session, running, snapshots=4)
    ids |= {"succeeded": done, "failed": failed, "alarm": copying, "running": running}
    ids = {name: str(attempt.job_id) for name, attempt in ids.items()}
    ids["queued"] = submit(person, HOSTILE)["id"]
    ids["paused"] = submit(person, "Portraits, waiting for the weekend")["id"]
    requests.pause(session, tenant_id=person.tenant_id, job_id=ids["paused"])
    for name, kind in (("gpu-1", "train"), ("gpu-2", "train"), ("eval-1", "metrics")):
        session.merge(Worker(name=name, kind=kind, device="NVIDIA L4, 22 GiB", host="node-7", pid=4_311))
    session.commit()
    return ids


def many_jobs(session: Session, like: str, *, number: int) -> None:
    """Queued jobs by the hundred, in one statement each for rows and events."""
    copied = ("tenant_id", "dataset_id", "family", "config", "total_images")
    name = func.concat("Job number ", func.generate_series(1, number))
    rows = select(func.gen_random_uuid(), name, *(getattr(Job, column) for column in copied)).where(
        Job.id == like
    )
    made = insert(Job).from_select(["id", "name", *copied], rows).returning(Job.id)
    ids = session.scalars(made).all()
    session.execute(
        insert(JobEvent), [{"job_id": job_id, "seq": 1, "type": "queued", "payload": {}} for job_id in ids]
    )
    session.commit()
