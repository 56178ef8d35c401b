"""What a user may configure of DCGAN, and what the other families of strided convolutions share with it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.schemas.gan import GanConfig
from core.schemas.models import Labels, Source
from core.schemas.training import MAX_IMAGES, by_resolution

Norm = Literal["batch", "instance", "layer", "pixel", "none"]


class ConvolutionalConfig(GanConfig):
    """The networks of DCGAN, whatever they are trained with."""

    labels: ClassVar[Labels] = "ignored"
    discriminator_only: ClassVar[tuple[str, ...]] = ("discriminator_norm",)
    architecture: ClassVar[tuple[str, ...]] = (
        *("family", "resolution", "latent_size", "width", "generator_norm", "discriminator_norm"),
    )

    resolution: Literal[64, 128, 256, 512, 1024] = Field(
        64, description="Side of the square pictures, in pixels"
    )
    batch: int = Field(32, ge=2, le=256, description="Pictures a step")
    total_images: int = Field(
        default_factory=by_resolution({64: 96_000}, 400_000),
        ge=2,
        le=MAX_IMAGES,
        description="Training ends when this many real pictures were seen",
    )
    latent_size: int = Field(100, ge=2, le=1024, description="Numbers of the latent, each N(0, 1)")
    width: int = Field(
        default_factory=by_resolution({64: 32}, 64),
        ge=4,
        le=256,
        description="Channels of the largest feature maps; they double with every halving, up to eightfold. 32 by "
        "default at 64 pixels, else 64; 128 is the paper's",
    )
    generator_norm: Literal["batch", "pixel", "none"] = Field(
        "batch", description="Normalisation of the generator's feature maps"
    )
    discriminator_norm: Norm = Field(
        "batch", description="Normalisation of the discriminator's feature maps but the first"
    )
    learning_rate: float = Field(2e-4, gt=0, le=1e-1, description="Of both networks")


class DcganConfig(ConvolutionalConfig):
    """DCGAN: strided convolutions with batch normalisation, and the non-saturating logistic loss."""

    source: ClassVar[Source] = Source(
        title="Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
        authors="Radford et al.",
        year=2015,
        arxiv="1511.06434",
    )
    family: Literal["dcgan"] = "dcgan"
