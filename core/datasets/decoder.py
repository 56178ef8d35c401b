"""The decoding process, seen from the service: it is asked, watched, and started again when a picture kills it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

import core
from core.datasets.facts import Facts
from core.datasets.scratch import disk_errors
from core.errors import InfrastructureError

if TYPE_CHECKING:
    from core.settings import Settings

START_S = 30
MAX_ANSWER_BYTES = 65_536
_SHOWN_LOG_BYTES = 2_000
# A normalised picture is a PNG without loss: three bytes a pixel, and a little where nothing can be packed.
_PNG_BYTES_PER_PIXEL = 4
# A picture at the limit takes some 700 MB while it is converted; so many at once in a process, and no more.
_TURNS = threading.BoundedSemaphore(2)
# Nothing of the service's own environment, which has its secrets. Each thread of OpenBLAS would claim 32 MB.
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(core.__path__[0]).parent),
}


class TooDemanding(Exception):
    """The file took more time or memory than a picture may, or broke the process that read it."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ready(_Strict):
    kind: Literal["ready"]


class Done(_Strict):
    kind: Literal["done"]


class Decoded(_Strict):
    """A normalised picture lies at the target."""

    kind: Literal["picture"]
    width: int = Field(ge=1, le=2**31)
    height: int = Field(ge=1, le=2**31)
    facts: Facts


class NotTaken(_Strict):
    """The file is no usable picture."""

    kind: Literal["refused"]
    code: str = Field(pattern="^[a-z_]{1,40}$")
    reason: str


class Exhausted(_Strict):
    """The memory did not suffice."""

    kind: Literal["too_demanding"]


class DiskTrouble(_Strict):
    """The scratch disk did not take what was written."""

    kind: Literal["disk"]
    errno: int
    reason: str


Answer = Ready | Done | Decoded | NotTaken | Exhausted | DiskTrouble
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


class Decoder:
    """One decoding process at a time, started when it is first asked; close it, or use it in a `with` block.

    Ask it from one thread at a time. A thread that asks must live until the decoder is closed or asked by another
    one, since the process dies with the thread that started it.

    Args:
        folder: the only one that the process may read and write, where the kernel can enforce that.
        limits: decode_memory_bytes, decode_timeout_s, max_picture_pixels.
    """

    def __init__(self, folder: Path, *, limits: Settings) -> None:
        self.folder = folder
        self.busy_s = 0.0  # what its requests took, without the waiting for a turn
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """Leave nothing of the process."""
        if self._process is None:
            return
        process, self._process = self._process, None
        # With all that it may have started: it leads a group of its own.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        self._log.close()

    def ask(self, do: str, *, target: Path, **request: Any) -> Done | Decoded | NotTaken:
        """Have something done, while at most one other picture is decoded in this process of the service.

        Args:
            do: normalise, thumbnail, small or contact_sheet.
            target: the file to write.
            request: what core.datasets.decoding takes for that.

        Raises:
            TooDemanding: it took too much time or memory, or ended the process.
            StoreFull: the scratch disk is full.
            InfrastructureError: the process cannot be started.
        """
        with _TURNS:
            begun = time.monotonic()
            try:
                self._start()
                answer = self._answer({"do": do, "target": str(target)} | request)
            finally:
                self.busy_s += time.monotonic() - begun
        match answer:
            case Exhausted():
                raise TooDemanding(f"it takes more than {self._limits.decode_memory_bytes} bytes of memory")
            case DiskTrouble():
                with disk_errors():
                    raise OSError(answer.errno, answer.reason)
            case Ready():
                self.close()
                raise TooDemanding("it took over the process that decoded it")
        return answer

    def _start(self) -> None:
        if self._process is not None:
            return
        limits = self._limits
        with disk_errors():
            self._log = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115  # closed in `close`
        command = {
            "--parent-pid": os.getpid(),
            "--memory-bytes": limits.decode_memory_bytes,
            "--file-bytes": limits.max_picture_pixels * _PNG_BYTES_PER_PIXEL,
            "--processor-s": int(limits.decode_timeout_s) + 1,
        }
        words = [str(word) for pair in command.items() for word in pair]
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-P", "-s", "-W", "ignore", "-m", "core.datasets.decode_process",
                    str(self.folder), *words,
                ],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0, cwd=self.folder,
                env=_ENVIRONMENT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._log.close()
            raise InfrastructureError(
                f"The process that decodes pictures cannot be started ({error})."
            ) from error
        line = self._line(START_S)
        if line != b'{"kind": "ready"}':
            said = self._end()
            raise InfrastructureError(f"The process that decodes pictures cannot be started ({said}).")

    def _answer(self, request: dict[str, Any]) -> Answer:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            line = None
        else:
            line = self._line(self._limits.decode_timeout_s)
        if line is None:
            raise TooDemanding(self._end())
        try:
            return _ANSWER.validate_json(line)
        except ValidationError:
            self.close()
            raise TooDemanding("the process that decoded it answered nonsense") from None

    def _line(self, timeout_s: float) -> bytes | None:
        """The next line, without its end; None if the time is over, the process ended, or it talks without end."""
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while len(line) < MAX_ANSWER_BYTES and selector.select(max(0, deadline - time.monotonic())):
                chunk = os.read(self._process.stdout.fileno(), MAX_ANSWER_BYTES)
                line += chunk
                if line.endswith(b"\n"):
                    return line[:-1]
                if not chunk:
                    return None
        return None

    def _end(self) -> str:
        """End the process, and say in what way it failed."""
        process = self._process
        assert process is not None
        try:
            code = process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.close()
            return f"it takes longer than {self._limits.decode_timeout_s:g} s"
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _SHOWN_LOG_BYTES))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        self.close()
        return f"the process ended with {code}" + (f": {lines[-1][:200]}" if lines else "")
