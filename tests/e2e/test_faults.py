"""Real processes and real, tiny trainings: the whole loop, then the same with parts of it killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil
import pytest
import redis
from sqlalchemy.orm import Session

from core.db import make_engine
from core.jobs import workers
from core.schemas.jobs import ExtendIn
from core.schemas.slaegan import SlaeganConfig
from core.storage import open_store
from tests.e2e.system import LONG, TINY, draw_pictures, running_system, submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from benchmarks.stack import Services
    from client import SlaeGan
    from tests.e2e.system import Run

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(scope="module")
def system(
    module_database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("system")
    with running_system(module_database_url, broker_url, folder) as system:
        yield system


@pytest.fixture(scope="module")
def client(system: Services) -> Iterator[SlaeGan]:
    with system.client() as client:
        yield client


@pytest.fixture(scope="module")
def dataset_id(client: SlaeGan, tmp_path_factory: pytest.TempPathFactory) -> UUID:
    return client.create_dataset(draw_pictures(tmp_path_factory.mktemp("pictures")), name="discs").id


@pytest.fixture
def run(system: Services, client: SlaeGan, dataset_id: UUID) -> Iterator[Callable[..., Run]]:
    """Submits a job; one still alive at the end of the test is cancelled, so that the next test has the worker."""
    runs: list[Run] = []

    def start(config: dict[str, object]) -> Run:
        runs.append(submit(system, client, dataset_id, config))
        return runs[-1]

    for kind, process in system.processes.items():
        if process.poll() is not None:
            system.start(kind)
    yield start
    for run in runs:
        if not run.job.status.final:
            client.cancel_job(run.job_id)
            run.wait_for("cancelled")


def test_from_pictures_to_a_generator(run: Callable[..., Run], client: SlaeGan, tmp_path: Path) -> None:
    one = run(TINY)
    seen = [event.type for event in client.follow_events(one.job_id)]
    job = one.wait_for("succeeded")
    assert seen == one.story
    assert seen[:3] == ["queued", "running", "training"]
    assert seen[-1] == "succeeded"
    assert (job.images_seen, job.progress, job.attempt) == (32, 1.0, 1)

    curve = client.metrics(one.job_id)
    assert [point.images_seen for point in curve] == [0, 16, 32]
    for point in curve:
        assert point.status == "done"
        assert None not in (point.fid, point.kid, point.kid_sd, point.lpips)
        assert point.protocol["extractor"] == "vgg16"
    assert len({point.protocol_hash for point in curve}) == 1
    assert job.latest is not None
    assert job.latest.images_seen == 32
    assert job.best is not None
    assert job.best in curve
    assert job.best_reason is not None
    assert job.best_reason.startswith("KID ")

    generators = [c for c in client.checkpoints(one.job_id) if c.kind == "generator"]
    assert [c.images_seen for c in generators] == [0, 16, 32]
    client.download_checkpoint(generators[-1], to=tmp_path / "generator.safetensors")  # It proves the hash.
    assert len(client.samples(one.job_id)) == 3
    assert {"real", "fake", "generator"} <= set(client.losses(one.job_id)[-1].losses)
    wanted = SlaeganConfig.model_validate(TINY).model_dump(mode="json")
    assert {**job.config, "evaluation": wanted["evaluation"]} == wanted
    assert job.config["evaluation"]["precision"] in ("fp32", "bf16"), (
        "auto is resolved when a job is submitted"
    )
    assert job.facts["device"] == "cpu"


def test_a_killed_trainer_and_a_killed_worker_cost_nothing_but_time(
    run: Callable[..., Run], system: Services
) -> None:
    one = run(TINY | {"total_images": 120, "evaluate_every_images": 120})
    one.wait_for_state(8)
    trainer = system.child()
    assert trainer is not None
    trainer.kill()
    one.system.until(lambda: one.job.attempt == 2, "a second attempt")
    one.wait_for_state(one.job.images_seen + 8)
    os.kill(system.processes["train"].pid, signal.SIGKILL)
    system.processes["train"].wait()
    system.until(lambda: system.child() is None, "the trainer ends with its worker")
    system.start("train")
    one.wait_for("succeeded")
    story = one.story
    assert story.count("running") == 3
    assert story.count("resumed") == 2
    reasons = [str(payload["reason"]) for payload in one.payloads("queued")[1:]]
    assert "killed by SIGKILL" in reasons[0]
    resumed_at = [int(str(payload["images_seen"])) for payload in one.payloads("resumed")]
    assert 8 <= resumed_at[0] < resumed_at[1] < 120
    points = one.client.metrics(one.job_id)
    assert [point.images_seen for point in points] == [0, 120]


def test_a_killed_supervisor_is_swept(run: Callable[..., Run], system: Services) -> None:
    one = run(TINY)
    system.until(lambda: system.child() is not None, "the trainer runs")
    trainer = system.child()
    assert trainer is not None
    supervisor = system.supervisor()
    assert supervisor is not None
    supervisor.kill()
    started = time.monotonic()
    system.until(
        lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE, "the trainer ends too"
    )
    assert time.monotonic() - started < 5
    one.wait_for("succeeded")
    assert "was lost" in str(one.payloads("queued")[1]["reason"])


@pytest.mark.parametrize("whole_group", [False, True], ids=["parent alone", "whole group"])
def test_sigterm_saves_and_hands_back(
    run: Callable[..., Run], system: Services, *, whole_group: bool
) -> None:
    one = run(LONG | {"checkpoint_every_images": 100_000})
    system.until(lambda: one.job.images_seen > 8, "some training")
    worker = system.processes["train"]
    (os.killpg if whole_group else os.kill)(worker.pid, signal.SIGTERM)
    started = time.monotonic()
    assert worker.wait(30) == 0
    assert time.monotonic() - started < 25
    job = one.job
    assert job.status == "queued"
    assert one.has_state(job.images_seen), "the last step is saved"
    told = [kind for kind in one.story if kind != "evaluated"]  # An evaluation may end at any time.
    assert told[-2:] == ["checkpoint", "queued"]
    assert one.payloads("queued")[-1]["reason"] == "the worker is told to stop"
    system.start("train")
    system.until(lambda: "resumed" in one.story, "another worker goes on")
    assert one.payloads("resumed")[0]["images_seen"] == job.images_seen


def test_cancel_frees_the_device(run: Callable[..., Run], system: Services, client: SlaeGan) -> None:
    one = run(LONG)
    system.until(lambda: one.job.images_seen > 0, "some training")
    client.cancel_job(one.job_id)
    started = time.monotonic()
    one.wait_for("cancelled")
    system.until(lambda: system.child() is None, "the trainer is gone")
    assert time.monotonic() - started < 10
    assert one.story[-1] == "cancelled"
    assert "cancel_requested" in one.story


def test_a_flushed_broker_loses_no_job(run: Callable[..., Run], system: Services, broker_url: str) -> None:
    busy, waiting = run(LONG), run(TINY)
    system.until(lambda: busy.job.status == "running", "the first job runs")
    with redis.Redis.from_url(broker_url) as broker:
        broker.flushall()
    busy.client.cancel_job(busy.job_id)
    waiting.wait_for("succeeded")


def test_a_damaged_state_is_told_and_the_one_before_is_used(
    run: Callable[..., Run], system: Services
) -> None:
    one = run(LONG)
    one.wait_for_state(16)
    worker = system.processes["train"]
    worker.send_signal(signal.SIGTERM)
    worker.wait(30)
    states = sorted(
        (c for c in one.client.checkpoints(one.job_id) if c.kind == "state"), key=lambda c: c.images_seen
    )
    store = open_store(system.environment["STORAGE_URL"], reserve_bytes=0)
    (key,) = [k for k in store.keys(f"jobs/{one.job_id}") if f"state-{states[-1].images_seen:010d}" in k]
    path = system.folder / "store" / key
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    system.start("train")
    system.until(lambda: "resumed" in one.story, "a resume")
    assert one.payloads("checkpoint_damaged")[0]["images_seen"] == states[-1].images_seen
    assert one.payloads("resumed")[0]["images_seen"] == states[-2].images_seen


@pytest.fixture
def small_disk(system: Services) -> Iterator[Path]:
    """The store's folder becomes a disk of 40 MiB of its own; the stored pictures move there."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    store = system.folder / "store"
    kept = system.folder / "kept"
    for folder in ("datasets", "pictures"):
        shutil.copytree(store / folder, kept / folder)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(store)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.decode()}")
    shutil.copytree(kept, store, dirs_exist_ok=True)
    yield store
    subprocess.run(["umount", str(store)], check=True)


