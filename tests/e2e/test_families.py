"""Families that differ most from SLAE-GAN on the whole service: by class, and in two stages on codes of pictures."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageOps

from client import SlaeGan
from core.errors import InvalidRequest
from core.keys import ensure_local_key
from core.schemas.jobs import JobIn
from core.training.snapshot import load_generator
from tests.e2e.system import TINY, draw_pictures, running_system, submit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.stack import Services
    from tests.e2e.system import Run

# A minute on a free machine; evaluations yield to whatever else runs.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SLAEGAN = str(Path(sys.executable).with_name("slaegan"))
IN_A_CLASS = 10  # what an intra-FID needs
COMMON: dict[str, Any] = {name: value for name, value in TINY.items() if name != "width"}
BY_CLASS = COMMON | {"family": "sagan", "width": 0.125, "conditional": True, "evaluate_every_images": 32}
# Stage one is long enough to be left in the middle, and saved often.
STAGE_ONE = 1_600
ON_CODES = COMMON | {
    "family": "codes",
    "pair": "dcgan",
    "pair_settings": {"width": 4, "latent_size": 8},
    "autoencoder_channels": 4,
    "autoencoder_images": STAGE_ONE,
    "total_images": STAGE_ONE + 160,
    "evaluate_every_images": STAGE_ONE + 160,
    "checkpoint_every_images": 40,
}


@pytest.fixture(scope="module")
def system(
    module_database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("system")
    with running_system(module_database_url, broker_url, folder, "chores") as system:
        yield system


@pytest.fixture(scope="module")
def key(system: Services) -> str:
    return ensure_local_key(system.environment["DATABASE_URL"])


@pytest.fixture(scope="module")
def client(system: Services, key: str) -> Iterator[SlaeGan]:
    with SlaeGan(system.url, key) as client:
        yield client


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip with a folder for each of two classes: discs on white, and their negatives."""
    folder = tmp_path_factory.mktemp("classes")
    discs, negatives = draw_pictures(folder / "discs", count=IN_A_CLASS), folder / "negatives"
    negatives.mkdir()
    for path in discs.iterdir():
        with Image.open(path) as picture:
            ImageOps.invert(picture).save(negatives / path.name)
    archive = folder / "classes.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((*discs.iterdir(), *negatives.iterdir())):
            file.write(path, path.relative_to(folder))
    return archive


def slaegan(system: Services, key: str, *arguments: str, folder: Path) -> str:
    """What a command prints, as a user would give it."""
    environment = os.environ | {"SLAEGAN_URL": system.url, "SLAEGAN_API_KEY": key}
    result = subprocess.run(
        [SLAEGAN, *arguments], env=environment, cwd=folder, capture_output=True, text=True, timeout=600,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.returncode == 0, (result.stdout, result.stderr, system.logs())
    return result.stdout


def test_by_class_from_a_zip_to_a_generator(
    system: Services, client: SlaeGan, key: str, classes: Path, tmp_path: Path
) -> None:
    """By the command line: `--set` takes what the family has, and the download is what it draws with."""
    evaluation = BY_CLASS["evaluation"]
    values = {name: value for name, value in BY_CLASS.items() if name not in {"family", "evaluation"}}
    values |= {f"evaluation.{name}": value for name, value in evaluation.items()}
    settings = [word for name, value in values.items() for word in ("--set", f"{name}={str(value).lower()}")]
    slaegan(system, key, "train", str(classes), "--family", "sagan", *settings, "--watch", folder=tmp_path)
    job = next(client.jobs())
    assert (job.family, job.status, job.config["conditional"]) == ("sagan", "succeeded", True)
    assert {"grid", "attention"} == {sample.kind for sample in client.samples(job.id)}
    assert all(point.intra_fid is not None for point in client.metrics(job.id))

    slaegan(system, key, "download", "last", "--to", "results", folder=tmp_path)
    [path] = (tmp_path / "results").glob("generator-*.safetensors")
    generator = load_generator(path)
    assert generator.classes is not None
    assert generator.classes.names == ("discs", "negatives")
    one, other = (generator.sample(seed=1, start=0, count=2, label=label) for label in (0, 1))
    assert one.shape == (2, 3, 64, 64)
    assert not one.equal(other), "the class changes nothing"

    # What begins from it is of its family and shape, unasked.
    slaegan(
        system, key, "train", "--dataset", "last", "--init-from", "last", "--set", "seed=1", folder=tmp_path
    )
    tuned = next(client.jobs())
    client.cancel_job(tuned.id)
    assert tuned.init_from is not None
    assert (tuned.family, tuned.config["width"], tuned.config["conditional"]) == ("sagan", 0.125, True)


def test_a_family_that_needs_labels_is_refused_without(client: SlaeGan, tmp_path: Path) -> None:
    dataset = client.create_dataset(draw_pictures(tmp_path / "discs", count=4), name="no classes")
    with pytest.raises(InvalidRequest, match="has no classes") as refused:
        client.create_job(JobIn.model_validate({"dataset_id": dataset.id, "config": BY_CLASS}))
    assert refused.value.status == 422


def test_codes_go_on_in_stage_one_after_a_retry_and_end_with_a_generator(
    system: Services, client: SlaeGan, tmp_path: Path
) -> None:
    dataset = client.create_dataset(draw_pictures(tmp_path / "discs", count=8), name="discs")
    run = submit(system, client, dataset.id, ON_CODES)
    run.wait_for_state(40)
    client.cancel_job(run.job_id)
    run.wait_for("cancelled")
    again = client.retry_job(run.job_id)
    assert again.run == 2
    assert 40 <= again.images_seen < STAGE_ONE, "it was left in stage one"
    job = run.wait_for("succeeded")
    assert job.images_seen == ON_CODES["total_images"]
    _check_both_stages(client, run, resumed_at=again.images_seen)

    made = [one for one in client.checkpoints(job.id) if one.kind == "generator"]
    newest = max(made, key=lambda one: one.images_seen)
    client.download_checkpoint(newest, to=tmp_path / "generator.safetensors")
    generator = load_generator(tmp_path / "generator.safetensors")
    assert (generator.config.family, generator.images_seen) == ("codes", job.images_seen)
    drawn = generator.sample(seed=1, start=0, count=3)
    assert drawn.shape == (3, 3, 64, 64)
    assert not drawn[0].equal(drawn[1])


def _check_both_stages(client: SlaeGan, run: Run, *, resumed_at: int) -> None:
    """Each stage has losses of its own, and neither went back to zero."""
    losses = client.losses(run.job_id)
    first = [one.images_seen for one in losses if "l1" in one.losses]
    second = [one.images_seen for one in losses if "generator" in one.losses]
    assert min(second) >= STAGE_ONE
    assert max(first) > resumed_at
    assert not run.payloads("restarted")
