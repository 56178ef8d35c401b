"""What a process that renders holds loaded, so that the next answer needs no file."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from core.errors import ConfigurationFailed
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from pathlib import Path

    from core.generation.nearest import Neighbours
    from core.schemas.ticks import RenderSpec
    from core.training.deployed import DeployedGenerator
    from core.training.perceptual import Lpips

_FileKey = tuple[str, str, int, int]


class Generators:
    """The last few generators in use, and what the last search for neighbours needed; not for several threads.

    A file is known by its path, size and time of change: another one under its name is read anew.

    Args:
        most: how many are kept, at least one.
    """

    def __init__(self, *, most: int = 4) -> None:
        self._most = most
        self._kept: OrderedDict[_FileKey, DeployedGenerator] = OrderedDict()
        self._lpips: tuple[tuple[Path, str], Lpips] | None = None
        self._neighbours: tuple[tuple[str, ...], Neighbours] | None = None

    def of(self, path: Path, *, device: str) -> DeployedGenerator:
        """The generator of a file, on a device.

        Raises:
            ConfigurationFailed: the file is missing or damaged, or is no generator of this version.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise ConfigurationFailed(
                f"{path.name} cannot be read: {error.strerror}", file=path.name
            ) from error
        key = (str(path), device, status.st_size, status.st_mtime_ns)
        generator = self._kept.pop(key, None) or load_generator(path, device=device)
        self._kept[key] = generator
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return generator

    def lpips(self, weights_dir: Path, *, device: str) -> Lpips:
        """LPIPS in float32.

        Raises:
            WeightsMissing: VGG-16's weights are not there and not to be had.
        """
        from core.training.perceptual import Lpips  # noqa: PLC0415 - pictures alone need none of it

        key = (weights_dir, device)
        if self._lpips is None or self._lpips[0] != key:
            self._lpips = (key, Lpips(weights_dir, device=device))
        return self._lpips[1]

    def neighbours(self, spec: RenderSpec) -> Neighbours:
        """The training pictures of a job; those of the last job asked for are held.

        Raises:
            ConfigurationFailed: the specification names no training pictures.
            DataFailed: a training picture cannot be read.
            WeightsMissing: as of `lpips`.
        """
        from core.generation.nearest import Neighbours  # noqa: PLC0415 - likewise

        if spec.images_dir is None or spec.dataset_hash is None:
            raise ConfigurationFailed("Nearest training pictures are asked for, but none are there.")
        lpips = self.lpips(spec.weights_dir, device=spec.device)
        key = (spec.dataset_hash, str(spec.config.resolution), spec.config.fit, spec.device)
        if self._neighbours is None or self._neighbours[0] != key:
            self._neighbours = None  # before the next are made: they take much memory
            made = Neighbours(
                spec.images_dir,
                dataset_hash=spec.dataset_hash,
                positions=spec.positions,
                config=spec.config,
                cache_dir=spec.cache_dir,
                lpips=lpips,
            )
            self._neighbours = (key, made)
        return self._neighbours[1]
