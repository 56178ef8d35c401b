"""No Docker engine is needed here: every service's very command is run as a process against the real servers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sqlalchemy import make_url

from benchmarks.stack import free_port
from client.local import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {
    name for name, service in COMPOSE["services"].items() if service.get("image", "").startswith("slaegan")
}
LONG_LIVED = sorted(OURS - {"migrate"})


def test_the_services_are_those_of_the_product() -> None:
    workers = {"worker-gpu", "worker-metrics", "worker-generate", "worker-control", "worker-chores"}
    assert {"migrate", "api", "beat"} | workers == OURS
    assert set(COMPOSE["services"]) - OURS == {"postgres", "valkey"}


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_every_service_is_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]  # noqa: S108  # a mount
    assert int(service["user"].partition(":")[0]) > 0
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


def test_nothing_but_the_api_is_published_and_that_on_loopback() -> None:
    published = {
        name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service
    }
    assert published == {"api": ["127.0.0.1:8000:8000"]}


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_images_run_as_the_account_that_compose_names(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["stop_grace_period"] == "40s"
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
    assert "\nUSER slaegan\n" in dockerfile
    assert f"useradd --uid {service['user'].partition(':')[0]} " in dockerfile
    torch_inside = "requirements/worker.txt" in dockerfile
    assert torch_inside == name.startswith(("worker-gpu", "worker-metrics", "worker-generate"))


def test_a_gpu_worker_reserves_one_device() -> None:
    (device,) = COMPOSE["services"]["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}


def test_every_named_volume_is_declared() -> None:
    mounts = [volume for service in COMPOSE["services"].values() for volume in service.get("volumes", [])]
    assert {mount.split(":")[0] for mount in mounts if ":" in mount} == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", sorted(OURS))
def test_containers_of_one_service_share_neither_name_nor_scratch(name: str) -> None:
    service = COMPOSE["services"][name]
    assert "SLAEGAN_WORKER_NAME" not in service["environment"]
    assert not [volume for volume in service["volumes"] if volume.endswith(":/data/scratch")]


@pytest.mark.parametrize("name", sorted(OURS))
def test_credentials_of_a_store_reach_every_service(name: str) -> None:
    assert COMPOSE["services"][name]["env_file"] == [{"path": "store.env", "required": False}]


def test_the_api_image_has_no_torch() -> None:
    lines = (ROOT / "requirements" / "api.txt").read_text().splitlines()
    names = {line.split("==")[0] for line in lines if "==" in line}
    assert "fastapi" in names
    assert not names & {"torch", "torchvision", "torch-fidelity", "lpips"}


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    with postgres.connect(postgres_url) as connection:
        connection.execute("CREATE DATABASE compose")
        yield make_url(postgres_url).set(database="compose").render_as_string(hide_password=False)
        connection.execute("DROP DATABASE compose WITH (FORCE)")


@pytest.fixture
def environment(empty_database_url: str, empty_broker_url: str, tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": empty_database_url,
        "BROKER_URL": empty_broker_url,
        "STORAGE_URL": f"file://{tmp_path}/store",
        "SLAEGAN_DATA_DIR": str(tmp_path / "scratch"),
        "SLAEGAN_PORT": str(free_port()),
        "SLAEGAN_HEARTBEAT_S": "1",
    }


def command(words: list[str]) -> list[str]:
    """A command of the file with this environment's Python, in the safe path mode that the images set."""
    program, *arguments = words
    assert program == "python"
    return [sys.executable, "-P", *arguments]


def is_healthy(name: str, environment: dict[str, str], cwd: Path) -> bool:
    """Run a service's own health check; the API's address is that of this test."""
    instruction, *words = COMPOSE["services"][name]["healthcheck"]["test"]
    assert instruction == "CMD"
    words = [word.replace(":8000/", f":{environment['SLAEGAN_PORT']}/") for word in words]
    checked = subprocess.run(
        command(words),
        env=environment,
        cwd=cwd,
        check=False,
        stderr=subprocess.DEVNULL,
        timeout=30,
    )
    return checked.returncode == 0


def first_key(environment: dict[str, str], cwd: Path) -> str:
    """What the README's command for a key prints."""
    found = re.search(r"docker compose exec api (python -m \S+)", (ROOT / "README.md").read_text())
    assert found is not None
    words = command(found[1].split())
    return subprocess.run(
        words, env=environment, cwd=cwd, check=True, timeout=60, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_every_command_runs(environment: dict[str, str], tmp_path: Path) -> None:
    for _ in range(2):  # A restarted migration does nothing.
        migrate = command(COMPOSE["services"]["migrate"]["command"])
        subprocess.run(migrate, env=environment, cwd=tmp_path, check=True, timeout=60)
    assert first_key(environment, tmp_path).startswith("slg_")
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in LONG_LIVED:
            with (tmp_path / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    command(COMPOSE["services"][name]["command"]),
                    env=environment, cwd=tmp_path, stdout=log, stderr=log,
                )  # fmt: skip
        checked = [name for name in LONG_LIVED if "healthcheck" in COMPOSE["services"][name]]
        assert checked == ["api", "worker-generate", "worker-gpu", "worker-metrics"]
        deadline = time.monotonic() + 90
        while not all(is_healthy(name, environment, tmp_path) for name in checked):
            assert time.monotonic() < deadline, [path.read_text()[-500:] for path in tmp_path.glob("*.log")]
        assert {name: process.poll() for name, process in processes.items()} == dict.fromkeys(LONG_LIVED)
    finally:
        for process in processes.values():
            process.terminate()
        codes = {name: process.wait(40) for name, process in processes.items()}
    # uvicorn, once it has shut down in order, ends by the signal that asked for it.
    assert codes == dict.fromkeys(LONG_LIVED, 0) | {"api": -signal.SIGTERM}