def test_a_full_store_fails_the_job_with_that_reason(
    run: Callable[..., Run], system: Services, small_disk: Path, tmp_path: Path
) -> None:
    system.environment["SLAEGAN_STORE_RESERVE_BYTES"] = str(2 * 1024 * 1024)
    system.processes["train"].send_signal(signal.SIGTERM)
    system.processes["train"].wait(30)
    system.start("train")
    try:
        one = run(LONG)
        one.wait_for_state(8)
        (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 1024 * 1024))
        job = one.wait_for("failed")
    finally:
        del system.environment["SLAEGAN_STORE_RESERVE_BYTES"]
        system.processes["train"].send_signal(signal.SIGTERM)
        system.processes["train"].wait(30)
    assert job.error is not None
    assert job.error["code"] == "store_full"
    for checkpoint in one.client.checkpoints(
        one.job_id
    ):  # What was stored is whole, and no row lacks its file.
        one.client.download_checkpoint(checkpoint, to=tmp_path / str(checkpoint.id))


def test_an_unreachable_store_is_waited_for_and_at_last_fails_the_job(
    run: Callable[..., Run], system: Services
) -> None:
    one = run(LONG)
    one.wait_for_state(8)
    store = system.folder / "store"
    store.rename(system.folder / "store-away")
    store.write_text("no folder any more")
    try:
        job = one.wait_for("failed")
    finally:
        store.unlink()
        (system.folder / "store-away").rename(store)
    assert job.error is not None
    assert job.error["code"] == "store_unavailable"
    reasons = [payload.get("code") for payload in one.payloads("queued")[1:]]
    assert reasons == ["store_unavailable"] * 2, "two of the three attempts that are allowed were given back"
    one.client.retry_job(one.job_id)
    system.until(lambda: one.job.run == 2 and one.job.images_seen > job.images_seen, "it trains on")
    assert one.payloads("resumed")[-1]["images_seen"] >= 8


