"""The command line against the whole stack, started in a folder that has an api/ and a worker/ of its own."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil
import pytest
from PIL import Image

from benchmarks.stack import free_port
from client import SlaeGan
from client.connection import load
from tests.e2e.conftest import Up, clean_environment, launch
from tests.receiver import receiving

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds on a free machine; other work on the same cores may take them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SLAEGAN = str(Path(sys.executable).with_name("slaegan"))
SHORT = ["--set", "batch=2", "--set", "evaluation.generated=16", "--set", "evaluation.lpips_pairs=8"]
SHORT += ["--set", "evaluate_every_images=8"]
TINY = ["--resolution", "64", "--set", "width=0.125", *SHORT]


def _interruptible() -> None:
    """Take SIGINT, also where these tests run in the background of a shell, which ignores it there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Shell:
    """Runs `slaegan` as a user would: in one folder, without flags that the pointer makes unnecessary."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def __call__(self, *arguments: str, status: int = 0, timeout_s: float = 600) -> str:
        result = subprocess.run(
            [SLAEGAN, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert result.returncode == status, result.stdout + result.stderr
        return result.stdout + result.stderr


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder whose packages have our names, and tell when they are run."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("api", "worker", "core", "client", "migrations"):
        package = folder / name
        package.mkdir()
        for module in ("__init__", "main", "app", "cli", "settings", "env"):
            (package / f"{module}.py").write_text(
                f"open({str(folder / 'was-run')!r}, 'w').write(__file__)\nraise SystemExit('the wrong {name}')\n"
            )
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(6):
        # Different colours and gradients, so that no two pictures are alike.
        ramp = Image.linear_gradient("L").resize((96, 96)).rotate(index * 60)
        Image.merge("RGB", (ramp, ramp.rotate(90), Image.new("L", (96, 96), index * 40))).save(
            folder / f"{index}.png"
        )
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, hostile: Path) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("stack")
    port = free_port()
    up = launch(
        [SLAEGAN, "up", "--data", str(folder / "data"), "--port", str(port)],
        data=folder / "data", port=port, output=folder / "up.txt", cwd=hostile, environment=clean_environment(folder),
    )  # fmt: skip
    try:
        yield up.wait_ready(timeout_s=200)
    finally:
        up.end()


@pytest.fixture(scope="module")
def shell(stack: Up, hostile: Path) -> Shell:
    return Shell(hostile, clean_environment(stack.data.parent))


def test_train_watch_download(shell: Shell, stack: Up, pictures: Path, hostile: Path) -> None:
    with receiving() as receiver:
        options = ("--name", "ramps [/old]", *TINY, "--webhook", receiver.url(), "--watch")
        text = shell("train", str(pictures), "--images", "8", *options)
        stack.wait_until(lambda: bool(receiver.received), timeout_s=60, what="the webhook")
    assert "6 pictures, 1 file rejected" in text
    assert "notes.txt" in text
    assert "Succeeded" in text
    assert "selected on the training set" in text
    assert text.count("(vgg16)") + text.count("(inception_v3)") >= 2
    job_id = re.search(r"Job ([0-9a-f-]{36})", text)[1]  # type: ignore[index]

    assert "ramps" in shell("datasets")
    assert re.search(rf"{job_id} +ramps \[/old\] +succeeded +8/8 +FID", shell("jobs"))
    assert "Succeeded" in shell("watch", job_id[:8])
    log = shell("logs", "last").splitlines()
    assert "6 of 6 pictures are prepared" in log
    assert shell("logs", "last", "--follow", "--tail", "2").splitlines() == log[-2:]

    lines = shell("download", "last", "--to", "results").splitlines()
    assert any("selected on the training set" in line for line in lines)
    paths = {
        Path(line).stem.partition("-")[0]: hostile / line for line in lines if line.startswith("results/")
    }
    checkpoint, grid, metrics, curve = (paths[name] for name in ("generator", "grid", "metrics", "curve"))
    points = json.loads(metrics.read_text())
    assert [point["images_seen"] for point in points] == [0, 8]
    connection = load(stack.data)
    assert connection is not None
    with SlaeGan(connection.url, connection.key) as client:
        job = next(client.jobs())
        assert job.best is not None
        (listed,) = [item for item in client.checkpoints(job.id) if item.id == job.best.checkpoint_id]
        followed = list(client.follow_events(job.id, after=1))
        assert [event.seq for event in followed] == list(range(2, followed[-1].seq + 1))
        assert followed[-1].type == "succeeded"
        told = receiver.received[-1].verified(client.webhook_secret().secret)
        assert (told["type"], told["data"]["seq"]) == ("job.succeeded", followed[-1].seq)
        assert [event.seq for event in client.events(job.id)] == list(range(1, followed[-1].seq + 1))
    assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() == listed.sha256
    for picture in (grid, curve):
        with Image.open(picture) as opened:
            opened.verify()
    assert not (hostile / "was-run").exists()

    # Fine-tuning takes the shape of the networks from the job that it begins from.
    text = shell("train", str(pictures), "--images", "4", *SHORT, "--init-from", job_id[:8], "--watch")
    assert "Succeeded" in text
    with SlaeGan(connection.url, connection.key) as client:
        tuned = next(client.jobs())
        assert (tuned.config["resolution"], tuned.config["width"]) == (64, 0.125)
        (source,) = (item for item in client.checkpoints(job.id) if item.id == tuned.init_from)
        assert (source.kind, source.images_seen) == ("state", 8)
    assert "No job's id begins with" in shell("train", str(pictures), "--init-from", "ffff", status=1)


def test_doctor_finds_all_well(shell: Shell) -> None:
    text = shell("doctor")
    for subject in ("device", "weights", "database", "broker", "store", "disk", "service", "train workers"):
        assert subject in text
    assert "BROKEN" not in text


def test_doctor_without_a_stack(tmp_path: Path) -> None:
    shell = Shell(tmp_path, clean_environment(tmp_path))
    assert "not running" in shell("doctor")
    shell.environment["DATABASE_URL"] = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
    shell.environment["SLAEGAN_API_KEY"] = "slg_wrong"
    text = shell("doctor", "--url", "http://127.0.0.1:1", status=1)
    assert re.search(r"BROKEN database: .*refused", text, flags=re.DOTALL)
    assert "BROKEN service: The service at http://127.0.0.1:1 cannot be reached" in text


def test_ctrl_c_leaves_the_job_running_where_nobody_can_be_asked(shell: Shell, pictures: Path) -> None:
    text = shell("train", str(pictures), "--images", "100000", *TINY)
    job_id = re.search(r"Job ([0-9a-f-]{36})", text)[1]  # type: ignore[index]
    watching = subprocess.Popen(
        [SLAEGAN, "watch", "last"], cwd=shell.folder, env=shell.environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, text=True, preexec_fn=_interruptible,  # noqa: PLW1509  # no threads here
    )  # fmt: skip
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    rest, _ = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert f"slaegan watch {job_id}" in rest
    assert re.search(rf"{job_id} .* (queued|running) ", shell("jobs"))


def test_ctrl_c_asks_on_a_terminal_and_cancels(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        watching = subprocess.Popen(
            [SLAEGAN, "watch", "last"], cwd=shell.folder, env=shell.environment | {"TERM": "xterm"},
            stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=_interruptible,  # noqa: PLW1509  # no threads here
        )  # fmt: skip
        os.close(theirs)
        read_until(terminal, b"queued: created")
        watching.send_signal(signal.SIGINT)
        read_until(terminal, b"Cancel the job")
        terminal.write(b"cancel\n")
        read_until(terminal, b"Cancelling")
        read_until(terminal, b" cancelled.")
        assert watching.wait(60) == 3
    assert re.search(" cancelled ", shell("jobs", "--limit", "1"))


def read_until(terminal: IO[bytes], text: bytes, *, timeout_s: float = 60) -> None:
    seen = b""
    deadline = time.monotonic() + timeout_s
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, seen
        seen += terminal.read(4096)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", ".", "--set", "widht=1"], "widht: is not known here"),
        (["watch", "ffff-not-an-id"], "No job's id begins with"),
        (["jobs", "--key", "slg_wrong"], "key"),
        (["jobs", "--url", "http://127.0.0.1:1", "--key", "x"], "cannot be reached"),
    ],
)
def test_mistakes_are_told_in_a_sentence(shell: Shell, arguments: list[str], message: str) -> None:
    text = shell(*arguments, status=1)
    assert message in text
    assert "Traceback" not in text


def test_an_operator_collects_garbage(shell: Shell, stack: Up) -> None:
    orphan = stack.data / "store" / "jobs" / "lost" / "file"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"12345")
    assert "Nothing to remove." in shell("gc", "--dry-run"), "it is young"
    os.utime(orphan, (0, 0))
    assert "files without a row: 1, 5 bytes" in shell("gc", "--dry-run")
    assert orphan.exists()
    assert "files without a row: 1, 5 bytes" in shell("gc", "--data", str(stack.data))
    assert not orphan.exists()
    assert "Nothing to remove." in shell("gc")


def test_no_secret_in_arguments_or_logs(stack: Up) -> None:
    connection = load(stack.data)
    assert connection is not None
    secret = connection.key
    processes = [
        psutil.Process(stack.process.pid),
        *psutil.Process(stack.process.pid).children(recursive=True),
    ]
    assert not [process for process in processes if any(secret in word for word in process.cmdline())]
    logs = [*(stack.data / "logs").iterdir(), stack.output, stack.data / "run" / "supervisord.conf"]
    assert not [log for log in logs if secret in log.read_text(errors="replace")]


# The last test of the module: it ends the stack.
def test_a_killed_worker_and_api_come_back_and_all_ends(stack: Up) -> None:
    supervised = {
        process.cmdline()[-1]: process
        for process in stack.supervisord().children()
        if process.name().startswith("python")
    }
    assert {"api.main", "train", "metrics", "generate", "control", "chores", "beat"} <= set(supervised)
    for name in ("api.main", "train"):
        supervised[name].kill()
    stack.wait_for_text("api ended unexpectedly and was started again")
    stack.wait_for_text("worker-train-0 ended unexpectedly and was started again")
    family = psutil.Process(stack.process.pid).children(recursive=True)
    assert stack.stop(signal.SIGTERM) == 0
    assert [process for process in family if process.is_running()] == []
    assert stack.left() == []
    stopped = re.findall(r"stopped: ([a-z0-9-]+)", (stack.data / "logs" / "supervisord.log").read_text())
    workers = {"train-0", "metrics", "generate", "control", "chores"}
    assert set(stopped[:5]) == {f"worker-{kind}" for kind in workers}
    assert stopped[-2:] == ["valkey", "postgres"]


def test_demo(tmp_path: Path, pictures: Path) -> None:
    # Whatever servers the environment names are not the demo's.
    elsewhere = {
        "DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nothing",
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "STORAGE_URL": (tmp_path / "elsewhere").as_uri(),
    }
    shell = Shell(tmp_path, clean_environment(tmp_path) | elsewhere)
    text = shell("demo", "--output", "out", "--pictures", str(pictures), "--images", "8", *TINY[2:])
    assert "summary.json" in text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "succeeded"
    assert summary["images_seen"] == 8
    assert [sorted(point) for point in summary["curve"]] == [
        ["fid", "images_seen", "kid", "lpips", "protocol"]
    ] * 2
    assert (summary["selected_on"], summary["last"]["images_seen"]) == ("training set", 8)
    assert summary["best"]["fid"] in [point["fid"] for point in summary["curve"]]
    assert summary["best_reason"].startswith("KID ")
    assert isinstance(summary["alarms"], list)
    for name in ("grid", "curve_picture", "checkpoint"):
        assert (tmp_path / summary[name]).stat().st_size > 0
    # The stack is gone, with its processes and files, and the user's own stack is still the one that is meant.
    assert not (tmp_path / "out" / "stack").exists()
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "elsewhere").exists()
