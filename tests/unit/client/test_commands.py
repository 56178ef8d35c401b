"""Every command, as a newcomer and as a program meets it: help, example, --json; and that none is missing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command

from client.cli import app, main
from client.http import Operations
from client.operation import Call, Iteration

if TYPE_CHECKING:
    from collections.abc import Iterator

# Why a command prints nothing that a program would read.
WITHOUT_JSON = {
    "up": "runs until Ctrl-C; what it prints is for whoever watches",
    "demo": "shows progress; for programs it leaves summary.json",
}
# By what a person does what the API can do.
COMMANDS = {
    "healthz": "doctor", "readyz": "doctor", "list_audit_entries": "audit",
    "get_checkpoint": "checkpoints download", "patch_checkpoint": "checkpoints pin",
    "get_checkpoint_file": "checkpoints download", "get_comparison": "compare",
    "list_datasets": "datasets", "create_dataset": "upload", "delete_dataset": "delete", "get_dataset": "dataset",
    "list_images": "images", "get_image_file": "images", "get_lint": "lint", "get_preview": "preview",
    "create_version": "upload", "redeliver": "webhooks send", "cancel_evaluation": "evaluations cancel",
    "get_evaluation": "evaluations show", "get_picture": "backtrack", "list_jobs": "jobs", "create_job": "train",
    "get_job": "job", "list_attempts": "attempts", "list_backtrackings": "evaluations list",
    "create_backtracking": "backtrack", "cancel_job": "cancel", "list_checkpoints": "checkpoints list",
    "get_curve": "curve", "list_deliveries": "webhooks list", "list_events": "events", "stream_events": "events",
    "extend_job": "extend", "list_logs": "logs", "stream_logs": "logs", "list_losses": "losses",
    "list_metrics": "metrics", "pause_job": "pause", "resume_job": "resume", "retry_job": "retry",
    "list_samples": "samples", "get_sample_file": "samples", "list_keys": "keys list", "create_key": "keys create",
    "get_current_key": "keys current", "revoke_key": "keys revoke", "rotate_key": "keys rotate",
    "list_models": "models", "list_uploads": "uploads list", "create_upload": "upload",
    "terminate": "uploads delete", "get_upload": "upload", "append": "upload", "make_dataset": "upload",
    "get_usage": "usage", "get_webhook_secret": "webhooks secret", "rotate_webhook_secret": "webhooks rotate",
    "list_workers": "workers", "estimate_job": "estimate",
    "create_generation": "generate", "get_generation_file": "generate", "get_generation_part": "generate",
    "list_generations": "generations list", "get_generation": "generations show",
    "delete_generation": "generations delete", "create_export": "export", "get_export_file": "export",
    "list_exports": "exports list", "get_export": "exports show", "delete_export": "exports delete",
}  # fmt: skip
# What has no command, and why.
FOR_PAGES = {
    "get_thumbnail": "a small picture for pages; `slaegan images --to` fetches the pictures themselves"
}
ROOT = Path(__file__).parents[3]


def commands(group: TyperGroup, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def everything() -> TyperGroup:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group


ALL = dict(commands(everything()))


def operations() -> set[str]:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    return {operation["operationId"] for path in document["paths"].values() for operation in path.values()}


def test_everything_the_api_can_do_has_a_command() -> None:
    assert set(COMMANDS) | set(FOR_PAGES) == operations()
    assert set(COMMANDS.values()) <= set(ALL)


def test_everything_the_api_can_do_has_a_method() -> None:
    source = "".join((ROOT / "client" / f"{name}.py").read_text() for name in (
        "account", "artifacts", "datasets", "generations", "jobs", "resumable",
    ))  # fmt: skip
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    told = set(re.findall(r"\"(/(?:v1|readyz)[^\"]*)\"", source))
    patterns = [re.compile(re.sub(r"\\{.*?\\}", "[^/]+", re.escape(path))) for path in told]
    missing = [
        path for path in document["paths"]
        if not any(pattern.fullmatch(re.sub(r"{\w+}", "x", path)) for pattern in patterns)
    ]  # fmt: skip
    assert set(missing) == {
        "/healthz",  # readyz says more
        "/v1/uploads/{upload_id}/dataset",  # at the Location that the service gave
        "/v1/jobs/{job_id}/events/stream", "/v1/jobs/{job_id}/logs/stream",  # made of a part
        # By the addresses that the service gave.
        "/v1/evaluations/{evaluation_id}/picture.png", "/v1/generations/{generation_id}/file",
        "/v1/generations/{generation_id}/files/{name}", "/v1/exports/{export_id}/file",
    }  # fmt: skip
    assert {name for name in dir(Operations) if isinstance(getattr(Operations, name), Call | Iteration)}


@pytest.mark.parametrize("path", ALL)
def test_a_command_prints_json_or_says_why_not(path: str) -> None:
    options = {option for parameter in ALL[path].params for option in parameter.opts}
    assert ("--json" in options) != (path in WITHOUT_JSON)


@pytest.mark.parametrize("path", ALL)
def test_a_command_has_a_sentence_and_an_example_that_it_takes(path: str) -> None:
    command = ALL[path]
    assert (command.help or "").strip().split("\n\n")[0].rstrip().endswith("."), path
    assert command.epilog is not None
    example = command.epilog.removeprefix("Example: ")
    assert example != command.epilog
    words = shlex.split(example)
    assert words[: 1 + len(path.split())] == ["slaegan", *path.split()]
    # Parsed with every option, type and bound, and not carried out.
    with command.make_context(path, words[1 + len(path.split()) :]) as context:
        assert context.params


@pytest.mark.parametrize("path", ALL)
def test_every_option_says_what_it_is_for(path: str) -> None:
    for parameter in ALL[path].params:
        assert getattr(parameter, "help", None), (path, parameter.name)


def test_the_page_of_the_command_line_names_every_command() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert [path for path in ALL if f"slaegan {path}" not in page] == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0), (["jobs", "--nonsense"], 2), (["watch"], 2), (["jobs", "--status", "asleep"], 2),
        (["nonsense"], 2), (["jobs", "--url", "gopher://x"], 1), (["models", "nonsense"], 1),
    ],
)  # fmt: skip
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int) -> None:
    monkeypatch.setattr("sys.argv", ["slaegan", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status


def test_with_json_a_refusal_is_a_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["slaegan", "models", "nonsense", "--json"])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr()
    told: dict[str, Any] = json.loads(printed.err)
    assert (printed.out, told["code"]) == ("", "invalid")
    assert "nonsense" in told["message"]


def test_completion_is_there() -> None:
    options = {option for parameter in everything().params for option in parameter.opts}
    assert {"--install-completion", "--show-completion"} <= options
    assert isinstance(app, typer.Typer)
