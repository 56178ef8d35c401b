"""Classes of a dataset's pictures, through every way in which pictures come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from client import SlaeGan
from client.cli import app
from core.datasets.files import DatasetFiles
from core.datasets.held_out import split
from core.datasets.tables import DatasetImage
from core.errors import LabelsUnusable
from tests.integration.api.conftest import problem
from tests.integration.api.tus import whole
from tests.picture_files import form, pngs, zipped

if TYPE_CHECKING:
    from pathlib import Path

    import httpx
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

MANY = list(pngs(40).values())


def in_classes(cats: int = 6, dogs: int = 3, *, outer: str = "", first: int = 0) -> dict[str, bytes]:
    """Pictures of two classes in a folder each."""
    names = [f"{outer}cats/{n}.png" for n in range(cats)] + [f"{outer}dogs/{n}.png" for n in range(dogs)]
    return {name: MANY[first + at] for at, name in enumerate(names)}


def send(person: Person, files: dict[str, bytes], *, to: str | None = None, **fields: str) -> httpx.Response:
    parts: list[Any] = [*form(files), *((name, (None, value)) for name, value in fields.items())]
    return person.post(f"/v1/datasets/{to}/versions" if to else "/v1/datasets", files=parts)


def made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    dataset: dict[str, Any] = answer.json()
    return dataset


def labels(person: Person, dataset: dict[str, Any]) -> list[str | None]:
    return [image["label"] for image in person.get(f"/v1/datasets/{dataset['id']}/images").json()["items"]]


def counts(dataset: dict[str, Any]) -> dict[str, int] | None:
    return dataset["classes"] and {one["name"]: one["images"] for one in dataset["classes"]}


def test_folders_of_an_archive(owner: Person) -> None:
    dataset = made(send(owner, {"pets.zip": zipped(in_classes(outer="pets/"))}))
    assert counts(dataset) == {"cats": 6, "dogs": 3}
    assert labels(owner, dataset) == ["cats"] * 6 + ["dogs"] * 3
    assert owner.get(f"/v1/datasets/{dataset['id']}").json() == dataset
    assert owner.get("/v1/datasets").json()["items"][0] == dataset
    findings = owner.get(f"/v1/datasets/{dataset['id']}/lint").json()["findings"]
    (small,) = [finding for finding in findings if finding["code"] == "small_class"]
    assert "'dogs' (3)" in small["advice"]
    assert [picture["position"] for picture in small["pictures"]] == [6, 7, 8]
    assert dataset["lint"]["small_class"] == 3


def test_labels_are_no_part_of_the_content(owner: Person, session: Session) -> None:
    zipped_pictures = {"pets.zip": zipped(in_classes())}
    with_labels = made(send(owner, zipped_pictures))
    without = made(send(owner, zipped_pictures, labels="none"))
    assert with_labels["content_hash"] == without["content_hash"]
    assert (counts(without), labels(owner, without)) == (None, [None] * 9)
    one, other = (DatasetFiles.of(session, dataset["id"]) for dataset in (with_labels, without))
    assert one.learned_hash(with_labels=False) == other.learned_hash(with_labels=False) == one.content_hash
    assert one.learned_hash(with_labels=True) != one.content_hash
    assert (one.classes, one.labels) == (("cats", "dogs"), (0,) * 6 + (1,) * 3)
    assert (other.classes, other.labels, other.unlabelled) == ((), None, 9)


def test_held_out_pictures_keep_their_labels(owner: Person, session: Session) -> None:
    dataset = made(send(owner, {"pets.zip": zipped(in_classes(20, 20))}))
    every = DatasetFiles.of(session, dataset["id"])
    training, held_out = split(every, share=0.4)
    assert held_out is not None
    assert training.classes == held_out.classes == ("cats", "dogs")
    of = {image.sha256: label for image, label in zip(every.images, every.labels or (), strict=True)}
    for part in (training, held_out):
        assert part.labels == tuple(of[image.sha256] for image in part.images)


def test_a_table_and_its_bad_rows(owner: Person) -> None:
    table = b"\xef\xbb\xbffile;class\r\na.png;cats\r\nb.png;dogs\r\nx.png;dogs\r\nc.png;../etc\r\n"
    files = dict(zip(["a.png", "b.png", "c.png", "d.png"], MANY, strict=False))
    for sent in (files | {"labels.csv": table}, {"a.zip": zipped({"labels.csv": table, **files})}):
        dataset = made(send(owner, sent))
        assert labels(owner, dataset) == ["cats", "dogs", None, None]
        assert [(r["name"], r["code"]) for r in dataset["rejected"]] == [
            ("labels.csv, line 4", "label_unmatched"), ("labels.csv, line 5", "label_refused"),
        ]  # fmt: skip
        assert dataset["lint"]["unlabelled"] == 2


HOSTILE: dict[str, tuple[dict[str, bytes], str, str]] = {
    "no text": ({"labels.csv": b"a.png,\xff\xfe\xfa"}, "auto", "labels_unusable"),
    "no table": ({"labels.csv": bytes(2000)}, "csv", "labels_unusable"),
    "two tables": ({"labels.csv": b"a,b", "x/labels.csv": b"a,b"}, "auto", "labels_unusable"),
    "no table at all": ({}, "csv", "labels_unusable"),
    "no folders": ({}, "folders", "labels_unusable"),
    "too many classes": ({f"{n}/x.png": b"x" for n in range(1001)}, "folders", "labels_unusable"),
    "traversal": ({"cats/../../evil.png": b"x"}, "auto", "archive_rejected"),
    "too deep": ({"a/b/c/x.png": b"x"}, "folders", "archive_rejected"),
    "mixed splits": ({"train/cats/x.png": b"x", "test/cats/y.png": b"y"}, "folders", "archive_rejected"),
    "another word": ({}, "guess", "invalid"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_labels_are_refused_in_words(case: str, api: Api, owner: Person) -> None:
    files, source, code = HOSTILE[case]
    before = api.stored
    archive = zipped({f"{n}.png": data for n, data in enumerate(MANY[:5])} | files)
    body = problem(send(owner, {"a.zip": archive}, labels=source), 422, code)
    assert body["detail"].endswith(".")
    assert (api.scratch, api.stored) == ([], before)


def test_hostile_names_cost_their_pictures_the_class_alone(owner: Person) -> None:
    names = ["c\x1b[2Jats", "d\u202eogs", "w" * 230, "fine"]
    files = {f"{name}/{n}.png": MANY[n] for n, name in enumerate(names)}
    dataset = made(send(owner, {"a.zip": zipped(files)}))
    assert labels(owner, dataset) == [None, None, None, "fine"]
    assert [r["code"] for r in dataset["rejected"]] == ["label_refused"] * 3
    assert "\x1b" not in str(dataset)


def test_versions_keep_add_and_change_labels(owner: Person, session: Session) -> None:
    first = made(send(owner, {"a.zip": zipped(in_classes(4, 2))}))
    second = made(
        send(owner, {"b.zip": zipped({"mice/1.png": MANY[10]})}, to=first["id"], labels="folders", remove="0")
    )
    assert counts(second) == {"cats": 3, "dogs": 2, "mice": 1}
    assert labels(owner, second) == ["cats"] * 3 + ["dogs"] * 2 + ["mice"]
    # A picture that is there takes the class that it comes with.
    third = made(send(owner, {"c.zip": zipped({"lions/1.png": MANY[1]})}, to=second["id"], labels="folders"))
    assert (third["added_count"], third["removed_count"], third["image_count"]) == (0, 0, 6)
    assert labels(owner, third) == ["lions", "cats", "cats", "dogs", "dogs", "mice"]
    assert third["rejected"][0]["reason"].endswith("Its class is 'lions' now.")
    assert labels(owner, second)[0] == "cats", "a version never changes"
    refused = send(owner, {"c.zip": zipped({"lions/1.png": MANY[1]})}, to=third["id"], labels="folders")
    assert "would be the same" in problem(refused, 422, "dataset_unusable")["detail"]
    fourth = made(send(owner, {"new.png": MANY[20]}, to=third["id"]))
    assert labels(owner, fourth)[-1] is None
    assert fourth["lint"]["unlabelled"] == 1
    assert DatasetFiles.of(session, fourth["id"]).labels is None
    kept = session.scalars(select(DatasetImage.label).where(DatasetImage.dataset_id == first["id"])).all()
    assert sorted(map(str, kept)) == ["cats"] * 4 + ["dogs"] * 2


def test_an_upload_in_parts(owner: Person) -> None:
    archive = zipped(in_classes(outer="pets/"))
    url = whole(owner, archive)
    problem(owner.post(f"{url}/dataset", json={"labels": "csv"}), 422, "labels_unusable")
    problem(owner.post(f"{url}/dataset", json={"labels": "tsv"}), 422, "invalid")
    dataset = made(owner.post(f"{url}/dataset"))
    assert counts(dataset) == {"cats": 6, "dogs": 3}
    more = whole(owner, zipped({"mice/1.png": MANY[30]}))
    wanted = {"labels": "folders", "version_of": dataset["id"]}
    assert counts(made(owner.post(f"{more}/dataset", json=wanted))) == {"cats": 6, "dogs": 3, "mice": 1}


def test_other_labels_are_another_request(owner: Person) -> None:
    archive = {"a.zip": zipped(in_classes())}
    parts: list[Any] = form(archive)
    once = {"Idempotency-Key": "labels"}
    first = owner.post("/v1/datasets", files=parts, headers=once)
    again = owner.post("/v1/datasets", files=parts, headers=once)
    assert (again.json(), again.headers["idempotency-replayed"]) == (made(first), "true")
    other = owner.post("/v1/datasets", files=[*parts, ("labels", (None, "none"))], headers=once)
    problem(other, 422, "idempotency_key_reused")


def test_the_command_line_uploads_folders_of_classes(api: Api, owner: Person, tmp_path: Path) -> None:
    key = owner.headers["Authorization"].removeprefix("Bearer ")
    environment = {"SLAEGAN_URL": str(api.url), "SLAEGAN_API_KEY": key, "COLUMNS": "200", "NO_COLOR": "1"}

    def shell(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments), env=environment)
        if result.exception is not None:
            raise result.exception
        return result.output

    for name, data in in_classes().items():
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "pets" / "readme.txt").write_text("Pets.")
    told = shell("upload", str(tmp_path / "pets"))
    assert "9 pictures, 1 file rejected" in told
    assert "2 classes: cats (6), dogs (3)" in told
    with pytest.raises(LabelsUnusable, match=r"labels\.csv"):
        shell("upload", str(tmp_path / "pets"), "--labels", "csv")
    (tmp_path / "pets" / "labels.csv").write_text("cats/0.png,a\ncats/1.png,b\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "mice").mkdir()
    (tmp_path / "more" / "mice" / "1.png").write_bytes(MANY[30])
    with SlaeGan(str(api.url), key) as client:
        (first,) = client.datasets()
        shell("upload", str(tmp_path / "more"), "--to", str(first.id), "--labels", "folders")
        (second,) = client.datasets()
        assert [(one.name, one.images) for one in second.classes or []] == [
            ("cats", 6), ("dogs", 3), ("mice", 1),
        ]  # fmt: skip
        assert [row.split()[4] for row in shell("datasets").splitlines()[1:]] == ["3"]
        told = shell("upload", str(tmp_path / "pets"), "--name", "by table")
        assert "2 classes: a (1), b (1)" in told
        assert "unlabelled: 7 pictures" in told
