"""What the trainer, and whoever draws pictures, asks of the networks of every family.

Shapes: N pictures, Z latent numbers, M metadata numbers, C channels, H height, W width, K logits a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


_PARALLEL = 1e-6  # sine of an angle below which the formula divides by next to nothing


class Judgement(NamedTuple):
    """What a discriminator says of pictures."""

    logits_NK: Tensor
    features_NCHW: Tensor  # the last features before the logits
    decoded: tuple[Tensor, ...] = ()  # pictures that its decoders made of its features, where it has some


class PictureGenerator(nn.Module):
    """Makes pictures of latents; a class of each family derives from it."""

    latent_size: int
    resolution: int
    # Whether its layers compute in the type of the latents; those of others are told by autocast.
    follows_input_type = False

    def noise_sides(self) -> list[int]:
        """Sides of the noise planes that one picture takes, in their order; by default it takes none."""
        return []

    def measured(self) -> PictureGenerator:
        """The network whose batch normalisation is measured for deployment, where what follows it has none."""
        return self

    def draw_noises(self, like_NZ: Tensor, *, generator: torch.Generator | None) -> list[Tensor]:
        """Fresh N(0, 1) noise planes, N1HW, for a batch, in the type and on the device of its latents."""
        return [
            torch.randn(
                like_NZ.shape[0],
                1,
                side,
                side,
                dtype=like_NZ.dtype,
                device=like_NZ.device,
                generator=generator,
            )
            for side in self.noise_sides()
        ]

    def latent(self, noise_NZ: Tensor, metadata_NM: Tensor | None, *, kept_N: Tensor | None = None) -> Tensor:
        """What `render` takes, made of noise and metadata; by default the noise.

        Args:
            noise_NZ: N(0, 1).
            metadata_NM: of training pictures, a row a picture; None for plain noise.
            kept_N: 1 where a row gets its metadata, 0 where it gets the noise alone; None keeps all.
        """
        del metadata_NM, kept_N
        return noise_NZ

    def render(
        self,
        latent_NZ: Tensor,
        planes: Sequence[Tensor],
        *,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Make pictures.

        Args:
            latent_NZ: from `latent`.
            planes: from `draw_noises`.
            labels_N: classes, int64; None where the training is not by class.
            truncation: 0 to 1: how far from the mean latent pictures may lie; 1 changes nothing.

        Returns:
            N3HW in [-1, 1], of the type in which the latents are computed on.
        """
        raise NotImplementedError

    def between(
        self,
        ends_NZ: tuple[Tensor, Tensor],
        planes: Sequence[Tensor],
        *,
        share: float,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Pictures on the way from one latent to another, by default along a great circle (`spherical`).

        Args:
            ends_NZ: latents to come from and to go to.
            planes: of the pictures on the way.
            share: of the way, 0 to 1; at both ends the picture is that of `render`.
            labels_N: as for `render`.
            truncation: as for `render`.
        """
        return self.render(spherical(*ends_NZ, share=share), planes, labels_N=labels_N, truncation=truncation)

    def mix(
        self,
        latent_NZ: Tensor,
        styles_NZ: Tensor,
        planes: Sequence[Tensor],
        *,
        from_side: int,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Pictures of latents on which the style of others acts, where the family's configuration has `mixing_sides`.

        Args:
            latent_NZ: that the layout is of.
            styles_NZ: whose style acts on the feature maps of `from_side` and larger ones.
            planes: of the former.
            from_side: one of `mixing_sides`.
            labels_N: as for `render`.
            truncation: as for `render`, of both.
        """
        raise NotImplementedError


def spherical(first: Tensor, second: Tensor, *, share: float) -> Tensor:
    """A point on the great circle from each row of one tensor to that of another.

    Source: Shoemake 1985, section 3.3 (slerp). Rows are samples of N(0, 1): half way on a straight line they would
    be shorter than any sample, and look averaged. Rows that point the same way, or oppose, are mixed linearly.

    Args:
        first: of any shape; the first dimension is that of samples.
        second: of the same shape.
        share: of the way, 0 to 1.
    """
    if share in {0, 1}:  # to the bit
        return second if share else first
    a, b = first.flatten(1).double(), second.flatten(1).double()
    cosine = nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None]
    angle = cosine.acos()
    from_first, from_second = torch.sin((1 - share) * angle), torch.sin(share * angle)
    straight = angle.sin() < _PARALLEL
    from_first = torch.where(straight, 1 - share, from_first / angle.sin())
    from_second = torch.where(straight, share, from_second / angle.sin())
    return (from_first * a + from_second * b).to(first.dtype).view_as(first)


class PictureDiscriminator(Protocol):
    """Judges pictures; a class of each family is one, and an nn.Module."""

    def __call__(self, pictures_NCHW: Tensor, labels_N: Tensor | None = None) -> Judgement:
        """Judge pictures in [-1, 1], by class where labels are given."""

    def first_parts(self, count: int) -> list[nn.Module]:
        """So many of its parts, the nearest to the picture first."""
