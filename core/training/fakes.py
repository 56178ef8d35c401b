"""One batch of generated pictures, which D's step judges without a graph and G's step with one.

Shapes: N pictures, H height, W width. Pictures are in [-1, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.training.augment import Draws, apply
from core.training.microbatch import parts, replaying

if TYPE_CHECKING:
    from core.models.slaegan import Generator
    from core.training.latents import Latents

Pair = tuple[Tensor, Tensor]  # of full resolution and of the small side


class Fakes:
    """Makes the pictures at once. A batch beyond the micro-batch is made in parts without a graph.

    Args:
        generator: in training mode; its running statistics and spectral vectors move once.
        latents: of the batch.
        micro_batch: pictures in memory at a time.
    """

    def __init__(self, generator: Generator, latents: Latents, *, micro_batch: int) -> None:
        self._generator, self._latents = generator, latents
        self._micro_batch = micro_batch
        self.clear = self._made()
        self.shown = self.clear

    def _made(self) -> Pair:
        count = self._latents.noise_NZ.shape[0]
        if count <= self._micro_batch:
            return self._latents.pictures(self._generator)
        with torch.no_grad():
            made = [
                self._latents.rows(rows).pictures(self._generator)
                for rows in parts(self._generator, count, size=self._micro_batch)
            ]
        full, small = zip(*made, strict=True)
        return torch.cat(full), torch.cat(small)

    def augment(self, full: Draws, small: Draws, *, probability: Tensor | None) -> None:
        """Augment once for both steps: `shown` are the pictures from now on, float32.

        Args:
            full: draws for the pictures of full resolution.
            small: for those of the small side.
            probability: as `core.training.augment.apply`.
        """
        self._draws, self._probability = (full, small), probability
        self.shown = self._augmented(self.clear, self._draws)

    def _augmented(self, pictures: Pair, draws: tuple[Draws, Draws]) -> Pair:
        full, small = (
            apply(picture.float(), values, probability=self._probability)
            for picture, values in zip(pictures, draws, strict=True)
        )
        return full, small

    def judged(self, rows: slice) -> Pair:
        """Some of the shown pictures without a graph, for D's step."""
        full, small = (pictures.detach()[rows] for pictures in self.shown)
        return full, small

    def with_graph(self, rows: slice) -> Pair:
        """Some of the shown pictures, differentiable in G: made again where the batch was made in parts."""
        if self.shown[0].requires_grad:
            return self.shown
        with replaying(self._generator):
            made = self._latents.rows(rows).pictures(self._generator)
        full, small = self._draws
        return self._augmented(made, (full.rows(rows), small.rows(rows)))

    @torch.no_grad()
    def metadata_ratio(self) -> Tensor:
        """Variance of the projected metadata over that of the noise, a scalar."""
        noise_NZ = self._latents.noise_NZ
        return (self._latents.latent(self._generator) - noise_NZ).var() / noise_NZ.var()
