"""The switches that steady D when pictures are few, gathered: those that are on, and what they remember.

Each has its own file and source: `adaptive`, `apa`, `lecam`. With all of them off this changes no number.
Shapes: N pictures, K logits a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from core.training.adaptive import AdaptiveProbability
from core.training.lecam import LeCam

if TYPE_CHECKING:
    from torch import Tensor

    from core.schemas.training import TrainingConfig


class Switches(nn.Module):
    """Adaptive augmentation, APA and LeCam of one run; None where they are off. What they remember lies in buffers.

    Args:
        config: of the job.
    """

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()

        def follow(target: float | None, images: int) -> AdaptiveProbability | None:
            return None if target is None else AdaptiveProbability(target, images=images, batch=config.batch)

        self.adaptive = follow(config.adaptive_target, config.adaptive_images)
        self.apa = follow(config.apa_target, config.apa_images)
        self.lecam: LeCam | None = None
        if config.lecam > 0:
            self.lecam = LeCam(config.lecam, start=config.lecam_start_iterations)

    def strength(self) -> Tensor | None:
        """With which probability a kind of augmentation is applied; None applies all."""
        return None if self.adaptive is None else self.adaptive.probability

    def on_real(self, logits_NK: Tensor) -> dict[str, Tensor]:
        """What to add to D's loss on real pictures, by name."""
        return {} if self.lecam is None else {"lecam_real": self.lecam.on_real(logits_NK)}

    def on_fake(self, logits_NK: Tensor) -> dict[str, Tensor]:
        """What to add to D's loss on generated pictures, by name."""
        return {} if self.lecam is None else {"lecam_fake": self.lecam.on_fake(logits_NK)}

    def observe(self, *, real_NK: Tensor, fake_NK: Tensor) -> dict[str, Tensor]:
        """End D's step: take in its logits.

        Args:
            real_NK: on what it was shown as real.
            fake_NK: on generated pictures.

        Returns:
            The probabilities that moved, by name, to be told beside the losses.
        """
        if self.lecam is not None:
            self.lecam.update(real_NK=real_NK, fake_NK=fake_NK)
        told = {}
        for name, adaptive in (("augmentation_share", self.adaptive), ("pseudo_share", self.apa)):
            if adaptive is not None:
                adaptive.observe(real_NK)
                told[name] = adaptive.probability
        return told
