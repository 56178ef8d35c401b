"""SAGAN's configuration."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, StrictBool

from core.schemas.gan import GanConfig
from core.schemas.models import Labels, Source
from core.schemas.training import by_resolution

_WIDTH = {64: 0.5, 128: 0.5}


class SaganConfig(GanConfig):
    """SAGAN: residual networks with self-attention, both under spectral normalisation, at two learning rates."""

    source: ClassVar[Source] = Source(
        title="Self-Attention Generative Adversarial Networks",
        authors="Zhang et al.",
        year=2018,
        arxiv="1805.08318",
    )
    labels: ClassVar[Labels] = "taken"
    architecture: ClassVar[tuple[str, ...]] = (
        "family",
        "resolution",
        "width",
        "conditional",
        "attention_side",
    )

    family: Literal["sagan"] = "sagan"
    resolution: Literal[64, 128, 256] = Field(
        64, description="Side of the square pictures, in pixels; the paper's is 128"
    )
    width: float = Field(
        default_factory=by_resolution(_WIDTH, 1.0),
        ge=0.125,
        le=1.0,
        description="Scales every channel count; 0.5 by default at 64 and 128, else 1 as in the paper",
    )
    batch: int = Field(
        16, ge=2, le=256, description="Pictures an iteration; the paper's 256 need a large GPU"
    )
    conditional: StrictBool = Field(
        False,
        description="Tell both networks the class of each picture: conditional batch normalisation in the generator, "
        "projection in the discriminator. The dataset must have labels",
    )
    attention_side: Literal[16, 32, 64] = Field(
        32,
        description="Side of the feature maps that get self-attention, in both networks. The discriminator's largest "
        "maps are half as large as the pictures",
    )
    generator_rate: float = Field(1e-4, gt=0, le=1e-1, description="Learning rate of the generator")
    discriminator_rate: float = Field(
        4e-4,
        gt=0,
        le=1e-1,
        description="Learning rate of the discriminator: higher, so that one step to each of the generator's suffices "
        "(TTUR)",
    )

    @property
    def needs_labels(self) -> bool:
        return self.conditional
