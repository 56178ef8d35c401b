"""The generators that a process holds loaded, so that the next picture of one needs no file."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from pathlib import Path

    from core.training.deployed import DeployedGenerator


class Generators:
    """The last few generators in use; not for several threads.

    A file is known by its path, size and time of change: another one under its name is read anew.

    Args:
        most: how many are kept, at least one.
    """

    def __init__(self, *, most: int = 4) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str, int, int], DeployedGenerator] = OrderedDict()

    def of(self, path: Path, *, device: str) -> DeployedGenerator:
        """The generator of a file, on a device.

        Raises:
            ConfigurationFailed: the file is missing or damaged, or is no generator of this version.
        """
        try:
            status = path.stat()
        except FileNotFoundError:
            return load_generator(path, device=device)  # which says what is wrong
        key = (str(path), device, status.st_size, status.st_mtime_ns)
        generator = self._kept.pop(key, None) or load_generator(path, device=device)
        self._kept[key] = generator
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return generator
