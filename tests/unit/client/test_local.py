"""Parts of the embedded stack that need no server."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from configparser import RawConfigParser
from typing import TYPE_CHECKING

import psutil
import pytest

from client.local import guard
from client.local.children import guarded
from client.local.folder import DataFolder, holders
from client.local.place import Place
from client.local.programs import Program, service_programs
from client.local.supervisord import configuration
from client.local.urls import operator_environment
from core.errors import StackFailed

if TYPE_CHECKING:
    from pathlib import Path

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"


def test_a_trainer_for_each_device() -> None:
    names = [program.name for program in service_programs(cuda_devices=2)]
    trainers, others = ["worker-train-0", "worker-train-1"], ["metrics", "generate", "control", "chores"]
    assert names == [*trainers, *(f"worker-{kind}" for kind in others), "api", "beat"]
    devices = [program.environment.get("SLAEGAN_DEVICE") for program in service_programs(cuda_devices=2)]
    assert devices[:4] == ["cuda:0", "cuda:1", "cuda:1", "cuda:1"]
    assert service_programs(cuda_devices=0)[0].environment["SLAEGAN_DEVICE"] == "cpu"


def test_the_last_group_to_start_is_the_first_to_stop() -> None:
    parser = RawConfigParser()
    programs = [Program("postgres", ("p",), group="database"), *service_programs(cuda_devices=0)]
    parser.read_string(configuration(programs))
    order = sorted(
        ("database", "web", "workers"), key=lambda group: parser.getint(f"group:{group}", "priority")
    )
    assert order == ["database", "web", "workers"]
    workers = "worker-train-0,worker-metrics,worker-generate,worker-control,worker-chores"
    assert parser.get("group:workers", "programs") == workers
    assert "group:broker" not in parser


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80")],  # noqa: S104
)
def test_the_url_for_a_client_on_this_machine(host: str, url: str) -> None:
    assert Place(host, 80).url == url


def test_a_leftover_that_does_not_end_is_killed(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    assert not folder.wait_for_leftovers(timeout_s=0)
    command = guarded([sys.executable, "-c", STUBBORN], lock=folder.parts_lock)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [holder.pid for holder in holders(folder.parts_lock)] == [process.pid]
        process.terminate()
        assert folder.wait_for_leftovers(timeout_s=0.5)
        assert process.wait(5) == -signal.SIGKILL


def test_a_guarded_command_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = guarded(["sleep", "60"], lock=tmp_path / "lock")
    with subprocess.Popen(
        [sys.executable, "-c", script, *command], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        deadline = time.monotonic() + 10
        while child.name() != "sleep":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        parent.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def test_a_guarded_command_does_not_start_after_its_parent(tmp_path: Path) -> None:
    command = guarded(["touch", str(tmp_path / "started")], lock=tmp_path / "lock")
    result = subprocess.run(command, env={guard.PARENT: "1"}, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "is gone" in result.stderr
    assert not (tmp_path / "started").exists()


def test_the_folder_is_held_once(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    assert not folder.is_held()
    folder.create()
    with folder.locked():
        assert folder.is_held()
        with pytest.raises(StackFailed, match="already runs"), DataFolder(folder.path).locked():
            pass
    assert not folder.is_held()


@pytest.mark.parametrize("name", ["x" * 90, "with space", "a,b", "quote'd"])
def test_sockets_of_an_odd_folder_lie_behind_a_link_of_their_own(tmp_path: Path, name: str) -> None:
    folder = DataFolder(tmp_path / name)
    folder.create()
    assert folder.existing_sockets() is None
    link = folder.sockets()
    assert link.readlink() == folder.run
    assert folder.sockets() == link
    # A link that someone else could have put there is not followed.
    link.parent.chmod(0o755)
    assert folder.existing_sockets() is None
    link.parent.chmod(0o700)
    folder.forget_sockets()
    assert not link.parent.exists()


URLS = {"DATABASE_URL": "postgresql+psycopg://d", "BROKER_URL": "redis://b", "STORAGE_URL": "s3://s"}


def test_an_operator_finds_the_servers_of_a_running_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in URLS:
        monkeypatch.delenv(name, raising=False)
    folder = DataFolder(tmp_path / "data")
    folder.create()
    with folder.locked():
        sockets = folder.sockets()
        found = operator_environment(folder.path)
        assert str(sockets / "valkey.sock") in found["BROKER_URL"]
        assert "postgresql+psycopg" in found["DATABASE_URL"]
        assert found["STORAGE_URL"] == folder.store.as_uri()
        assert found["SLAEGAN_DATA_DIR"] == str(folder.scratch)
        monkeypatch.setenv("STORAGE_URL", URLS["STORAGE_URL"])
        assert operator_environment(folder.path) == found | {"STORAGE_URL": "s3://s"}
        folder.forget_sockets()
    with pytest.raises(StackFailed, match="No stack runs"):
        operator_environment(folder.path)
    for name, url in URLS.items():
        monkeypatch.setenv(name, url)
    assert operator_environment(folder.path) == URLS
