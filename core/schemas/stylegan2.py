"""StyleGAN2's configuration."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, StrictBool

from core.schemas.gan import GanConfig
from core.schemas.models import Labels, Source
from core.schemas.training import by_resolution

_BASE = {64: 2_048, 128: 8_192}
_MOST = {64: 128, 128: 256}
_LATENT = {64: 256, 128: 256}


def usual_r1_gamma(side: int, *, batch: int) -> float:
    """The heuristic of Karras et al. 2020 (StyleGAN2-ADA), appendix C: 0.0002 pixels / batch."""
    return 0.0002 * side**2 / batch


def _gamma(data: dict[str, Any]) -> float:
    return usual_r1_gamma(data.get("resolution", 256), batch=data.get("batch", 8))


def _half_life(data: dict[str, Any]) -> int:
    """Of the same appendix: 10,000 pictures at a batch of 32, in proportion."""
    return int(data.get("batch", 8)) * 10_000 // 32


class Stylegan2Config(GanConfig):
    """StyleGAN2: styles that scale the kernels of a generator, with R1 and path length as lazy penalties."""

    source: ClassVar[Source] = Source(
        title="Analyzing and Improving the Image Quality of StyleGAN",
        authors="Karras et al.",
        year=2019,
        arxiv="1912.04958",
    )
    labels: ClassVar[Labels] = "taken"
    architecture: ClassVar[tuple[str, ...]] = (
        *(
            "family",
            "resolution",
            "channel_base",
            "channel_max",
            "latent_size",
            "mapping_layers",
            "conditional",
        ),
    )

    family: Literal["stylegan2"] = "stylegan2"
    conditional: StrictBool = Field(False, description="Train by the classes of the dataset")
    channel_base: int = Field(
        default_factory=by_resolution(_BASE, 16_384),
        ge=64,
        le=65_536,
        description="A map of side s has channel_base / s channels, at most channel_max; 32768 is the paper's, 16384 "
        "its published half",
    )
    channel_max: int = Field(
        default_factory=by_resolution(_MOST, 512), ge=8, le=1_024, description="Channels of a map at most"
    )
    latent_size: int = Field(
        default_factory=by_resolution(_LATENT, 512),
        ge=8,
        le=1_024,
        description="Numbers of a latent, and of a style",
    )
    mapping_layers: int = Field(8, ge=1, le=16, description="Layers from latents to styles")
    learning_rate: float = Field(
        2.5e-3,
        gt=0,
        le=1e-1,
        description="Of both networks, before the correction for the steps of the lazy penalties",
    )
    noise_rate: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Learning rate of the strengths of the noise as a share of learning_rate; 1: as all other weights, "
        "as in the paper",
    )
    style_mixing: float = Field(
        0.9, ge=0, le=1, description="Share of generated pictures whose fine styles are another latent's"
    )
    r1_gamma: float = Field(
        default_factory=_gamma,
        ge=0,
        le=1_000,
        description="Weight of R1: half of this times the squared gradient of D's logit on real pictures. "
        "0.0002 * pixels / batch by default. 0: off",
    )
    r1_every: int = Field(16, ge=1, le=256, description="Iterations from one step of R1 to the next")
    path_weight: float = Field(
        2.0,
        ge=0,
        le=100,
        description="Weight of the path length penalty: a step in style moves a picture equally far everywhere. 0: off",
    )
    path_every: int = Field(8, ge=1, le=256, description="Iterations from one step of it to the next")
    ema: Literal["ramped", "constant"] = Field(
        "ramped",
        description="Half-life of the average. ramped: at most a twentieth of the pictures seen; constant: "
        "ema_half_life_images from the start",
    )
    ema_half_life_images: int = Field(
        default_factory=_half_life,
        ge=1,
        le=1_000_000,
        description="Pictures after which half of the average is new; 312.5 batches by default",
    )

    @property
    def needs_labels(self) -> bool:
        return self.conditional

    @property
    def mixing_sides(self) -> tuple[int, ...]:
        """All but the first: from 4x4 on the whole picture would be the other's."""
        return tuple(2**power for power in range(3, self.resolution.bit_length()))
