"""A generator as it is served: pictures that depend on a seed and an index alone.

Shapes: N pictures, Z latent numbers, M rows of the bank, F metadata features, K classes.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from core.training.metadata import MetadataBank, mixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.models.contract import PictureGenerator
    from core.schemas.families import Config
    from core.training.classes import Classes

Source = Literal["mix", "bank", "plain"]
GRID_SEED = 0  # of the grid that shows the same latents at every age of a model
STATISTICS_BATCH = (
    16  # pictures that are normalised by their own statistics together, where a protocol wants that
)


class Drawn(NamedTuple):
    """What pictures are made from, on the generator's device."""

    latent_NZ: Tensor
    planes: list[Tensor]
    labels_N: Tensor | None
    bank_rows: Tensor | None  # N1, or N2 of mixes, int64 on the CPU


class Numbers(NamedTuple):
    """The random numbers behind pictures, on the CPU, in the order in which they are drawn."""

    noise_NZ: Tensor  # N(0, 1), float32
    planes: list[Tensor]  # N1HW, the same
    rows_N2: Tensor | None  # of the bank, int64
    share_N: Tensor | None  # of the first row in a mix, uniform in [0, 1), float32
    labels_N: Tensor | None  # int64


class DeployedGenerator:
    """A generator in evaluation mode, float32; each picture is a function of (seed, index) alone.

    Args:
        network: with folded kernels and running statistics, in evaluation mode.
        config: it was trained with.
        bank: metadata of the training pictures, None where it was trained without.
        classes: of the training pictures, None where it was not trained by class.
        images_seen: real pictures shown in training, the model's age.
    """

    def __init__(
        self,
        network: PictureGenerator,
        *,
        config: Config,
        bank: MetadataBank | None = None,
        classes: Classes | None = None,
        images_seen: int = 0,
    ) -> None:
        self.network, self.config, self.bank, self.images_seen = network, config, bank, images_seen
        self.classes = classes
        self._device = next(network.parameters()).device
        # The memory of 16 pictures at 256 pixels is enough at every resolution.
        self._together = max(2, min(STATISTICS_BATCH, STATISTICS_BATCH * 256**2 // config.resolution**2))
        self.metadata_MF = None if bank is None else bank.standardised()

    def sample(
        self,
        *,
        seed: int,
        start: int,
        count: int,
        latents: Source = "mix",
        label: int | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Make pictures number start to start + count - 1 of a seed.

        Args:
            seed: at least 0.
            start: first index, at least 0.
            count: how many, at least 1.
            latents: where metadata comes from: one row of the bank, a convex mix of two, or plain for the
                noise alone. A generator trained without metadata knows plain noise only.
            label: the class of all pictures, where it was trained by class; None draws by the training set's shares.
            truncation: 0 to 1; below 1 pictures are nearer to the mean, and to each other.

        Returns:
            count,3,resolution,resolution uint8 on the CPU.
        """
        indices = range(start, start + count)
        return self.pictures(indices, seed=seed, latents=latents, label=label, truncation=truncation)

    @torch.no_grad()
    def pictures(
        self,
        indices: Sequence[int],
        *,
        seed: int,
        latents: Source = "mix",
        label: int | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Make some pictures of a seed, as `sample` does, in the order of their indices as given."""
        parts = []
        for first in range(0, len(indices), self._together):
            some = list(indices[first : first + self._together])
            # One picture takes other kernels than many, and would differ in its last bits.
            padded = some * 2 if len(some) == 1 else some
            drawn = self.draw(padded, seed=seed, latents=latents, label=label)
            made_N3HW = self.network.render(
                drawn.latent_NZ, drawn.planes, labels_N=drawn.labels_N, truncation=truncation
            )
            parts.append(as_pixels(made_N3HW)[: len(some)].cpu().contiguous())
        return torch.cat(parts)

    def bank_rows(self, indices: Sequence[int], *, seed: int, latents: Source = "mix") -> Tensor | None:
        """Which rows of the bank the pictures of some indices were drawn from; N1, of mixes N2, int64.

        None where the bank has no part in them.
        """
        parts = []  # the noise planes, drawn along with them, are large: never those of all at once
        for first in range(0, len(indices), self._together):
            rows = self.draw(indices[first : first + self._together], seed=seed, latents=latents).bank_rows
            if rows is None:
                return None
            parts.append(rows)
        return torch.cat(parts)

    @contextmanager
    def batch_statistics(self) -> Iterator[None]:
        """Within it, BN uses the statistics of 16 pictures that are made together, as the papers' generators do."""
        layers = [layer for layer in self.network.modules() if isinstance(layer, nn.BatchNorm2d)]
        together, self._together = self._together, STATISTICS_BATCH
        for layer in layers:
            layer.track_running_stats = False  # those that it has stay as they are
            layer.train()
        try:
            yield
        finally:
            self._together = together
            for layer in layers:
                layer.track_running_stats = True
                layer.eval()

    def draw(self, indices: Sequence[int], *, seed: int, latents: Source, label: int | None = None) -> Drawn:
        """What pictures are made from, drawn on the CPU so that it is the same on every device.

        Args:
            indices: of the pictures.
            seed: at least 0.
            latents: as for `sample`.
            label: as for `sample`.
        """
        keys = [(seed, index) for index in indices]
        return self._draw(keys, latents=latents, labels=[label] * len(keys))

    def draw_seeds(self, seeds: Sequence[int], *, labels: Sequence[int | None] | None = None) -> Drawn:
        """What the first picture of each seed is made from; with metadata, where there is some, of mixes.

        Args:
            seeds: 0 to 2^63 - 1.
            labels: the class of each, where it was trained by class; None draws one by the training set's shares.
        """
        keys = [(seed, 0) for seed in seeds]
        return self._draw(keys, latents="mix", labels=labels or [None] * len(keys))

    @torch.no_grad()
    def render_seeds(self, seeds: Sequence[int]) -> Tensor:
        """The first picture of each seed, made in one batch, N3HW in [-1, 1] on the generator's device."""
        drawn = self.draw_seeds(seeds)
        return self.network.render(drawn.latent_NZ, drawn.planes, labels_N=drawn.labels_N)

    def numbers(
        self,
        keys: Sequence[tuple[int, int]],
        *,
        latents: Source = "mix",
        labels: Sequence[int | None] | None = None,
    ) -> Numbers:
        """The random numbers behind pictures, each picture's from a source of its own, in the order of the fields.

        Args:
            keys: seed and index of each picture.
            latents: as for `sample`.
            labels: as for `draw_seeds`.
        """
        sources = [np.random.Generator(np.random.Philox(key=list(key))) for key in keys]
        size, sides = self.network.latent_size, self.network.noise_sides()
        noise_NZ = torch.from_numpy(np.stack([s.standard_normal(size, dtype=np.float32) for s in sources]))
        planes = [
            torch.from_numpy(
                np.stack([s.standard_normal((1, side, side), dtype=np.float32) for s in sources])
            )
            for side in sides
        ]
        rows_N2 = share_N = labels_N = None
        if self.metadata_MF is not None and latents != "plain":
            count = self.metadata_MF.shape[0]
            rows_N2 = torch.from_numpy(np.stack([s.integers(count, size=2) for s in sources]))
            share_N = torch.tensor([s.random() for s in sources], dtype=torch.float32)
        if self.classes is not None:
            shares = self.classes.shares
            chosen = [
                int(source.choice(len(shares), p=shares)) if label is None else label
                for source, label in zip(sources, labels or [None] * len(keys), strict=True)
            ]
            labels_N = torch.tensor(chosen)
        return Numbers(noise_NZ, planes, rows_N2, share_N, labels_N)

    def _draw(
        self, keys: Sequence[tuple[int, int]], *, latents: Source, labels: Sequence[int | None]
    ) -> Drawn:
        noise_NZ, planes, rows_N2, share_N, labels_N = self.numbers(keys, latents=latents, labels=labels)
        metadata_NF = None
        if self.metadata_MF is not None and rows_N2 is not None and share_N is not None:
            metadata_NF = self.metadata_MF[rows_N2[:, 0]]
            if latents == "mix":
                metadata_NF = mixed(metadata_NF, self.metadata_MF[rows_N2[:, 1]], share_N)
            else:
                rows_N2 = rows_N2[:, :1]
            metadata_NF = metadata_NF.to(self._device)
        latent_NZ = self.network.latent(noise_NZ.to(self._device), metadata_NF)
        if labels_N is not None:
            labels_N = labels_N.to(self._device)
        return Drawn(latent_NZ, [plane.to(self._device) for plane in planes], labels_N, rows_N2)


def as_pixels(pictures_N3HW: Tensor) -> Tensor:
    """Pictures in [-1, 1] as uint8."""
    return ((pictures_N3HW + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
