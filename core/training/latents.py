"""What the generator of SLAE-GAN starts from: noise, the metadata of real pictures, and noise planes.

Source: SLAE-GAN, section 3.2 and Fig. 4 (docs/method.md has our reading).
Shapes: N pictures, Z latent numbers, M rows of the bank, F metadata features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from core.models.slaegan import LATENT

if TYPE_CHECKING:
    from torch import Tensor

    from core.models.slaegan import Generator


@dataclass(frozen=True)
class Latents:
    """The draws of one batch; the first dimension of each is the picture.

    Args:
        noise_NZ: N(0, 1), float32.
        metadata_NF: standardised features; None without metadata.
        kept_N: 1 where a picture gets its metadata, 0 where it gets the noise alone; None keeps all.
        planes: noise planes in the type to compute in.
        dtype: that type.
    """

    noise_NZ: Tensor
    metadata_NF: Tensor | None
    kept_N: Tensor | None
    planes: tuple[Tensor, ...]
    dtype: torch.dtype

    def rows(self, rows: slice | Tensor) -> Latents:
        """Those of some of the pictures."""
        return Latents(
            noise_NZ=self.noise_NZ[rows],
            metadata_NF=None if self.metadata_NF is None else self.metadata_NF[rows],
            kept_N=None if self.kept_N is None else self.kept_N[rows],
            planes=tuple(plane[rows] for plane in self.planes),
            dtype=self.dtype,
        )

    def latent(self, generator: Generator) -> Tensor:
        """Noise plus projected metadata, NZ float32, differentiable in the projection."""
        return generator.latent(self.noise_NZ, self.metadata_NF, kept_N=self.kept_N)

    def pictures(self, generator: Generator) -> tuple[Tensor, Tensor]:
        """What the generator makes of them: at full resolution and at the small side."""
        made: tuple[Tensor, Tensor] = generator(self.latent(generator).to(self.dtype), self.planes)
        return made


def draw_latents(
    generator: Generator,
    *,
    metadata_MF: Tensor | None,
    rows_N: Tensor,
    dropout: float,
    dtype: torch.dtype,
    draws: torch.Generator | None,
) -> Latents:
    """Draw for a batch.

    Args:
        generator: knows the planes that it takes.
        metadata_MF: of all training pictures, standardised; None without metadata.
        rows_N: whose metadata each picture gets.
        dropout: share of pictures that get the noise alone.
        dtype: to compute in.
        draws: source of the draws, on the device of the rows.
    """
    count, device = rows_N.shape[0], rows_N.device
    noise_NZ = torch.randn(count, LATENT, device=device, generator=draws)
    metadata_NF = kept_N = None
    if metadata_MF is not None:
        metadata_NF = metadata_MF[rows_N]
        if dropout > 0:
            kept_N = (torch.rand(count, device=device, generator=draws) >= dropout).float()
    planes = tuple(generator.draw_noises(noise_NZ.to(dtype), generator=draws))
    return Latents(noise_NZ, metadata_NF, kept_N, planes, dtype)
