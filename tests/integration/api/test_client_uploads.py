"""The client's own resumable uploads, over a connection that breaks."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import UUID
from zipfile import ZIP_STORED, ZipFile

import pytest
from rich.progress import Progress
from typer.testing import CliRunner

from client import SlaeGan, resumable
from client.cli import app
from client.resumable import fingerprint
from core.errors import Conflict, DatasetUnusable, InfrastructureError, LabelsUnusable
from tests.picture_files import pngs, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.api.conftest import Api, Person

KIB = 1024
CHUNK = 64 * KIB


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(resumable, "_PAUSES_S", (0.01, 0.05, 0.1, 0.5))
    monkeypatch.setattr(resumable, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr("client.datasets.SMALLEST_BYTES", CHUNK)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Ten chunks and more."""
    path = tmp_path / "cats.zip"
    with ZipFile(path, "w", ZIP_STORED) as written:
        for name, data in pngs(4).items():
            written.writestr(name, data)
        written.writestr("noise.bin", os.urandom(10 * CHUNK))
    return path


class Line:
    """A way to the service that can break: each connection takes `budget` bytes from the client, then ends."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.budget: int | None = None
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._join, args=(client, self.budget)))
            self._threads[-1].start()

    def close(self) -> None:
        """Once nobody has a connection any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _join(self, client: socket.socket, budget: int | None) -> None:
        assert self._api.url.port is not None
        with client, socket.create_connection((self._api.url.host, self._api.url.port)) as service:
            back = threading.Thread(target=self._copy, args=(service, client, None))
            back.start()
            self._copy(client, service, budget)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket, budget: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while (budget is None or passed < budget) and (data := source.recv(16 * KIB)):
                target.sendall(data)
                passed += len(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def line_to(api: Api) -> Iterator[Line]:
    line = Line(api)
    thread = threading.Thread(target=line.serve)
    thread.start()
    try:
        yield line
    finally:
        line.close()
        thread.join()


def key_of(person: Person) -> str:
    return person.headers["Authorization"].removeprefix("Bearer ")


def states(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "state" / "slaegan" / "uploads").glob("*"))


