"""`slaegan up` as a process of its own, with its servers alone or with everything."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import psutil
import pytest

from benchmarks.stack import free_port
from client.local.folder import holders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The servers and one idle program instead of API and workers: these tests are about processes.
SERVERS_AND_SLEEP = """
import sys
from pathlib import Path
from client.local.programs import Program
from client.local.place import Place
from client.local.up import up
from core.errors import SlaeganError
services = [Program("idle", ("sleep", "1000"))]
try:
    up(Path(sys.argv[1]), place=Place("127.0.0.1", int(sys.argv[2])), say=print, services=services)
except SlaeganError as error:
    sys.exit(error.message)
"""
ROOT = Path(__file__).parents[2]


@dataclass
class Up:
    """A started `slaegan up`."""

    process: subprocess.Popen[bytes]
    data: Path
    port: int
    output: Path

    def text(self) -> str:
        return self.output.read_text()

    def wait_for_text(self, text: str, *, timeout_s: float = 60) -> None:
        self.wait_until(lambda: text in self.text(), timeout_s=timeout_s, what=text)

    def wait_until(self, condition: Callable[[], bool], *, timeout_s: float = 60, what: str = "") -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}\n{self.text()}"
            time.sleep(0.05)

    def wait_ready(self, *, timeout_s: float = 60) -> Up:
        def over() -> bool:
            return "Ready:" in self.text() or self.process.poll() is not None

        self.wait_until(over, timeout_s=timeout_s, what="Ready")
        assert "Ready:" in self.text(), self.text()
        return self

    def supervisord(self) -> psutil.Process:
        return psutil.Process(int((self.data / "run" / "supervisord.pid").read_text()))

    def part(self, name: str) -> psutil.Process:
        """The supervised process whose executable has this name; it may still be on its way there."""
        found: list[psutil.Process] = []

        def there() -> bool:
            try:
                found[:] = [child for child in self.supervisord().children() if child.name() == name]
            except psutil.NoSuchProcess:
                return False  # One ended while it was asked.
            return len(found) == 1

        self.wait_until(there, timeout_s=30, what=name)
        return found[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(90)

    def left(self) -> list[psutil.Process]:
        """Every part of the stack that still lives: each holds the lock."""
        lock = self.data / "parts.lock"
        if not lock.exists():
            return []
        with lock.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return holders(lock)
        return []

    def end(self) -> None:
        """Kill what still runs."""
        self.process.kill()
        self.process.wait()
        for process in self.left():
            with suppress(psutil.NoSuchProcess):  # the parts also end by themselves when their parent does
                process.kill()


def clean_environment(folder: Path) -> dict[str, str]:
    """The environment without the user's own pointer, key or servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLAEGAN_", "XDG_"))}
    for name in ("DATABASE_URL", "BROKER_URL", "STORAGE_URL"):
        kept.pop(name, None)
    return kept | {
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_DATA_HOME": str(folder / "data-home"),
        "PYTHONPATH": str(ROOT),
        "SLAEGAN_WEIGHTS_DIR": str(weights_dir()),
    }


def weights_dir() -> Path:
    """The weights of this machine, found before a test hides the user's folders."""
    return Path(os.environ.get("SLAEGAN_WEIGHTS_DIR", platformdirs.user_cache_path("slaegan") / "weights"))


def launch(
    command: list[str], *, data: Path, port: int, output: Path, cwd: Path, environment: dict[str, str]
) -> Up:
    """Start a command that runs a stack; its output goes to a file."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
    return Up(process, data, port, output)


@pytest.fixture
def start_up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Start the servers in a data folder; whatever still runs at the end of the test is killed."""
    started: list[Up] = []

    def start(
        data: Path,
        *,
        port: int | None = None,
        python: str = sys.executable,
        prefix: tuple[str, ...] = (),
        extra: dict[str, str] | None = None,
    ) -> Up:
        chosen = port or free_port()
        command = [*prefix, python, "-P", "-u", "-c", SERVERS_AND_SLEEP, str(data), str(chosen)]
        output = tmp_path / f"up-{len(started)}.txt"
        environment = clean_environment(tmp_path) | (extra or {})
        up = launch(command, data=data, port=chosen, output=output, cwd=tmp_path, environment=environment)
        started.append(up)
        return up

    yield start
    for up in started:
        up.end()
