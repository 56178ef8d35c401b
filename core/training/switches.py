"""The switches that steady D when pictures are few, gathered: those that are on, and what they remember.

Each has its own file and source: `adaptive`, `apa`, `lecam`. With all of them off this changes no number.
Shapes: N pictures, K logits a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.training.adaptive import AdaptiveProbability
from core.training.lecam import LeCam

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from core.schemas.training import SlaeganConfig


class Switches:
    """Adaptive augmentation, APA and LeCam of one run; None where they are off.

    Args:
        config: of the job.
        device: of D's logits.
    """

    def __init__(self, config: SlaeganConfig, *, device: torch.device) -> None:
        def follow(target: float | None, images: int) -> AdaptiveProbability | None:
            if target is None:
                return None
            return AdaptiveProbability(target, images=images, batch=config.batch, device=device)

        self.adaptive = follow(config.adaptive_target, config.adaptive_images)
        self.apa = follow(config.apa_target, config.apa_images)
        self.lecam: LeCam | None = None
        if config.lecam > 0:
            self.lecam = LeCam(config.lecam, start=config.lecam_start_iterations, device=device)

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

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of those that are on; not copies."""
        all_of_them = {"adaptive": self.adaptive, "apa": self.apa, "lecam": self.lecam}
        return {name: switch.state() for name, switch in all_of_them.items() if switch is not None}

    def statistics(self) -> list[Tensor]:
        """The same tensors in a row."""
        return [tensor for state in self.state().values() for tensor in state.values()]

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take over the saved state of the same switches."""
        for name, mine in self.state().items():
            for key, tensor in mine.items():
                tensor.copy_(state[name][key])
