"""A child process that computes, seen from its supervisor: ticks and log lines come in, signals go out."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from core.schemas.ticks import TICK, ErrorTick, FinishedTick, StoppedTick, Tick
from core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import BaseModel

READ_BYTES = 65_536
LOG_LINE_CHARS = 2_000
REMEMBERED_LINES = 20
# glibc gives large blocks back to the kernel when they are freed, and every step faults them in again: keeping them
# made a step on the CPU 4 to 9 % faster. Another C library ignores these.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(4 * 2**30)}


class Child:
    """Started from the main thread, since its parent-death signal follows the thread that started it.

    Args:
        module: the setting train_module, evaluate_module or render_module.
        spec: what it should do; written to `spec.json` in its work folder. None: it stays, and is told by `tell`.
        work_dir: exists; the child's current folder, so that no folder of a user's is on its import path.
        threads: of torch; 0 as torch chooses.
        environment: what it gets beside this process's own.
        arguments: further words of its command line.
    """

    def __init__(
        self,
        module: str,
        spec: BaseModel | None,
        *,
        work_dir: Path,
        threads: int,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        spec_path = work_dir / "spec.json"
        if spec is not None:
            spec_path.write_text(spec.model_dump_json())
        own = {"CUDA_VISIBLE_DEVICES": _visible_device(), "PYTHONSAFEPATH": "1", **(environment or {})}
        ticks_out, ticks_in = os.pipe()
        self.last: ErrorTick | FinishedTick | StoppedTick | None = None
        self.last_lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        self._process = subprocess.Popen(
            [
                sys.executable, "-P", "-u", "-m", module, *([str(spec_path)] if spec is not None else []),
                "--ticks-fd", str(ticks_in), "--parent-pid", str(os.getpid()), "--threads", str(threads),
                *arguments,
            ],
            stdin=subprocess.DEVNULL if spec is not None else subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=[ticks_in], cwd=work_dir, start_new_session=True,
            env=ALLOCATOR | os.environ | own,
        )  # fmt: skip
        os.close(ticks_in)
        assert self._process.stdout is not None
        self._ticks = _Lines(os.fdopen(ticks_out, "rb"))
        self._log = _LogLines(self._process.stdout)
        self._selector = selectors.DefaultSelector()
        for lines in (self._ticks, self._log):
            self._selector.register(lines.pipe, selectors.EVENT_READ, lines)

    def tell(self, path: Path) -> None:
        """Name the file of a specification to a child that stays. Raises BrokenPipeError where it has ended."""
        assert self._process.stdin is not None
        # A short line: however busy the child is, the pipe takes it.
        self._process.stdin.write(f"{path}\n".encode())
        self._process.stdin.flush()

    def read(self, timeout_s: float) -> tuple[list[Tick], list[str]]:
        """Wait for output, up to a time; return complete ticks and log lines."""
        if not self._selector.get_map():
            # It closed its pipes a moment before its end: nothing will be said, so only that is waited for.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
            return [], []
        for key, _ in self._selector.select(timeout_s):
            lines: _Lines = key.data
            if not lines.fill():
                self._selector.unregister(lines.pipe)
        ticks = [TICK.validate_json(line) for line in self._ticks.take()]
        for tick in ticks:
            if isinstance(tick, ErrorTick | FinishedTick | StoppedTick):
                self.last = tick
        log = [line.decode(errors="replace").replace("\0", "")[:LOG_LINE_CHARS] for line in self._log.take()]
        self.last_lines.extend(log)
        return ticks, log

    @property
    def over(self) -> bool:
        """Whether the child has ended and everything it said was read."""
        return not self._selector.get_map() and self._process.poll() is not None

    @property
    def return_code(self) -> int | None:
        """The exit code; negative for a signal's number; None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child's whole process group."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def close(self) -> None:
        """Leave nothing of it: kill what still runs, reap it, close the pipes."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._ticks.pipe.close()
        self._log.pipe.close()


class _Lines:
    """A pipe cut into lines as they become complete."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self._buffer = b""

    def fill(self) -> bool:
        """Read what is there; False at the end of the pipe."""
        chunk = os.read(self.pipe.fileno(), READ_BYTES)
        self._buffer += chunk
        return bool(chunk)

    def take(self) -> list[bytes]:
        *complete, self._buffer = self._buffer.split(b"\n")
        return complete


class _LogLines(_Lines):
    """Lines for people: a last one that the child's end cut off counts too, and an endless one takes no memory."""

    def fill(self) -> bool:
        more = super().fill()
        line_begins = self._buffer.rfind(b"\n") + 1
        self._buffer = self._buffer[: line_begins + 4 * LOG_LINE_CHARS]  # A character has four bytes at most.
        if not more and self._buffer[line_begins:]:
            self._buffer += b"\n"
        return more


def _visible_device() -> str:
    """CUDA_VISIBLE_DEVICES for the child: the one device of this worker, or none."""
    kind, _, index = settings().device.partition(":")
    if kind != "cuda":
        return ""
    visible = settings().cuda_visible_devices
    return visible.split(",")[int(index or 0)] if visible else index or "0"
