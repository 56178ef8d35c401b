"""FastGAN's baseline by a name of its own, for comparisons."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from core.schemas.models import Source
from core.schemas.slaegan import SlaeganConfig


class FastganBaselineConfig(SlaeganConfig):
    """FastGAN's baseline: its networks without excitation, attention, decoders and metadata, for comparisons."""

    source: ClassVar[Source] = Source(
        title="Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image Synthesis",
        authors="Liu et al.",
        year=2021,
        arxiv="2101.04775",
    )
    # What its parent leaves open is settled here.
    family: Literal["fastgan_baseline"] = "fastgan_baseline"  # type: ignore[assignment]
    attention: Literal[False] = Field(False, description="Off: there is no excitation to attend to")
    metadata: Literal[False] = Field(False, description="Off: latents are noise alone")
    excitation: Literal[False] = Field(False, description="Off in the generator")
    decoders: Literal[False] = Field(False, description="Off: the discriminator only judges")
