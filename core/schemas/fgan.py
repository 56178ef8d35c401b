"""What a user may configure of f-GAN."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from core.schemas.dcgan import ConvolutionalConfig
from core.schemas.models import Source

DivergenceName = Literal["kl", "reverse_kl", "pearson", "hellinger", "jensen_shannon", "gan"]


class FganConfig(ConvolutionalConfig):
    """f-GAN: DCGAN's networks, trained to lower an f-divergence of choice by its variational bound."""

    source: ClassVar[Source] = Source(
        title="f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization",
        authors="Nowozin et al.",
        year=2016,
        arxiv="1606.00709",
    )
    family: Literal["fgan"] = "fgan"
    divergence: DivergenceName = Field(
        "jensen_shannon",
        description="Of real and generated pictures. hellinger: its square; pearson: chi-squared; gan: the original "
        "GAN's objective, Jensen-Shannon's but for constants",
    )
    generator_objective: Literal["non_saturating", "minimise"] = Field(
        "non_saturating",
        description="minimise: Algorithm 1 of the paper, G lowers the bound itself; non_saturating: its section 3.2, "
        "G raises what D says of generated pictures, whose gradient does not vanish while D wins",
    )

    @model_validator(mode="after")
    def _has_a_zero(self) -> Self:
        # Where real and generated pictures are alike, the bound is tight at g_f(V) = f'(1) (Eq. 5): V = 1 for kl, whose
        # g_f is the identity and f'(u) = 1 + log u, and V = 0 for all others.
        if self.divergence == "kl":
            self._refuse_signs("with divergence kl a D that cannot tell says 1, not 0")
        return self
