from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.arguments import configuration
from client.cli import app
from core.errors import InvalidRequest, SlaeganError
from core.schemas.slaegan import SlaeganConfig

# As in an install of the client alone.
WITHOUT_THE_SERVICE = """
import sys

class Absent:
    names = {"torch", "pydantic_settings", "sqlalchemy", "alembic", "celery", "redis", "psycopg", "psutil", "filelock"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from client.cli import main
main()
"""


def test_settings_reach_into_parts_and_are_json_or_text() -> None:
    config = configuration(
        ["evaluation.generated=500", "ema=constant", "augmentation=[]", "flips=false"],
        resolution=128,
        total_images=None,
    )
    assert config == SlaeganConfig.model_validate(
        {
            "resolution": 128, "ema": "constant", "augmentation": (), "flips": False,
            "evaluation": {"generated": 500},
        }
    )  # fmt: skip


def test_settings_change_what_is_given_and_leave_the_rest() -> None:
    config = configuration(["evaluation.generated=500"], evaluation={"generated": 16, "lpips_pairs": 8})
    assert (config.evaluation.generated, config.evaluation.lpips_pairs) == (500, 8)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("width", "KEY=VALUE"),
        ("widht=1", "widht: is not known here"),
        ("resolution=100", "resolution: Input should be 64"),
        ("evaluation.generated=many", "evaluation.generated"),
        ("seed.more=1", "seed"),
        (
            "evaluation=1 evaluation.generated=500",
            "evaluation.generated=500' reaches into evaluation, which is 1",
        ),
    ],
)
def test_wrong_settings_are_named(setting: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        configuration(setting.split())
    assert "factory" not in refused.value.message


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--help"], 0, "download"),
        (["up"], 1, "pip install 'slaegan[local]'"),
        (["demo"], 1, "pip install 'slaegan[local]'"),
        (["doctor"], 1, "this is a client"),
        (["weights", "list"], 1, "pip install 'slaegan[local]'"),
        (["weights", "fetch", "vgg16"], 1, "pip install 'slaegan[local]'"),
        (["tenants", "list"], 1, "pip install 'slaegan[local]'"),
        (["jobs"], 1, "slaegan up"),
    ],
)
def test_a_client_only_install(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_THE_SERVICE, *arguments], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "HOME": str(tmp_path), "COLUMNS": "200"}, check=False,
    )  # fmt: skip
    assert result.returncode == status, result.stderr
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["upload", ""], "It is empty"),
        (["train", ""], "It is empty"),
        (["upload", "/nope"], "There is no file or folder /nope."),
        (["train", "/nope"], "There is no file or folder /nope."),
        (["train"], "Give either pictures"),
        (["train", "pics", "--dataset", "last"], "Give either pictures"),
        (
            ["train", ".", "--set", "family=codes", "--set", "autoencoder=reuse"],
            "from a checkpoint: name one",
        ),
        (["train", ".", "--set", "freeze_discriminator=2"], "without init_from they are random"),
        (["train", ".", "--name", "a\tb"], "name: must be one line"),
        (["train", ".", "--priority", "200"], "priority: Input should be less than or equal to 100"),
        (["train", ".", "--webhook", "x" * 3000], "webhook.url: String should have at most 2000"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(
        app, arguments, env={"SLAEGAN_URL": "http://127.0.0.1:1", "SLAEGAN_API_KEY": "x"}
    )
    assert result.exit_code != 0
    assert isinstance(result.exception, SlaeganError | SystemExit)
    assert message in f"{result.output}{result.exception}"
    assert "Uploading" not in result.output
