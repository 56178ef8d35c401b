"""The programs of the stack: what runs, in which order it starts, and with which environment."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from client.local.children import child_environment

# A group is stopped as one, the last group first: trainers save while database, store and broker still answer.
GROUPS = ("database", "broker", "web", "workers")


@dataclass(frozen=True)
class Program:
    """One supervised process.

    Attributes:
        name: unique; also the name of its log.
        command: program and arguments, without the guard.
        prefix: what stands before the guard: a change of account.
        group: one of GROUPS.
        environment: what it gets beside the common environment.
        stop_signal: what asks it to stop, also when its parent dies.
        stop_wait_s: how long it may take before SIGKILL.
    """

    name: str
    command: tuple[str, ...]
    group: str = "workers"
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    stop_wait_s: int = 40


def service_programs(*, cuda_devices: int) -> list[Program]:
    """The API, the workers and beat; a trainer for every CUDA device, or one for the CPU.

    Args:
        cuda_devices: how many the machine has.
    """
    devices = [f"cuda:{index}" for index in range(cuda_devices)] or ["cpu"]
    trainers = [
        _worker(f"worker-train-{index}", "train", device=device) for index, device in enumerate(devices)
    ]
    return [
        *trainers,
        _worker("worker-metrics", "metrics", device=devices[-1]),
        _worker("worker-generate", "generate", device=devices[-1]),
        _worker("worker-control", "control", device="cpu"),
        _worker("worker-chores", "chores", device="cpu"),
        Program("api", _module("api.main"), group="web"),
        Program("beat", _module("worker.app", "beat"), group="web"),
    ]


def _worker(name: str, role: str, *, device: str) -> Program:
    name_of_worker = f"{name.removeprefix('worker-')}-{socket.gethostname()}"
    environment = {"SLAEGAN_DEVICE": device, "SLAEGAN_WORKER_NAME": name_of_worker}
    return Program(name, _module("worker.app", role), environment=environment)


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", name, *arguments)


def count_cuda_devices() -> int:
    """How many CUDA devices torch can use.

    Asked of a short process, since torch would cost this one hundreds of megabytes; and only where there is a driver,
    since the question takes seconds.
    """
    has_driver = shutil.which("nvidia-smi") or any(
        Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg")
    )
    if not has_driver:
        return 0
    question = "import torch; print(torch.cuda.device_count())"
    command = [sys.executable, "-P", "-c", question]
    answer = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    return int(answer.stdout) if answer.returncode == 0 else 0


def external_urls() -> dict[str, str]:
    """The servers that the user brings: those of the three URLs that the environment sets."""
    names = ("DATABASE_URL", "BROKER_URL", "STORAGE_URL")
    return {name: os.environ[name] for name in names if os.environ.get(name)}
