"""Commands against a running service: for people, and with --json for programs."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from click import unstyle
from typer.testing import CliRunner

from client.cli import app
from core.errors import Conflict, DataFailed, InvalidRequest, NotFound, SlaeganError
from core.jobs import endings
from tests.integration.api import story, world
from tests.picture_files import png, pngs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person

    Run = Callable[..., str]


@pytest.fixture
def run(api: Api, owner: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """What a command prints to stdout; its error is raised."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLAEGAN_URL", str(api.url))
    monkeypatch.setenv("SLAEGAN_API_KEY", owner.headers["Authorization"].removeprefix("Bearer "))

    def run_command(line: str, *, status: int = 0) -> str:
        result = CliRunner().invoke(app, line.split())
        if isinstance(result.exception, SlaeganError):
            raise result.exception
        assert result.exit_code == status, result.output
        return unstyle(result.stdout)

    return run_command


@pytest.fixture
def ids(owner: Person, session: Session) -> dict[str, str]:
    return world.one_of_everything(owner, session)


LINES = {"events", "logs"}
COMMANDS = (
    "jobs", "job {job_id}", "events {job_id}", "logs {job_id}", "metrics {job_id}", "losses {job_id}",
    "attempts {job_id}", "samples {job_id}", "curve {job_id}", "checkpoints list {job_id}",
    "checkpoints pin {checkpoint_id}", "checkpoints unpin {checkpoint_id}", "checkpoints download {checkpoint_id}",
    "evaluations list {job_id}", "evaluations show {evaluation_id}", "webhooks list {job_id}",
    "webhooks send {delivery_id}", "webhooks secret", "webhooks rotate", "datasets", "dataset {dataset_id}",
    "images {dataset_id}", "preview {dataset_id}", "lint {dataset_id}", "uploads list", "usage", "audit", "workers",
    "models", "keys list", "keys current", "keys create robot", "download {job_id}",
)  # fmt: skip
ONCE = (
    "uploads delete {upload_id}", "keys rotate {key_id} --grace 60", "keys revoke {key_id}", "pause {job_id}",
    "resume {job_id}", "cancel {job_id}",
)  # fmt: skip


def test_commands_for_people_and_for_programs(run: Run, ids: dict[str, str]) -> None:
    for line in COMMANDS:
        assert run(line.format(**ids)).strip() or line.startswith("logs"), line
    for line in (*COMMANDS, *ONCE):
        told = run(line.format(**ids) + " --json")
        documents = told.splitlines() if line.split()[0] in LINES else [told]
        assert all(json.loads(document) is not None for document in documents), line
    # One and the same twice is no comparison, and the refusal says so.
    with pytest.raises(InvalidRequest):
        run(f"compare {ids['job_id']} {ids['job_id']}")


def test_a_job_as_a_document_is_what_the_api_says(run: Run, ids: dict[str, str], owner: Person) -> None:
    told = json.loads(run(f"job {ids['job_id']} --json"))
    said = owner.get(f"/v1/jobs/{ids['job_id']}").json()
    assert {name for name in said if told[name] != said[name]} <= {"run_s", "eta_s"}
    assert [job["id"] for job in json.loads(run("jobs --status running --text owner --json"))] == [
        ids["job_id"]
    ]
    assert json.loads(run("jobs --status queued --json")) == []
    assert json.loads(run("jobs --since 2999-01-01 --json")) == []


def test_files_arrive(run: Run, ids: dict[str, str], owner: Person, tmp_path: Path) -> None:
    fetched = json.loads(run(f"checkpoints download {ids['checkpoint_id']} --to generator --json"))
    assert (tmp_path / "generator").read_bytes() == b"x"
    assert fetched["sha256"] == hashlib.sha256(b"x").hexdigest()
    run(f"samples {ids['job_id']} --to grids")
    assert [path.read_bytes() for path in (tmp_path / "grids").iterdir()] == [png()]
    run(f"images {ids['dataset_id']} --to pictures")
    listed = owner.get(f"/v1/datasets/{ids['dataset_id']}/images").json()["items"]
    hashes = [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((tmp_path / "pictures").iterdir())
    ]
    assert hashes == [image["sha256"] for image in listed]
    assert run(f"preview {ids['dataset_id']} --to sheet.jpg").strip() == "sheet.jpg"
    assert (tmp_path / "sheet.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert run(f"curve {ids['job_id']}").strip() == "curve.png"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidRequest, match="needs a terminal"):
        run(f"samples {ids['job_id']} --show")


def test_uploads_trainings_and_deletions_as_documents(run: Run, session: Session, tmp_path: Path) -> None:
    for folder in ("cats", "dogs"):
        (tmp_path / folder).mkdir()
        for name, data in pngs(4).items():
            (tmp_path / folder / name).write_bytes(data)
    made = [json.loads(line) for line in run("upload cats dogs --json").splitlines()]
    assert [one["name"] for one in made] == ["cats", "dogs"]
    job: dict[str, Any] = json.loads(
        run(f"train --dataset {made[0]['id']} --resolution 64 --max-queue 60 --priority 100 --json")
    )
    assert (job["dataset_id"], job["max_queue_s"], job["status"]) == (made[0]["id"], 60, "queued")
    with pytest.raises(Conflict):
        run(f"delete {made[0]['id']}")
    assert json.loads(run(f"delete {made[1]['id']} --json")) == {"id": made[1]["id"], "deleted": True}
    with pytest.raises(NotFound):
        run(f"dataset {made[1]['id']}")
    endings.fail(session, story.start(session, job), DataFailed("The pictures cannot be read."))
    session.commit()
    lines = [json.loads(line) for line in run(f"watch {job['id']} --json", status=3).splitlines()]
    assert [line["type"] for line in lines[:-1]] == ["queued", "running", "failed"]
    assert (lines[-1]["id"], lines[-1]["error"]["code"]) == (job["id"], "data_failed")
    assert "cannot be read" in run(f"watch {job['id']}", status=3)
    assert json.loads(run(f"retry {job['id']} --fresh --json"))["run"] == 2
    run(f"cancel {job['id']}")
    run(f"watch {job['id']}", status=3)
