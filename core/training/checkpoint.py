"""The complete training state as one file that knows its own hash.

Layout: the line `slaegan-state 1 <sha256 in hex>`, then what torch.save wrote; the hash covers the latter.
"""

from __future__ import annotations

import hashlib
import io
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

import torch

from core.errors import ConfigurationFailed, DataFailed
from core.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from core.schemas.training import SlaeganConfig

_MAGIC = b"slaegan-state 1 "
_HEX = 64
_HEADER = len(_MAGIC) + _HEX + 1
# What a later attempt may change: how long to train, and how often to look and to save.
_FREE = {"total_images", "evaluate_every_images", "checkpoint_every_images", "evaluation"}


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


def check_same_run(state: dict[str, Any], *, config: SlaeganConfig, dataset_hash: str) -> None:
    """Refuse to go on under another configuration, or with other pictures, than the state was made with.

    Raises:
        ConfigurationFailed: names every differing field, with both values.
    """
    then, now = dict(state["config"]), config.model_dump(mode="json")
    then["dataset_hash"], now["dataset_hash"] = state["facts"]["dataset_hash"], dataset_hash
    names = sorted((then.keys() | now.keys()) - _FREE)
    changed = [name for name in names if then.get(name) != now.get(name)]
    if changed:
        listed = "; ".join(f"{name} was {then.get(name)!r}, is {now.get(name)!r}" for name in changed)
        raise ConfigurationFailed(
            f"The state cannot be resumed under another configuration: {listed}. Train anew, or restore the values.",
            changed=changed,
        )
