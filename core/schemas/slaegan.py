"""SLAE-GAN's configuration."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, StrictBool

from core.schemas.models import Source
from core.schemas.training import TrainingConfig, by_resolution

_WIDTH = {64: 0.5, 128: 0.5}
_FASTGAN_MIN = 256  # the published sizes begin here


class SlaeganConfig(TrainingConfig):
    """SLAE-GAN: FastGAN with spatial attention in its excitation, and VGG-16 metadata added to the noise."""

    source: ClassVar[Source] = Source(
        title="Rapid Generation of Adversarial Networks Based on Spatial Attention Mechanism",
        authors="Wu & Xu",
        year=2023,
    )
    discriminator_only: ClassVar[tuple[str, ...]] = ("decoders",)
    architecture: ClassVar[tuple[str, ...]] = (
        *("family", "resolution", "width", "attention", "metadata", "excitation", "decoders", "output_tanh"),
    )

    family: Literal["slaegan"] = "slaegan"
    width: float = Field(
        default_factory=by_resolution(_WIDTH, 1.0),
        ge=0.125,
        le=1.0,
        description="Scales every channel count; 0.5 by default at 64 and 128, else 1",
    )
    learning_rate: float = Field(2e-4, gt=0, le=1e-1, description="Of both networks, by Adam (0.5, 0.999)")
    attention: StrictBool = Field(True, description="Spatial attention in the generator's excitation (SLAE)")
    metadata: StrictBool = Field(
        True, description="VGG-16 relu5_3 features of the training pictures added to the noise"
    )
    metadata_dropout: float = Field(0.1, ge=0, le=1, description="Share of latents that get plain noise only")
    metadata_rate: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Learning rate of the metadata's projection as a share of learning_rate; 1: as all other weights",
    )
    excitation: StrictBool = Field(True, description="Skip-layer excitation in the generator")
    decoders: StrictBool = Field(True, description="Self-supervised decoders on the discriminator")
    output_tanh: StrictBool = Field(
        True,
        description="tanh on the generator's pictures; false: at 1024 only, as in FastGAN's published code",
    )
    coverage: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Weight of the coverage term: every real picture pulls at the generated picture nearest to it "
        "(RS-IMLE). 0: off",
    )
    coverage_pool: int = Field(
        4, ge=1, le=64, description="Generated pictures to choose from, in batches; they cost a forward each"
    )
    coverage_radius: float = Field(
        0.1,
        ge=0,
        le=2,
        description="A generated picture nearer than this to a real one is not pulled any closer: root mean "
        "square difference of their 16x16 means, in which black and white differ by 2",
    )
    hinge_margin: Literal["random", "one"] = Field(
        "random", description="random: U[0.8, 1] per logit (FastGAN); one: 1"
    )

    @property
    def uses_metadata(self) -> bool:
        return self.metadata

    @property
    def plain_share(self) -> float:
        return self.metadata_dropout if self.metadata else 1.0

    @property
    def uses_perceptual(self) -> bool:
        return self.decoders or self.coverage > 0

    @property
    def mixing_sides(self) -> tuple[int, ...]:
        """Those whose maps the skip-layer excitation gates."""
        if not self.excitation:
            return ()
        if self.resolution <= _FASTGAN_MIN:
            return (self.resolution // 4, self.resolution // 2, self.resolution)
        return (64, 128, 256, 512)
