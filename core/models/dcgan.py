"""The networks of DCGAN, and with other normalisations those of WGAN, WGAN-GP and f-GAN.

Source: Radford et al. 2015 (arXiv 1511.06434), section 3 and Fig. 1; Gulrajani et al. 2017 (arXiv 1704.00028),
section 4, on why a critic with a gradient penalty has no batch normalisation.
Shapes: N pictures, C channels, H height, W width, K = 1 logit, Z latent numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.contract import Judgement, PictureGenerator
from core.models.layers import SLOPE, batch_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.schemas.dcgan import ConvolutionalConfig, Norm

_FIRST_SIDE = 4
# Channels double with every halving of the side, up to this many times the width: DCGAN's own table at 64 pixels.
_MOST = 8
_DEVIATION = 0.02  # section 4: all weights begin as N(0, 0.02)


class PixelNorm(nn.Module):
    """Divide every position by the root mean square of its channels. Source: Karras et al. 2018, section 4.2."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.rms_norm(x_NCHW.permute(0, 2, 3, 1), x_NCHW.shape[1:2], eps=1e-8).permute(0, 3, 1, 2)


def channels_by_side(resolution: int, *, width: int) -> dict[int, int]:
    """Channels of the feature maps, by their side: width at half of the resolution, doubling down to 4x4.

    Args:
        resolution: a power of two, at least 8.
        width: channels of the largest map, at least 1.
    """
    table, side, channels = {}, resolution // 2, width
    while side >= _FIRST_SIDE:
        table[side] = channels
        side, channels = side // 2, min(2 * channels, _MOST * width)
    return table


class Generator(PictureGenerator):
    """Latent to picture: projected to 4x4, then doubled by transposed 4x4 convolutions; ReLU, and tanh at the end.

    Source: Radford et al. 2015, section 3, Fig. 1. Between 4x4 and half of the resolution every map is normalised.

    Args:
        config: resolution, latent_size, width and generator_norm.
        channels: of the pictures; 16 where they are codes.
        classes: not used: this family takes no labels.
        spectral: not used: no layer has spectral normalisation.
    """

    def __init__(
        self,
        config: ConvolutionalConfig,
        *,
        channels: int = 3,
        classes: int = 0,  # noqa: ARG002 - of every family
        spectral: bool = True,  # noqa: ARG002 - of every family
    ) -> None:
        super().__init__()
        self.latent_size, self.resolution = config.latent_size, config.resolution
        counts = list(reversed(channels_by_side(config.resolution, width=config.width).values()))
        plain = config.generator_norm == "none"
        self.project = nn.Linear(config.latent_size, counts[0] * _FIRST_SIDE**2, bias=plain)
        self.start = nn.Sequential(norm_layer(config.generator_norm, counts[0]), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=plain),
                norm_layer(config.generator_norm, after),
                nn.ReLU(),
            )
            for before, after in pairwise(counts)
        )
        self.to_picture = nn.ConvTranspose2d(counts[-1], channels, 4, stride=2, padding=1)
        _initialise(self)

    def forward(self, latent_NZ: Tensor) -> Tensor:
        """Pictures in [-1, 1], laid out channels-last, of latents N(0, 1)."""
        flat = self.project(latent_NZ)
        x_NCHW = flat.view(flat.shape[0], -1, _FIRST_SIDE, _FIRST_SIDE)
        x_NCHW = self.start(x_NCHW.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x_NCHW = block(x_NCHW)
        return torch.tanh(self.to_picture(x_NCHW))

    def render(
        self,
        latent_NZ: Tensor,
        planes: Sequence[Tensor],  # noqa: ARG002 - it takes none
        *,
        labels_N: Tensor | None = None,  # noqa: ARG002 - it takes none
        truncation: float = 1.0,
    ) -> Tensor:
        """Make pictures.

        Args:
            latent_NZ: N(0, 1).
            planes: empty: it injects no noise.
            labels_N: not used.
            truncation: what the latent is multiplied by.

        Returns:
            N,channels,resolution,resolution in [-1, 1].
        """
        picture_NCHW: Tensor = self(latent_NZ * truncation)
        return picture_NCHW


class Discriminator(nn.Module):
    """One logit a picture: strided 4x4 convolutions with leaky ReLU down to 4x4, and one more over all of it.

    Source: Radford et al. 2015, section 3; the first convolution and the last are not normalised. As a critic, of
    WGAN and WGAN-GP, its output is that logit: no network here ends in a sigmoid, which belongs to the loss.

    Args:
        config: resolution, width and discriminator_norm.
        channels: of the pictures; 16 where they are codes.
        classes: not used: this family takes no labels.
    """

    def __init__(
        self,
        config: ConvolutionalConfig,
        *,
        channels: int = 3,
        classes: int = 0,  # noqa: ARG002 - of every family
    ) -> None:
        super().__init__()
        counts = list(channels_by_side(config.resolution, width=config.width).values())
        plain = config.discriminator_norm == "none"
        first = nn.Conv2d(channels, counts[0], 4, stride=2, padding=1)
        self.blocks = nn.ModuleList([nn.Sequential(first, nn.LeakyReLU(SLOPE))])
        for before, after in pairwise(counts):
            self.blocks.append(
                nn.Sequential(
                    nn.Conv2d(before, after, 4, stride=2, padding=1, bias=plain),
                    norm_layer(config.discriminator_norm, after),
                    nn.LeakyReLU(SLOPE),
                )
            )
        # Without a bias, which would cancel between the two sides of a Wasserstein critic's loss and never learn.
        self.head = nn.Conv2d(counts[-1], 1, _FIRST_SIDE, bias=False)
        _initialise(self)

    def first_parts(self, count: int) -> list[nn.Module]:
        """The convolutions nearest to the picture, each with its normalisation."""
        return list(self.blocks[:count])

    def forward(self, pictures_NCHW: Tensor, labels_N: Tensor | None = None) -> Judgement:  # noqa: ARG002 - it takes none
        """Judge pictures.

        Args:
            pictures_NCHW: in [-1, 1].
            labels_N: not used.

        Returns:
            Logits N1, and the 4x4 features before them.
        """
        x_NCHW = pictures_NCHW.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x_NCHW = block(x_NCHW)
        return Judgement(self.head(x_NCHW).flatten(1), x_NCHW)


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """The normalisation of a feature map.

    Args:
        kind: batch over the pictures of a step, instance over one picture's channel, layer over one picture, pixel
            over the channels of one position, or none. All but batch see one picture at a time.
        channels: of the map.
    """
    match kind:
        case "batch":
            return batch_norm(channels)
        case "instance":
            # A group a channel is the same; torch's own returns wrong gradients for one channels-last picture (2.14).
            return nn.GroupNorm(channels, channels)
        case "layer":
            return nn.GroupNorm(
                1, channels
            )  # over channels and positions together, a scale and shift a channel
        case "pixel":
            return PixelNorm()
        case "none":
            return nn.Identity()


def _initialise(network: nn.Module) -> None:
    """N(0, 0.02) for all kernels and zero for all biases; kernels channels-last, as the pictures are."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):  # transposed convolutions of oneDNN take a contiguous kernel faster
            layer.to(memory_format=torch.channels_last)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, _DEVIATION)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
