"""The complete training state as one file that knows its own hash.

Layout: the line `slaegan-state 1 <sha256 in hex>`, then what torch.save wrote; the hash covers the latter.
"""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

import torch
from torch import Tensor

from core.errors import ConfigurationFailed, DataFailed
from core.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.schemas.families import Config

_MAGIC = b"slaegan-state 1 "
_HEX = 64
_HEADER = len(_MAGIC) + _HEX + 1
# What a later attempt may change: how long to train, how often to look and to save, and what to keep.
_FREE = {
    *("total_images", "evaluate_every_images", "checkpoint_every_images"),
    *("evaluation", "evaluation_backlog", "stopping", "alarms", "retention"),
}


class _Hashing(io.BufferedIOBase):
    """Passes writes on to a file and hashes them on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self._file.write(data)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state; under its name the file is complete and fsynced.

    Args:
        path: where to.
        state: tensors, numbers, strings, lists and dictionaries of them.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC + b"0" * _HEX + b"\n")
        hashing = _Hashing(file)
        torch.save(state, cast("IO[bytes]", hashing))
        file.seek(len(_MAGIC))
        file.write(hashing.sha256.hexdigest().encode())


class StateWriter:
    """Writes states behind the training's back: a save takes as long as a copy in memory.

    At most one is in flight, so that memory holds at most one copy: a save that comes before the last one is on disk
    waits for it. A failure to write is raised by the next `save` or `wait`.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state-writer")
        self._in_flight: Future[None] | None = None

    def save(self, path: Path, state: dict[str, Any], *, then: Callable[[], None]) -> None:
        """Copy a state and write it like `save_state`.

        Args:
            path: where to.
            state: may change as soon as this returns.
            then: called by the writing thread once the file is complete.

        Raises:
            OSError: the state before could not be written.
        """
        self.wait()
        copied = _copy(state)

        def write() -> None:
            save_state(path, copied)
            then()

        self._in_flight = self._thread.submit(write)

    def wait(self) -> None:
        """Return once nothing is in flight. Raises what writing raised."""
        if self._in_flight is not None:
            in_flight, self._in_flight = self._in_flight, None
            in_flight.result()

    def close(self) -> None:
        """End the thread, after the write in flight; a failure of that write is not raised."""
        self._thread.shutdown()


def _copy(value: Any) -> Any:
    """A copy on the host that shares no memory with the original."""
    match value:
        case Tensor():
            return value.detach().clone() if value.device.type == "cpu" else value.detach().cpu()
        case dict():
            return {key: _copy(inner) for key, inner in value.items()}
        case list() | tuple():
            return type(value)(_copy(inner) for inner in value)
        case _:
            return value


def is_state(path: Path) -> bool:
    """Whether a file begins as a training state does."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def load_state(path: Path, *, device: torch.device) -> dict[str, Any]:
    """Read a training state with weights only, after its hash was checked.

    Args:
        path: a file that `save_state` wrote.
        device: where its tensors go.

    Raises:
        DataFailed: the file is missing, torn, altered, or no training state.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFailed(f"The training state {path.name} cannot be read: {error}", file=path.name) from error
    if not content.startswith(_MAGIC):
        raise DataFailed(f"{path.name} is not a training state of this version.", file=path.name)
    expected = content[len(_MAGIC) : len(_MAGIC) + _HEX].decode("ascii", "replace")
    body = memoryview(content)[_HEADER:]
    found = hashlib.sha256(body).hexdigest()
    if found != expected:
        raise DataFailed(
            f"The training state {path.name} is damaged: its sha256 is {found}, and its header says {expected}. "
            "Resume from an earlier one.",
            file=path.name,
        )
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    return state


def check_same_run(state: dict[str, Any], *, config: Config, dataset_hash: str) -> None:
    """Refuse to go on under another configuration, or with other pictures, than the state was made with.

    Raises:
        ConfigurationFailed: names every differing field, with both values.
    """
    then, kind = state["config"], type(config)
    if then.get("family") == config.family:
        # A switch that came later than the state was off in it, as it is by default beside the state's other values.
        known = {name: then[name] for name in then if name in kind.model_fields.keys() - _FREE}
        then = kind.model_validate(known).model_dump(mode="json") | then
    now = config.model_dump(mode="json")
    then["dataset_hash"], now["dataset_hash"] = state["facts"]["dataset_hash"], dataset_hash
    names = sorted((then.keys() | now.keys()) - _FREE)
    changed = [name for name in names if then.get(name) != now.get(name)]
    if changed:
        listed = "; ".join(f"{name} was {then.get(name)!r}, is {now.get(name)!r}" for name in changed)
        raise ConfigurationFailed(
            f"The state cannot be resumed under another configuration: {listed}. Train anew, or restore the values.",
            changed=changed,
        )
