"""f-GAN in training: an f-divergence of choice, lowered by its variational bound.

Source: Nowozin, Cseke and Tomioka 2016 (arXiv 1606.00709), section 3; Adam as DCGAN's, whose networks it takes.
Shapes: N pictures, K logits a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.training import divergences
from core.training.dcgan import Dcgan

if TYPE_CHECKING:
    from torch import Tensor

    from core.schemas.fgan import FganConfig


class Fgan(Dcgan):
    """The discriminator raises the bound F of Eq. 7; the generator lowers it, or its saturating part's substitute."""

    config: FganConfig

    def real_loss(self, logits_NK: Tensor) -> Tensor:
        """-E[g_f(V(x))]."""
        return divergences.real_loss(logits_NK, divergence=self.config.divergence)

    def fake_loss(self, logits_NK: Tensor) -> Tensor:
        """E[f*(g_f(V(G(z))))]."""
        return divergences.fake_loss(logits_NK, divergence=self.config.divergence)

    def generator_loss(self, logits_NK: Tensor) -> Tensor:
        """-E[f*(g_f(V(G(z))))] of Algorithm 1, or -E[g_f(V(G(z)))] of section 3.2, as configured."""
        if self.config.generator_objective == "minimise":
            return divergences.minimising_loss(logits_NK, divergence=self.config.divergence)
        return divergences.non_saturating_loss(logits_NK, divergence=self.config.divergence)
