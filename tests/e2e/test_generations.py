"""Generations and exports with real processes, of a job that was trained a moment ago."""

from __future__ import annotations

import io
import os
import signal
import zipfile
from typing import TYPE_CHECKING

import onnxruntime
import pytest
from PIL import Image

from client.generations import main_file
from core.schemas.generations import ExportIn, PicturesIn
from tests.e2e.system import TINY, Run, draw_pictures, running_system, submit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psutil

    from client.http import SlaeGan
    from core.schemas.renderings import GenerationOut

pytestmark = pytest.mark.slow
ASKED = PicturesIn(seed=1, count=4)


@pytest.fixture(scope="module")
def trained(
    module_database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """A job with a generator, and a worker that generates."""
    folder = tmp_path_factory.mktemp("generations")
    with (
        running_system(module_database_url, broker_url, folder, "generate") as system,
        system.client() as client,
    ):
        dataset = client.create_dataset(draw_pictures(folder / "pictures"), name="discs")
        run = submit(system, client, dataset.id, TINY | {"total_images": 8, "evaluate_every_images": 8})
        if not run.wait_for("evaluating", "succeeded").status.final:
            client.cancel_job(run.job_id)  # Its evaluation would only take time.
        yield run


def fetched(client: SlaeGan, made: GenerationOut, folder: Path) -> bytes:
    return client.download_rendered(main_file(made), to=folder / "file").read_bytes()


def child_of(run: Run) -> psutil.Process:
    run.system.until(lambda: run.system.child("generate"), "a rendering process")
    child = run.system.child("generate")
    assert child is not None
    return child


def test_the_same_seeds_are_the_same_bytes_and_the_worker_stays_warm(trained: Run, tmp_path: Path) -> None:
    client = trained.client
    first = client.wait_for_generation(client.generate(trained.job_id, ASKED).id, timeout_s=120)
    assert first.status == "done"
    data = fetched(client, first, tmp_path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = [Image.open(archive.open(name)).size for name in archive.namelist()]
    assert sizes == [(64, 64)] * 4
    pid = child_of(trained).pid
    client.delete_generation(first.id)
    again = client.wait_for_generation(client.generate(trained.job_id, ASKED).id, timeout_s=60)
    assert again.id != first.id
    assert fetched(client, again, tmp_path) == data
    assert child_of(trained).pid == pid, "nothing is imported again"


def test_an_export_runs_without_this_code(trained: Run, tmp_path: Path) -> None:
    client = trained.client
    made = client.wait_for_export(client.export(trained.job_id, ExportIn(format="onnx")).id, timeout_s=200)
    path = client.download_rendered(main_file(made), to=tmp_path / "generator.onnx")
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()


@pytest.mark.parametrize("whom", ["child", "worker"])
def test_a_kill_costs_nothing_but_time(trained: Run, whom: str) -> None:
    """SIGKILL while it computes: it is done all the same, once, and no process is left."""
    client, system = trained.client, trained.system
    many = PicturesIn(seed=1_000 if whom == "child" else 2_000, count=200)
    asked = client.generate(trained.job_id, many)
    system.until(lambda: client.generation(asked.id).status == "running", "it is under way")
    child = child_of(trained)
    if whom == "child":
        os.kill(child.pid, signal.SIGKILL)
    else:
        supervisor = system.supervisor("generate")
        assert supervisor is not None
        # First the one that would hand its work back when its parent dies.
        supervisor.kill()
        system.kill("generate")
        system.start("generate")
    made = client.wait_for_generation(asked.id, timeout_s=120)
    assert (made.status, made.attempts) == ("done", 2)
    system.until(lambda: not child.is_running(), "the end of the killed")
    assert [found.id for found in client.generations(trained.job_id)].count(asked.id) == 1
    assert client.generate(trained.job_id, many).id == asked.id
