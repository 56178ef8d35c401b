"""What a backtracking's number means: how it was computed. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from core.metrics.protocol import PREPARATION, Preparation, hash_of
from core.schemas.sent import Frozen
from core.weights import VGG16_SHA256

if TYPE_CHECKING:
    from core.schemas.evaluations import BacktrackingIn
    from core.schemas.training import TrainingConfig


class BacktrackingProtocol(Frozen):
    """Everything that decides the numbers of one backtracking but the generator and the pictures."""

    kind: Literal["backtracking"] = "backtracking"
    version: Literal[1] = 1
    loss: Literal["LPIPS + 0.2 mean square difference in [-1, 1], of 2x2 means"] = (
        "LPIPS + 0.2 mean square difference in [-1, 1], of 2x2 means"
    )
    optimiser: Literal["Adam, 0.1, from a random latent"] = "Adam, 0.1, from a random latent"
    steps: int
    of: Literal["training", "held_out"]
    pictures: int = Field(ge=1)  # evenly chosen
    seed: int
    resolution: int
    real_preparation: Preparation
    lpips: Literal["vgg16 v0.1, fp32, of whole pictures"] = "vgg16 v0.1, fp32, of whole pictures"
    lpips_weights_sha256: str = VGG16_SHA256

    def hash(self) -> str:
        """As of a MetricProtocol."""
        return hash_of(self)


def planned_backtracking(
    config: TrainingConfig, asked: BacktrackingIn, *, image_count: int
) -> BacktrackingProtocol:
    """The protocol of a backtracking that somebody asks for.

    Args:
        config: of the job.
        asked: of pictures of which there are `image_count`.
        image_count: of the training, or kept from it, as asked.
    """
    return BacktrackingProtocol(
        steps=asked.steps,
        of=asked.of,
        pictures=min(asked.pictures, image_count),
        seed=asked.seed,
        resolution=config.resolution,
        real_preparation=PREPARATION[config.fit],
    )