def test_a_paused_training_frees_the_worker_and_goes_on_where_it_was(
    run: Callable[..., Run], system: Services, client: SlaeGan
) -> None:
    one, other = run(LONG | {"checkpoint_every_images": 100_000}), run(TINY)
    system.until(lambda: one.job.images_seen > 8, "some training")
    client.pause_job(one.job_id)
    paused = one.wait_for("paused")
    assert one.has_state(paused.images_seen), "the last step is saved"
    other.wait_for("succeeded")
    client.resume_job(one.job_id)
    system.until(lambda: one.job.images_seen > paused.images_seen, "it trains on")
    assert one.payloads("resumed")[0]["images_seen"] == paused.images_seen


def test_an_extended_training_goes_on_from_its_end(run: Callable[..., Run], client: SlaeGan) -> None:
    one = run(TINY)
    one.wait_for("succeeded")
    client.extend_job(one.job_id, ExtendIn(total_images=64))
    extended = one.wait_for("succeeded")
    assert (extended.run, extended.images_seen, extended.attempt) == (2, 64, 2)
    assert one.payloads("resumed")[0]["images_seen"] == 32
    assert [point.images_seen for point in client.metrics(one.job_id)] == [0, 16, 32, 48, 64]


def test_a_drained_worker_hands_its_job_back_and_takes_no_other(
    run: Callable[..., Run], system: Services, client: SlaeGan
) -> None:
    one = run(LONG)
    system.until(lambda: one.job.images_seen > 8, "some training")
    (name,) = (worker.name for worker in client.workers() if worker.kind == "train")
    engine = make_engine(system.environment["DATABASE_URL"])
    with Session(engine) as session:
        workers.drain(session, name, "hand_back")
        session.commit()
        job = one.wait_for("queued")
        assert job.worker is None
        workers.drain(session, name, None)
        session.commit()
    engine.dispose()
    system.until(lambda: "resumed" in one.story, "the worker takes it again")
    assert one.payloads("queued")[-1]["reason"] == "the worker is being drained"


def test_a_configuration_that_cannot_run_fails_with_its_reason(run: Callable[..., Run]) -> None:
    job = run(TINY | {"precision": "fp16"}).wait_for("failed")
    assert job.error is not None
    assert job.error["code"] == "configuration_failed"
    assert "fp16" in job.error["message"]


def test_nothing_is_left_in_scratch(system: Services) -> None:
    scratch = system.folder / "data" / "scratch"
    system.until(lambda: not scratch.exists() or not any(scratch.rglob("*.*")), "an empty scratch folder")
