"""`slaegan generate` and `slaegan export` against a running service; what they ask for is done already."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from core.errors import InvalidRequest
from tests.integration.api import story
from tests.picture_files import png, zipped

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result
    from sqlalchemy.orm import Session

    from tests.integration.api.conftest import Api, Person


@pytest.fixture
def job_id(owner: Person, session: Session) -> str:
    """Of a job with a generator."""
    attempt = story.start(session, story.submit(owner))
    story.checkpoint(session, attempt, b"weights", images_seen=8)
    return str(attempt.job_id)


@pytest.fixture
def run(api: Api, owner: Person) -> Any:
    environment = {
        "SLAEGAN_URL": str(api.url),
        "SLAEGAN_API_KEY": owner.headers["Authorization"].removeprefix("Bearer "),
    }

    def run(*words: object) -> Result:
        return CliRunner(env=environment).invoke(app, [str(word) for word in words])

    return run


def asked(owner: Person, job_id: str, route: str, body: dict[str, Any]) -> str:
    response = owner.post(f"/v1/jobs/{job_id}/{route}", json=body)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def test_pictures_come_into_a_folder(
    owner: Person, session: Session, job_id: str, run: Any, tmp_path: Path
) -> None:
    made = asked(owner, job_id, "generations", {"kind": "pictures", "seed": 1, "count": 2})
    archive = zipped({"1.png": png("red"), "2.png": png("blue")})
    story.post_rendering(session, made, data=archive, name="pictures.zip", media_type="application/zip")
    words = ("generate", job_id, "--seed", 1, "--count", 2, "--out", tmp_path / "out")
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(tmp_path / "out" / name) for name in ("1.png", "2.png")]
    assert (tmp_path / "out" / "2.png").read_bytes() == png("blue")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.png", "2.png"]
    told = json.loads(run(*words, "--json").stdout)
    assert (told["id"], told["status"], len(told["paths"])) == (made, "done", 2)


def test_an_export_comes_into_a_file(
    owner: Person, session: Session, job_id: str, run: Any, tmp_path: Path
) -> None:
    made = asked(owner, job_id, "exports", {"format": "onnx"})
    story.post_rendering(session, made, data=b"an onnx file", name="generator.onnx")
    done = run("export", job_id, "--format", "onnx", "--out", tmp_path / "g.onnx")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "g.onnx")
    assert (tmp_path / "g.onnx").read_bytes() == b"an onnx file"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--kind", "interpolation", "--frames", "5"), "seeds: is missing"),
        (("--frames", "5"), "frames: is not known here"),
        (("--count", "0"), "count: Input should be greater than or equal to 1"),
        (("--kind", "interpolation", "--class", "a", "--class", "b"), "2 were given"),
        (("--kind", "projection", "--picture", "/nowhere.png"), "There is no file /nowhere.png"),
    ],
)
def test_what_cannot_be_is_told_before_it_is_sent(
    run: Any, words: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    done = run("generate", "last", "--out", tmp_path, *words)
    assert isinstance(done.exception, InvalidRequest)
    assert told in done.exception.message


@pytest.mark.parametrize("command", ["generate", "export"])
def test_the_help_has_an_example(run: Any, command: str) -> None:
    assert f"Example: slaegan {command} last" in run(command, "--help").stdout
