"""DCGAN in training. Source: Radford et al. 2015 (arXiv 1511.06434), sections 3 and 4."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from core.models.dcgan import Discriminator, Generator
from core.training.gan import Gan

if TYPE_CHECKING:
    from core.schemas.dcgan import ConvolutionalConfig
    from core.training.family import Phase

_BETAS = (0.5, 0.999)


class Dcgan(Gan):
    """The non-saturating logistic loss of both networks, and Adam with beta (0.5, 0.999)."""

    generator_class = Generator
    discriminator_class = Discriminator
    config: ConvolutionalConfig

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """Adam of section 4 over the network that steps."""
        return torch.optim.Adam(self.stepping(phase), lr=self.config.learning_rate, betas=_BETAS, fused=True)
