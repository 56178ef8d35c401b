"""SAGAN in training. Source: Zhang et al. 2019 (arXiv 1805.08318), sections 3 to 5."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core.models.sagan import Discriminator, Generator
from core.training import losses
from core.training.attention_sheet import attention_sheet
from core.training.gan import Gan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from core.schemas.sagan import SaganConfig
    from core.training.deployed import DeployedGenerator
    from core.training.family import Phase

_BETAS = (0.0, 0.9)


class Sagan(Gan):
    """The hinge losses of Eq. 4, and Adam with beta (0, 0.9) at two learning rates (section 4.2, TTUR)."""

    generator_class = Generator
    discriminator_class = Discriminator
    config: SaganConfig

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """Adam of section 5: 0.0001 for the generator, 0.0004 for the discriminator by default."""
        rates = {"generator": self.config.generator_rate, "discriminator": self.config.discriminator_rate}
        return torch.optim.Adam(self.stepping(phase), lr=rates[phase.name], betas=_BETAS, fused=True)

    def extras(self, deployed: DeployedGenerator) -> Mapping[str, Callable[[Path], None]]:
        """Where the generator looks: Fig. 5."""
        return {"attention": partial(attention_sheet, deployed=deployed)}

    def real_loss(self, logits_NK: Tensor) -> Tensor:
        """First term of L_D, Eq. 4: -E[min(0, -1 + D(x, y))]."""
        return losses.hinge_real(logits_NK, torch.ones_like(logits_NK))

    def fake_loss(self, logits_NK: Tensor) -> Tensor:
        """Second term of L_D, Eq. 4: -E[min(0, -1 - D(G(z), y))]."""
        return losses.hinge_fake(logits_NK, torch.ones_like(logits_NK))

    def generator_loss(self, logits_NK: Tensor) -> Tensor:
        """L_G, Eq. 4: -E[D(G(z), y)]."""
        return losses.generator_loss(logits_NK)
