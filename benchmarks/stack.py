"""The real servers and processes of the service on loopback, each of which can be killed and started again.

For benchmarks and tests that look at the service from outside. Start everything from the main thread: what is started
here ends with the thread that started it, however that ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import psutil

from client import SlaeGan
from client.local import postgres, valkey
from client.local.account import choose_account
from client.local.children import child_environment, guarded
from client.local.folder import DataFolder
from core.errors import StackFailed
from core.keys import ensure_local_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from client.local.programs import Program

# What only a computing child has on its command line (worker.process.Child).
_CHILD_MARK = "--ticks-fd"


def free_port() -> int:
    """A TCP port of the loopback that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """PostgreSQL or Valkey as a process of its own.

    Args:
        program: its command line.
        folder: holds its data and its log.
        wait: returns once it answers; takes a check that raises when the process has ended.
    """

    program: Program
    folder: DataFolder
    wait: Callable[[Callable[[], None]], None]
    process: subprocess.Popen[bytes] | None = None

    def start(self, *, tries: int = 40) -> None:
        """Start it and wait until it answers.

        After a SIGKILL, PostgreSQL refuses to start while backends of the one before still end: so some tries.

        Raises:
            StackFailed: it does not start; the message has the last lines of its log.
        """
        for left in reversed(range(tries)):
            self._launch()
            try:
                self.wait(self._check_alive)
            except StackFailed:
                if not left:
                    raise
                time.sleep(0.25)
            else:
                return

    def _launch(self) -> None:
        log = self.folder.logs / f"{self.program.name}.log"
        command = guarded(self.program.command, lock=self.folder.parts_lock, death=self.program.stop_signal)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.program.prefix, *command], cwd=self.folder.scratch, env=child_environment(),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def _check_alive(self) -> None:
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.folder.logs / f"{self.program.name}.log").read_text(errors="replace")
            raise StackFailed(
                f"{self.program.name} ended with status {self.process.returncode}: {log[-500:]}"
            )

    def stop(self) -> None:
        """The orderly end; PostgreSQL ends its sessions first ("fast")."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.Signals[self.program.stop_signal])
        try:
            self.process.wait(self.program.stop_wait_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as by a lack of memory."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Servers:
    """The two servers and where they listen."""

    database: Server
    broker: Server
    database_url: str
    broker_url: str


@contextmanager
def own_servers(data_dir: Path, *, durable: bool) -> Iterator[Servers]:
    """Run both servers in a data folder; each can be stopped, killed and started again within the block.

    Args:
        data_dir: made if missing.
        durable: whether what was committed survives a SIGKILL and a crash of the machine.

    Raises:
        StackFailed: a server does not start.
    """
    folder = DataFolder(data_dir)
    folder.create()
    with folder.locked():
        account = choose_account(folder)
        postgres.initialise(folder, account=account)
        sockets = folder.sockets()
        admin_url, broker_url = postgres.url(sockets, database="postgres"), valkey.url(sockets)
        database = Server(
            postgres.program(folder, sockets=sockets, account=account, durable=durable),
            folder,
            lambda check: postgres.wait_until_ready(admin_url, check_alive=check),
        )
        broker = Server(
            valkey.program(sockets),
            folder,
            lambda check: valkey.wait_until_ready(broker_url, check_alive=check),
        )
        try:
            database.start()
            postgres.ensure_database(sockets)
            broker.start()
            yield Servers(database, broker, postgres.url(sockets), broker_url)
        finally:
            broker.stop()
            database.stop()
            folder.forget_sockets()


@dataclass
class Services:
    """The service's own processes, started as in production, each in a process group of its own.

    They are named by their kind (api, train, metrics, control, beat), a second one of a kind with a number: train-1.

    Args:
        environment: with the three URLs and all settings.
        folder: for logs and locks; the processes' current folder.
        modules: what to start instead of a kind's own module, for tests that plant a bug.
    """

    environment: dict[str, str]
    folder: Path
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Start some processes; returns when they run, and the API answers if it is among them."""
        for name in names:
            self.launch(name)
        if "api" in names:
            self.until(self.is_ready, "the API is ready")

    def launch(self, name: str) -> None:
        """Start one process and do not wait for it to be ready."""
        kind = name.partition("-")[0]
        if kind == "api":
            command = [self.modules.get(kind, "api.main")]
        else:
            command = [self.modules.get(kind, "worker.app"), kind]
        own = {"SLAEGAN_PORT": str(self.port)}
        if name != kind:
            own["SLAEGAN_WORKER_NAME"] = f"{name}-{socket.gethostname()}"
        guard = guarded([sys.executable, "-P", "-m", *command], lock=self.folder / "parts.lock")
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                guard, env=child_environment() | self.environment | own, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def is_ready(self) -> bool:
        """Whether the API says that it can work."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, *, tenant: str = "local") -> SlaeGan:
        """A client with a fresh key of a tenant; the key before it is revoked."""
        return SlaeGan(self.url, ensure_local_key(self.environment["DATABASE_URL"], tenant=tenant))

    def is_alive(self, name: str) -> bool:
        """Whether a process was started and has not ended."""
        return name in self.processes and self.processes[name].poll() is None

    def supervisor(self, name: str = "train") -> psutil.Process | None:
        """The pool child of a worker, in which its tasks run; None while there is none."""
        if not self.is_alive(name):
            return None
        try:
            return next(iter(psutil.Process(self.processes[name].pid).children()), None)
        except psutil.NoSuchProcess:
            return None

    def child(self, name: str = "train") -> psutil.Process | None:
        """The child of a worker's supervisor, once it computes."""
        supervisor = self.supervisor(name)
        try:
            for child in supervisor.children() if supervisor is not None else ():
                if _CHILD_MARK in child.cmdline():
                    return child
        except psutil.Error:
            pass  # It ended while it was looked at.
        return None

    def kill(self, name: str) -> None:
        """SIGKILL one process, not its children."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        """SIGTERM to all; SIGKILL to the groups of those that do not end in 30 s."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def until(self, condition: Callable[[], object], what: str, *, timeout_s: float = 240) -> None:
        """Wait for a condition. Raises AssertionError with the last lines of all logs when it stays away."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"Not within {timeout_s} s: {what}\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """The last lines that every process wrote."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-25:])
            for path in sorted(self.folder.glob("*.log"))
        )
