"""The two networks of StyleGAN2: a mapping to styles with a generator of skips, and a residual discriminator.

Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (arXiv 1912.04958); what it takes
over from Karras et al. 2019 (StyleGAN) and 2018 (ProGAN) is named where it is computed.
Shapes: N pictures, C channels, H height, W width; Z latent numbers, S numbers of a style, L places that take one;
K logits a picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.contract import Judgement, PictureGenerator
from core.models.layers import full_precision
from core.models.stylegan2_layers import (
    ACTIVATED,
    SLOPE,
    Blur,
    EqualConv2d,
    EqualLinear,
    StyledConv2d,
    ToPicture,
    minibatch_deviation,
    normalised,
    wide,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.schemas.stylegan2 import Stylegan2Config

_MAPPING_RATE = 0.01
_HALF = math.sqrt(0.5)  # by which the sum of two paths of equal deviation keeps it


def channels_at(side: int, *, config: Stylegan2Config) -> int:
    """Channels of the maps of a side, in both networks: min(base / side, max)."""
    return max(1, min(config.channel_base // side, config.channel_max))


def sides(resolution: int) -> list[int]:
    """Sides of the maps, from 4 up."""
    return [2**power for power in range(2, resolution.bit_length())]


class Mapping(nn.Module):
    """Latents, and labels, to styles.

    Source: StyleGAN, section 2 (8 layers) and appendix C (a hundredth of the learning rate); labels are embedded,
    normalised and put beside the latent.

    Args:
        latent: numbers of a latent, and of a style.
        layers: how many.
        classes: labels it knows; 0 for none.
    """

    def __init__(self, latent: int, *, layers: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, latent) if classes else None
        first = latent * (2 if classes else 1)
        self.layers = nn.ModuleList(
            EqualLinear(first if number == 0 else latent, latent, rate=_MAPPING_RATE, gain=ACTIVATED)
            for number in range(layers)
        )

    def forward(self, latent_NZ: Tensor, labels_N: Tensor | None) -> Tensor:
        """Styles NS, float32."""
        with full_precision(latent_NZ):
            x_NZ = normalised(wide(latent_NZ))
            if self.embedding is not None:
                if labels_N is None:
                    raise ValueError("a generator with labels needs one for each picture")
                x_NZ = torch.cat([x_NZ, normalised(self.embedding(labels_N))], dim=1)
            for layer in self.layers:
                x_NZ = F.leaky_relu(layer(x_NZ), SLOPE)
            return x_NZ


class Generator(PictureGenerator):
    """Latents to pictures: a learned constant, styled convolutions, and a sum of the pictures at all sides.

    Source: StyleGAN2, section 4.1 (skip generator, Fig. 7 b) with the layers of Fig. 2 d.

    Args:
        config: resolution (16 and more), channel_base, channel_max, latent_size, mapping_layers.
        channels: of a picture.
        classes: labels it knows; 0 for none.
        spectral: of the common interface; there is no spectral norm here.
    """

    def __init__(
        self,
        config: Stylegan2Config,
        *,
        channels: int = 3,
        classes: int = 0,
        spectral: bool = True,  # noqa: ARG002 - a deployed generator is the same
    ) -> None:
        super().__init__()
        self.latent_size, self.resolution = config.latent_size, config.resolution
        self._sides = sides(config.resolution)
        counts = {side: channels_at(side, config=config) for side in self._sides}
        style = config.latent_size
        self.mapping = Mapping(style, layers=config.mapping_layers, classes=classes)
        self.start = nn.Parameter(torch.randn(1, counts[4], 4, 4))
        self.ups, self.convs, self.to_pictures = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for side in self._sides:
            count = counts[side]
            if side > self._sides[0]:
                self.ups.append(StyledConv2d(counts[side // 2], count, style=style, up=True))
            self.convs.append(StyledConv2d(count, count, style=style))
            self.to_pictures.append(ToPicture(count, channels, style=style))
        self.enlarge = Blur(channels)
        self.register_buffer("mean_style", torch.zeros(style))
        self.mean_style: Tensor

    @property
    def styled_places(self) -> int:
        """L: convolutions, and the last picture; every other picture shares the style of the next convolution."""
        return 2 * len(self._sides)

    def noise_sides(self) -> list[int]:
        """One plane at 4x4, two at every other side."""
        return [self._sides[0], *(side for side in self._sides[1:] for _ in range(2))]

    def styles(self, latent_NZ: Tensor, labels_N: Tensor | None = None) -> Tensor:
        """What the mapping makes of latents, NS float32."""
        styles_NS: Tensor = self.mapping(latent_NZ, labels_N)
        return styles_NS

    @torch.no_grad()
    def follow(self, styles_NS: Tensor, *, decay: float = 0.995) -> None:
        """Move the mean style towards the mean of a batch's. Source: StyleGAN, appendix B."""
        self.mean_style.lerp_(styles_NS.mean(dim=0), 1 - decay)

    def truncated(self, styles_NS: Tensor, truncation: float) -> Tensor:
        """Styles drawn towards the mean one: mean + psi (w - mean). Source: StyleGAN, appendix B.

        Args:
            styles_NS: from `styles`.
            truncation: psi; 1 changes nothing, 0 leaves the mean style alone.
        """
        return styles_NS if truncation == 1 else torch.lerp(self.mean_style, styles_NS, truncation)

    def synthesise(self, styles_NLS: Tensor, planes: Sequence[Tensor]) -> Tensor:
        """Pictures of styles, as training sees them: NCHW float32, drawn to [-1, 1] by the discriminator alone.

        Args:
            styles_NLS: one for every one of `styled_places`, from coarse to fine, float32.
            planes: N(0, 1), N1HW of the sides of `noise_sides`, any float type.
        """
        noise = iter(planes)
        x_NCHW = self.start.expand(styles_NLS.shape[0], -1, -1, -1)
        x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
        x_NCHW = self.convs[0](x_NCHW, styles_NLS[:, 0], next(noise))
        picture_NCHW: Tensor = self.to_pictures[0](x_NCHW, styles_NLS[:, 1])
        for level, (up, conv, to_picture) in enumerate(
            zip(self.ups, self.convs[1:], self.to_pictures[1:], strict=True)
        ):
            place = 2 * level + 1
            x_NCHW = up(x_NCHW, styles_NLS[:, place], next(noise))
            x_NCHW = conv(x_NCHW, styles_NLS[:, place + 1], next(noise))
            with full_precision(picture_NCHW):
                larger_NCHW = self.enlarge.up(picture_NCHW)
            picture_NCHW = larger_NCHW + to_picture(x_NCHW, styles_NLS[:, place + 2])
        return picture_NCHW

    def render(
        self,
        latent_NZ: Tensor,
        planes: Sequence[Tensor],
        *,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Pictures of latents, to look at: what lies outside of [-1, 1] is cut off, and has no gradient.

        Args:
            latent_NZ: N(0, 1).
            planes: as `synthesise` takes them.
            labels_N: int64, where it knows labels.
            truncation: as `truncated` takes it.

        Returns:
            NCHW float32 in [-1, 1].
        """
        styles_NS = self.truncated(self.styles(latent_NZ, labels_N), truncation)
        return self.synthesise(styles_NS[:, None].expand(-1, self.styled_places, -1), planes).clamp(-1, 1)

    def between(
        self,
        ends_NZ: tuple[Tensor, Tensor],
        planes: Sequence[Tensor],
        *,
        share: float,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """As of every generator, on the straight line from style to style: in their space it is the even way."""
        first_NS, second_NS = (self.styles(latent_NZ, labels_N) for latent_NZ in ends_NZ)
        styles_NS = self.truncated(torch.lerp(first_NS, second_NS, share), truncation)
        return self.synthesise(styles_NS[:, None].expand(-1, self.styled_places, -1), planes).clamp(-1, 1)

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
        """Coarse styles of one latent, those of `from_side` and above of another. Source: StyleGAN, section 3.1."""
        coarse_NS, fine_NS = (
            self.truncated(self.styles(z_NZ, labels_N), truncation) for z_NZ in (latent_NZ, styles_NZ)
        )
        first = 2 * self._sides.index(from_side) - 1  # two places at every side, one at the first
        places = [coarse_NS] * first + [fine_NS] * (self.styled_places - first)
        return self.synthesise(torch.stack(places, dim=1), planes).clamp(-1, 1)


class _Residual(nn.Module):
    """Halve the side: two convolutions beside one of 1x1. Source: StyleGAN2, section 4.1 and Fig. 7 c."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = EqualConv2d(channels_in, channels_in, 3, gain=ACTIVATED)
        self.down = EqualConv2d(channels_in, channels_out, 3, gain=ACTIVATED * _HALF, down=True)
        self.short = EqualConv2d(channels_in, channels_out, 1, gain=_HALF, bias=False, down=True)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        main = F.leaky_relu(self.conv(x_NCHW), SLOPE)
        main = F.leaky_relu(self.down(main), SLOPE)
        short: Tensor = self.short(x_NCHW)
        return main + short


class Discriminator(nn.Module):
    """Judge pictures with one logit each.

    Source: StyleGAN2, section 4.1 (residual discriminator, Fig. 7 c); minibatch deviation before the last
    convolution (ProGAN, section 3); labels by projection (Miyato and Koyama 2018, Eq. 3).

    Args:
        config: resolution (16 and more), channel_base, channel_max.
        channels: of a picture.
        classes: labels it knows; 0 for none.
    """

    def __init__(self, config: Stylegan2Config, *, channels: int = 3, classes: int = 0) -> None:
        super().__init__()
        counts = {side: channels_at(side, config=config) for side in sides(config.resolution)}
        self.stem = EqualConv2d(channels, counts[config.resolution], 1, gain=ACTIVATED)
        self.blocks = nn.ModuleList(
            _Residual(counts[side], counts[side // 2]) for side in reversed(counts) if side > min(counts)
        )
        last = counts[4]
        self.conv = EqualConv2d(last + 1, last, 3, gain=ACTIVATED)
        self.hidden = EqualLinear(last * 4 * 4, last, gain=ACTIVATED)
        self.head = EqualLinear(last, 1)
        self.embedding = nn.Embedding(classes, last) if classes else None

    def first_parts(self, count: int) -> list[nn.Module]:
        """The parts nearest to the picture: the stem, then the blocks in their order."""
        return [self.stem, *self.blocks][:count]

    def forward(self, pictures_NCHW: Tensor, labels_N: Tensor | None = None) -> Judgement:
        """Judge a batch; groups of its pictures are judged together (`minibatch_deviation`).

        Args:
            pictures_NCHW: about [-1, 1], any float type.
            labels_N: int64, where it knows labels.

        Returns:
            Logits N1 float32, and the features at 4x4.
        """
        x_NCHW = pictures_NCHW.contiguous(memory_format=torch.channels_last)
        x_NCHW = F.leaky_relu(self.stem(x_NCHW), SLOPE)
        for block in self.blocks:
            x_NCHW = block(x_NCHW)
        features_NC44 = F.leaky_relu(self.conv(minibatch_deviation(x_NCHW)), SLOPE)
        with full_precision(features_NC44):
            hidden_NC = F.leaky_relu(self.hidden(wide(features_NC44).flatten(1)), SLOPE)
            logits_N1: Tensor = self.head(hidden_NC)
            if self.embedding is not None:
                if labels_N is None:
                    raise ValueError("a discriminator with labels needs one for each picture")
                agreement_N1 = (hidden_NC * self.embedding(labels_N)).sum(dim=1, keepdim=True)
                logits_N1 = logits_N1 + agreement_N1 / math.sqrt(hidden_NC.shape[1])
        return Judgement(logits_NK=logits_N1, features_NCHW=features_NC44)