def test_an_upload_goes_on_after_each_break(api: Api, owner: Person, archive: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with line_to(api) as line, SlaeGan(line.url, key_of(owner)) as client:
        # Two chunks fit, and a part of a third, of which nothing counts.
        line.budget = 5 * CHUNK // 2
        dataset = client.create_dataset(archive, name="mine", progress=lambda *at: told.append(at))
    assert (dataset.name, dataset.image_count) == ("mine", 4)
    size = archive.stat().st_size
    assert told[0] == (0, size)
    assert told[-1] == (size, size)
    assert told == sorted(told), "nothing that counted was sent again"
    assert states(tmp_path) == []
    assert owner.get("/v1/uploads").json()["items"] == []


def test_a_later_command_goes_on_where_an_earlier_one_ended(
    api: Api, owner: Person, archive: Path, tmp_path: Path
) -> None:
    with line_to(api) as line:
        line.budget = 5 * CHUNK // 2

        def cut(sent_bytes: int, _size_bytes: int) -> None:
            if sent_bytes >= 4 * CHUNK:
                line.budget = 0

        with SlaeGan(line.url, key_of(owner)) as client, pytest.raises(InfrastructureError, match="reached"):
            client.create_dataset(archive, name="mine", progress=cut)
        [begun] = owner.get("/v1/uploads").json()["items"]
        assert begun["received_bytes"] >= 4 * CHUNK
        assert len(states(tmp_path)) == 1
        line.budget = None
        options = ["--url", line.url, "--key", key_of(owner), "--name", "later"]
        done = CliRunner().invoke(app, ["upload", str(archive), *options])
        assert (done.exit_code, "4 pictures, 1 file rejected" in done.output) == (0, True), done.output
    assert owner.get(f"/v1/uploads/{begun['id']}").json()["status"] == "finalised"
    assert [item["name"] for item in owner.get("/v1/datasets").json()["items"]] == ["later"]
    assert states(tmp_path) == []


def test_a_large_version_goes_on_too_and_says_where_a_newer_one_is(
    api: Api, owner: Person, archive: Path, tmp_path: Path
) -> None:
    first = owner.post("/v1/datasets", files={"files": ("a.zip", zipped(pngs(6)))}, data={"name": "a"}).json()
    told: list[tuple[int, int]] = []
    new = tmp_path / "new.zip"
    with ZipFile(archive) as whole, ZipFile(new, "w", ZIP_STORED) as written:
        written.writestr("new.png", pngs(7)["0006.png"])
        written.writestr("noise.bin", whole.read("noise.bin"))
    with line_to(api) as line, SlaeGan(line.url, key_of(owner)) as client:
        line.budget = 5 * CHUNK // 2
        second = client.create_version(
            UUID(first["id"]), source=new, remove=["0005.png"], progress=lambda *at: told.append(at)
        )
        assert (second.version, second.name, second.added_count, second.removed_count) == (2, "a", 1, 1)
        assert told == sorted(told)
        assert told[-1] == (new.stat().st_size, new.stat().st_size)
        line.budget = None
        # Sent anew, but for a version that is not the newest.
        with pytest.raises(Conflict) as refused:
            client.create_version(UUID(first["id"]), source=archive)
        assert refused.value.details["newest"] == str(second.id)
        [kept] = owner.get("/v1/uploads").json()["items"]
        with pytest.raises(DatasetUnusable, match="the same as version 2"):
            client.create_version(second.id, source=archive)
    assert owner.get(f"/v1/uploads/{kept['id']}").status_code == 404, "it went on with what was there"
    assert states(tmp_path) == []


def test_an_interrupted_command_says_how_to_go_on(
    api: Api, owner: Person, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Progress, *_: object, completed: int, **_more: object) -> None:
        self.tasks[0].visible = True
        if completed:
            raise KeyboardInterrupt

    options = ["--url", str(api.url), "--key", key_of(owner)]
    with monkeypatch.context() as context:
        context.setattr(Progress, "update", interrupt)
        stopped = CliRunner().invoke(app, ["upload", str(archive), *options])
    assert (stopped.exit_code, "The same command goes on from there." in stopped.output) == (130, True)
    assert CliRunner().invoke(app, ["upload", str(archive), *options]).exit_code == 0


def test_what_the_service_has_forgotten_begins_anew(
    api: Api, owner: Person, archive: Path, tmp_path: Path
) -> None:
    mark = fingerprint(archive, server=str(api.url).rstrip("/"))
    kept = tmp_path / "state" / "slaegan" / "uploads" / mark
    kept.parent.mkdir(parents=True)
    kept.write_text("/v1/uploads/00000000-0000-0000-0000-000000000000")
    with SlaeGan(str(api.url), key_of(owner)) as client:
        assert client.create_dataset(archive, name="mine").image_count == 4
    assert states(tmp_path) == []


def test_what_makes_no_dataset_is_forgotten(api: Api, owner: Person, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "noise.bin").write_bytes(os.urandom(2 * CHUNK))
    with SlaeGan(str(api.url), key_of(owner)) as client, pytest.raises(DatasetUnusable):
        client.create_dataset(folder, name="mine")
    assert owner.get("/v1/uploads").json()["items"] == []
    assert states(tmp_path) == []


def test_unusable_labels_end_the_upload_of_a_folder_and_not_that_of_a_file(
    api: Api, owner: Person, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, data in pngs(4).items():
        (folder / name).write_bytes(data)
    (folder / "noise.bin").write_bytes(os.urandom(2 * CHUNK))
    (folder / "labels.csv").write_text("no table of labels")
    packed = tmp_path / "cats.zip"
    with ZipFile(packed, "w", ZIP_STORED) as written:
        for path in folder.iterdir():
            written.write(path, path.name)
    with SlaeGan(str(api.url), key_of(owner)) as client:
        with pytest.raises(LabelsUnusable):
            client.create_dataset(folder, name="mine")
        assert owner.get("/v1/uploads").json()["items"] == []
        assert states(tmp_path) == []
        with pytest.raises(LabelsUnusable):
            client.create_dataset(packed, name="mine")
        [kept] = owner.get("/v1/uploads").json()["items"]
        assert client.create_dataset(packed, name="mine", labels="none").image_count == 4
    assert owner.get(f"/v1/uploads/{kept['id']}").json()["status"] == "finalised", "nothing was sent again"
    assert states(tmp_path) == []


def test_a_changed_file_is_another_one(archive: Path) -> None:
    marks = {fingerprint(archive, server="http://a/"), fingerprint(archive, server="http://b/")}
    os.utime(archive, (1, 1))
    marks |= {fingerprint(archive, server="http://a/"), fingerprint(archive.parent, server="http://a/")}
    assert len(marks) == 4
