"""What a user may configure of the Wasserstein GANs: with clipped weights, and with a gradient penalty."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from core.schemas.dcgan import ConvolutionalConfig
from core.schemas.models import Source


class WassersteinConfig(ConvolutionalConfig):
    """What both have: a critic that is several steps ahead of the generator."""

    batch: int = Field(
        16, ge=2, le=256, description="Pictures a step; an iteration has several of the critic"
    )
    discriminator_steps: int = Field(
        5, ge=1, le=20, description="Steps of the critic, each on new pictures, to one of the generator"
    )

    @model_validator(mode="after")
    def _has_no_zero(self) -> Self:
        self._refuse_signs(
            "a Wasserstein critic is defined but for a constant, so that its sign says nothing of overfitting"
        )
        return self


class WganConfig(WassersteinConfig):
    """WGAN: a critic with clipped weights estimates the earth mover's distance; RMSprop."""

    source: ClassVar[Source] = Source(
        title="Wasserstein GAN", authors="Arjovsky et al.", year=2017, arxiv="1701.07875"
    )
    family: Literal["wgan"] = "wgan"
    learning_rate: float = Field(
        5e-4,
        gt=0,
        le=1e-1,
        description="Of both networks, by RMSprop: without momentum, which does harm here. 5e-5 in the paper",
    )
    clip: float = Field(
        0.01,
        gt=0,
        le=1,
        description="All of the critic's parameters are clipped to this size after each of its steps",
    )


class WganGpConfig(WassersteinConfig):
    """WGAN-GP: a critic whose gradient is penalised where its length is not one; Adam."""

    source: ClassVar[Source] = Source(
        title="Improved Training of Wasserstein GANs",
        authors="Gulrajani et al.",
        year=2017,
        arxiv="1704.00028",
    )
    family: Literal["wgan_gp"] = "wgan_gp"
    # Batch normalisation would mix the pictures whose gradients are penalised one by one (section 4).
    discriminator_norm: Literal["instance", "layer", "pixel", "none"] = Field(
        "layer",
        description="Normalisation of the critic's feature maps but the first, of each picture by itself",
    )
    learning_rate: float = Field(
        5e-4, gt=0, le=1e-1, description="Of both networks, by Adam (0, 0.9). 1e-4 in the paper"
    )
    # A critic of slope one measures in root sums of squares: a random brightness moves a picture of 64 pixels by up to
    # 55, more than real and generated ones differ by, and its estimate would be mostly of that.
    augmentation: tuple[Literal["color", "translation", "cutout"], ...] = Field(
        ("translation",),
        description="Differentiable augmentations (DiffAugment); colour drowns what this critic measures",
    )
    gradient_penalty: float = Field(10.0, ge=0, le=1e4, description="Weight of the penalty, lambda")
