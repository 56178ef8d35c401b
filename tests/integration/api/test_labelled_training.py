"""A training by class: what it asks of a dataset, and what its workers are told of the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.evaluations.service import Claim
from core.metrics.evaluate import _agreed
from core.metrics.protocol import ClassedProtocol, planned_protocol
from core.schemas.families import parse_config
from core.training.data import load_pictures
from tests.integration.api import story
from tests.integration.api.conftest import problem
from tests.integration.api.test_labels import in_classes, made, send
from tests.picture_files import zipped
from worker import evaluating, training

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Person

CONFIG = {"family": "sagan", "resolution": 64, "conditional": True}


def dataset(person: Person, files: dict[str, bytes], **fields: str) -> dict[str, Any]:
    return made(send(person, {"a.zip": zipped(files)}, **fields))


def submit(person: Person, of: dict[str, Any], **values: Any) -> Any:
    return person.post("/v1/jobs", json={"dataset_id": of["id"], "config": CONFIG, **values})


def test_a_dataset_without_its_classes_is_refused_at_submission(owner: Person) -> None:
    pets = in_classes()
    without = dataset(owner, pets, labels="none")
    assert "has no classes" in problem(submit(owner, without), 422, "invalid")["detail"]
    partly = dataset(owner, pets | {"labels.csv": b"cats/0.png,cats\ndogs/0.png,dogs\n"})
    refused = problem(submit(owner, partly), 422, "invalid")
    assert "7 pictures without a class" in refused["detail"]
    assert refused["details"] == {"unlabelled": 7}
    single = dataset(
        owner, {f"cats/{name.replace('/', '')}": data for name, data in pets.items()}, labels="folders"
    )
    assert "has one class, 'cats'" in problem(submit(owner, single), 422, "invalid")["detail"]
    assert submit(owner, dataset(owner, pets)).status_code == 201
    assert submit(owner, without, config=CONFIG | {"conditional": False}).status_code == 201


def test_weights_that_mean_other_classes_are_refused(owner: Person, session: Session) -> None:
    first = dataset(owner, in_classes())
    job = submit(owner, first, priority=100).json()
    checkpoint = story.checkpoint(session, story.start(session, job), b"weights")
    same = dataset(owner, in_classes(5, 5, first=20))
    assert submit(owner, same, init_from=str(checkpoint)).status_code == 201
    renamed = {name.replace("dogs", "wolves"): data for name, data in in_classes().items()}
    refused = problem(submit(owner, dataset(owner, renamed), init_from=str(checkpoint)), 422, "invalid")
    assert refused["details"]["differing"] == ["dogs", "wolves"]


def test_workers_are_told_the_class_of_each_row(owner: Person, session: Session, tmp_path: Path) -> None:
    # Colours count the pictures, so that a decoded row tells which it is; classes take turns.
    pictures = in_classes(40, 0)
    files = {f"{'cats' if n % 3 else 'dogs'}/{n:02d}.png": data for n, data in enumerate(pictures.values())}
    made_of = dataset(owner, files)
    config = {**CONFIG, "held_out": 0.3, "batch": 4}
    job = submit(owner, made_of, priority=100, config=config).json()
    attempt = story.start(session, job)
    every = DatasetFiles.of(session, UUID(made_of["id"]))
    kept, held_out = split(every, share=0.3)
    assert held_out is not None
    parsed = parse_config(attempt.config)
    (tmp_path / "scratch").mkdir()
    spec = training._specify(attempt, config=parsed, files=kept, work_dir=tmp_path / "scratch")
    assert spec.classes == ("cats", "dogs")
    assert spec.labels is not None
    assert spec.dataset_hash not in {kept.content_hash, every.content_hash}
    rows = load_pictures(
        spec.images_dir, resolution=64, fit="crop", cache_dir=tmp_path, dataset_hash=spec.dataset_hash,
        check_stop=lambda: None,
    )  # fmt: skip
    numbers = rows[:, 0, 0, 0].tolist()
    assert len(numbers) == len(spec.labels) < 40
    assert [int(number % 3 == 0) for number in numbers] == list(spec.labels)

    protocol = planned_protocol(
        parsed, image_count=kept.count, held_out=held_out.count, classes=kept.classes, labels=kept.labels
    )
    assert isinstance(protocol, ClassedProtocol)
    generator = story.store_file(b"a generator")
    claim = Claim(
        evaluation_id=uuid4(), token=uuid4(), attempt=1, job_id=attempt.job_id, run=1, kind="metrics",
        dataset_id=every.dataset_id, images_seen=0, config=attempt.config, generator_key=generator.key,
        protocol=protocol.model_dump(mode="json"), generator_sha256=generator.sha256,
    )  # fmt: skip
    told = evaluating._specify(claim, work_dir=tmp_path)
    assert (told.classes, told.labels, told.dataset_hash) == (spec.classes, spec.labels, spec.dataset_hash)
    assert told.held_out_labels == held_out.labels
    assert _agreed(told, real=kept.count, held_out=held_out.count) == protocol


def test_without_classes_a_worker_is_told_what_it_always_was(
    owner: Person, session: Session, tmp_path: Path
) -> None:
    made_of = dataset(owner, in_classes())
    attempt = story.start(
        session, submit(owner, made_of, priority=100, config=CONFIG | {"conditional": False}).json()
    )
    files = DatasetFiles.of(session, UUID(made_of["id"]))
    spec = training._specify(attempt, config=parse_config(attempt.config), files=files, work_dir=tmp_path)
    assert (spec.classes, spec.labels, spec.dataset_hash) == ((), None, made_of["content_hash"])
