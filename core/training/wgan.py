"""WGAN and WGAN-GP in training: a critic estimates the earth mover's distance, several steps ahead of G.

Source: Arjovsky, Chintala and Bottou 2017 (arXiv 1701.07875), Algorithm 1; Gulrajani et al. 2017 (arXiv 1704.00028),
Algorithm 1.
Shapes: N pictures, K logits a picture, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.models.dcgan import Discriminator, Generator
from core.training.gan import Gan
from core.training.penalties import gradient_penalty
from core.training.rmsprop import RMSprop

if TYPE_CHECKING:
    from core.schemas.wgan import WassersteinConfig, WganConfig, WganGpConfig
    from core.training.family import Phase
    from core.training.gan import Batch

_PENALTY_BETAS = (0.0, 0.9)


@torch.no_grad()
def clip_weights(network: nn.Module, *, limit: float) -> None:
    """Bring every parameter that learns, biases and normalisations' included, into [-limit, limit], in place.

    Source: Arjovsky et al. 2017, Algorithm 1, line 7.

    Args:
        network: the critic.
        limit: c, above 0.
    """
    parameters: list[Tensor] = [p for p in network.parameters() if p.requires_grad]
    torch._foreach_clamp_min_(parameters, -limit)
    torch._foreach_clamp_max_(parameters, limit)


class Wasserstein(Gan):
    """The losses of both: E[f(x)] - E[f(G(z))] is raised by the critic f and lowered by G (Eq. 2 and 3)."""

    generator_class = Generator
    discriminator_class = Discriminator
    config: WassersteinConfig

    def real_loss(self, logits_NK: Tensor) -> Tensor:
        """-E[f(x)], float32."""
        return -logits_NK.float().mean()

    def fake_loss(self, logits_NK: Tensor) -> Tensor:
        """E[f(G(z))], float32."""
        return logits_NK.float().mean()

    def generator_loss(self, logits_NK: Tensor) -> Tensor:
        """-E[f(G(z))], float32."""
        return -logits_NK.float().mean()


class Wgan(Wasserstein):
    """A critic whose weights are clipped, which bounds its slope; RMSprop, since momentum made it unstable."""

    config: WganConfig

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """RMSprop over the network that steps."""
        return RMSprop(self.stepping(phase), lr=self.config.learning_rate)

    def stepped(self, phase: Phase) -> None:
        """Clip the critic after its step."""
        if phase.name == "discriminator":
            clip_weights(self.discriminator, limit=self.config.clip)


class WganGp(Wasserstein):
    """A critic whose gradient is held near length one between real and generated pictures; Adam (0, 0.9)."""

    config: WganGpConfig

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """Adam of Algorithm 1 over the network that steps."""
        return torch.optim.Adam(
            self.stepping(phase), lr=self.config.learning_rate, betas=_PENALTY_BETAS, fused=True
        )

    def penalties(self, batch: Batch) -> dict[str, Tensor]:
        """Lambda E[(|grad f(x')| - 1)^2] (Eq. 3), in float32 whatever the networks compute in.

        The critic's plain forward: a compiled one has no second derivatives.
        """
        if self.config.gradient_penalty == 0:
            return {}
        penalty = gradient_penalty(
            lambda pictures_N3HW: self.discriminator.forward(pictures_N3HW, batch.labels_N).logits_NK,
            real_NCHW=batch.real_N3HW,
            fake_NCHW=batch.fake_N3HW,
            weight=self.config.gradient_penalty,
            generator=self.sources.device,
        )
        return {"gradient_penalty": penalty}
