"""The two networks of SAGAN: residual blocks, self-attention, spectral normalisation in both.

Source: Zhang et al. 2019, section 5; the blocks are those of Miyato & Koyama 2018 ("cGANs with projection
discriminator", Fig. 14), on which the paper builds, and the channels those of its networks at 128 pixels, twice as
many at each halving of the side.
Shapes: N pictures, K logits, C channels, H height, W width, Z latent numbers, E = C/8 channels of a query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.contract import Judgement, PictureGenerator
from core.models.layers import SpectralConv2d, UpConv2d
from core.models.self_attention import SelfAttention
from core.models.spectral import BiasedConv2d, DownConv2d, SpectralEmbedding, SpectralLinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.schemas.sagan import SaganConfig

LATENT = 128
_BASE = 64  # channels at the side of the picture
_MOST = 16  # times as many at most, near the latent and the logits
_START = 4


def channels_at(times: int, *, width: float) -> int:
    """Channels of a map whose side is `times` smaller than the picture's, in multiples of 8."""
    return max(8, round(_BASE * min(times, _MOST) * width / 8) * 8)


class ConditionalNorm(nn.Module):
    """Batch normalisation with a gain and an offset of every class.

    Source: de Vries et al. 2017 (conditional batch normalisation), as in SAGAN, section 5. It starts as plain batch
    normalisation: gains 1, offsets 0.

    Args:
        channels: C.
        classes: 0 has one gain and one offset for all.
    """

    def __init__(self, channels: int, *, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=classes == 0)
        self.gain = nn.Embedding(classes, channels) if classes else None
        self.offset = nn.Embedding(classes, channels) if classes else None
        if self.gain is not None and self.offset is not None:
            nn.init.ones_(self.gain.weight)
            nn.init.zeros_(self.offset.weight)

    def forward(self, x_NCHW: Tensor, labels_N: Tensor | None) -> Tensor:
        out: Tensor = self.norm(x_NCHW)
        if self.gain is None or self.offset is None:
            return out
        assert labels_N is not None, "render asked for labels"
        gain, offset = (table(labels_N)[:, :, None, None].to(out.dtype) for table in (self.gain, self.offset))
        return torch.addcmul(offset, out, gain)


class _UpBlock(nn.Module):
    """Twice the side: (norm, ReLU, nearest x2, conv3, norm, ReLU, conv3) + (nearest x2, conv1).

    The short path's 1x1 convolution comes before its enlargement, which is the same and takes a quarter of the work.
    Convolutions before a norm have no bias, which it would subtract again.
    """

    def __init__(self, channels_in: int, channels_out: int, *, classes: int, spectral: bool) -> None:
        super().__init__()
        self.norm_up = ConditionalNorm(channels_in, classes=classes)
        self.up = UpConv2d(channels_in, channels_out, spectral=spectral)
        self.norm_conv = ConditionalNorm(channels_out, classes=classes)
        self.conv = BiasedConv2d(channels_out, channels_out, 3, padding=1, spectral=spectral)
        self.short = SpectralConv2d(channels_in, channels_out, 1, spectral=spectral)

    def forward(self, x_NCHW: Tensor, labels_N: Tensor | None) -> Tensor:
        main = self.up(F.relu(self.norm_up(x_NCHW, labels_N)))
        main = self.conv(F.relu(self.norm_conv(main, labels_N)))
        out: Tensor = main + F.interpolate(self.short(x_NCHW), scale_factor=2, mode="nearest")
        return out


class Generator(PictureGenerator):
    """Latent to picture, with self-attention where the map has `attention_side`.

    Args:
        config: resolution, width, attention_side.
        channels: of a picture.
        classes: that it is told; 0 for none.
        spectral: False for a deployed generator, whose kernels are already normalised.
    """

    latent_size = LATENT

    def __init__(
        self, config: SaganConfig, *, channels: int = 3, classes: int = 0, spectral: bool = True
    ) -> None:
        super().__init__()
        self.resolution, self.classes = config.resolution, classes
        self.attention_side = min(config.attention_side, config.resolution)
        widths = {
            side: channels_at(config.resolution // side, width=config.width)
            for side in _sides(_START, config.resolution)
        }
        self.start = SpectralLinear(LATENT, _START**2 * widths[_START], spectral=spectral)
        self.blocks = nn.ModuleDict(
            {
                str(side): _UpBlock(widths[side // 2], widths[side], classes=classes, spectral=spectral)
                for side in _sides(2 * _START, config.resolution)
            }
        )
        self.attention = SelfAttention(widths[self.attention_side], spectral=spectral)
        self.norm = nn.BatchNorm2d(widths[config.resolution])
        self.to_picture = BiasedConv2d(widths[config.resolution], channels, 3, padding=1, spectral=spectral)
        self.apply(_initialise)

    def render(
        self,
        latent_NZ: Tensor,
        planes: Sequence[Tensor] = (),
        *,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Make pictures in [-1, 1].

        Args:
            latent_NZ: N(0, 1), 128 numbers each.
            planes: none.
            labels_N: a class each, int64 from 0; not looked at by a generator that knows no classes.
            truncation: what the latents are multiplied by.

        Returns:
            N,channels,resolution,resolution.

        Raises:
            ValueError: a generator that knows classes was given no labels.
        """
        del planes
        if self.classes and labels_N is None:
            raise ValueError("a conditional generator needs a label for every picture")
        start: Tensor = self.start(latent_NZ * truncation)
        # Laid out with the channels last, as the convolutions want it.
        x = start.view(start.shape[0], _START, _START, -1).permute(0, 3, 1, 2)
        for side, block in self.blocks.items():
            x = block(x, labels_N)
            if int(side) == self.attention_side:
                x = self.attention(x)
        return torch.tanh(self.to_picture(F.relu(self.norm(x))))


class _DownBlock(nn.Module):
    """Half the side: (ReLU, conv3, ReLU, conv3, mean of 2x2) + (mean of 2x2, conv1).

    The first block, which sees the picture, leaves the first ReLU out; the last keeps the side, its channels, and has
    a bare short path. The mean comes first in the short path, which is the same and takes a quarter of the work.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, first: bool = False, down: bool = True
    ) -> None:
        super().__init__()
        self.first = first
        hidden = channels_out if first else channels_in
        self.conv = BiasedConv2d(channels_in, hidden, 3, padding=1, spectral=True)
        self.down = (
            DownConv2d(hidden, channels_out, spectral=True)
            if down
            else BiasedConv2d(hidden, channels_out, 3, padding=1, spectral=True)
        )
        self.short = SpectralConv2d(channels_in, channels_out, 1, spectral=True) if down else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        main = self.conv(x_NCHW if self.first else F.relu(x_NCHW))
        out: Tensor = self.down(F.relu(main))
        short = x_NCHW if self.short is None else self.short(F.avg_pool2d(x_NCHW, 2))
        return out + short


class Discriminator(nn.Module):
    """Judge pictures: one logit each, to which a projection on the class is added where classes are told.

    Source: SAGAN, section 5; Miyato & Koyama 2018, Eq. 11: logit = y^T V phi(x) + psi(phi(x)), in which phi sums the
    last features over space.

    Args:
        config: resolution, width, attention_side; attention is at half the picture's side at most, where maps begin.
        channels: of a picture.
        classes: that it is told; 0 for none.
    """

    def __init__(self, config: SaganConfig, *, channels: int = 3, classes: int = 0) -> None:
        super().__init__()
        attention_side = min(config.attention_side, config.resolution // 2)
        self.parts = nn.Sequential()
        side: int = config.resolution
        count = channels
        while side > _START:
            out = channels_at(config.resolution // side, width=config.width)
            self.parts.append(_DownBlock(count, out, first=side == config.resolution))
            side, count = side // 2, out
            if side == attention_side:
                self.parts.append(SelfAttention(count, spectral=True))
        self.parts.append(_DownBlock(count, count, down=False))
        self.head = SpectralLinear(count, 1, spectral=True)
        self.projection = SpectralEmbedding(classes, count, spectral=True) if classes else None
        self.apply(_initialise)

    def first_parts(self, count: int) -> list[nn.Module]:
        """The parts nearest to the picture: blocks and the attention between them, in their order."""
        return list(self.parts)[:count]

    def forward(self, pictures_NCHW: Tensor, labels_N: Tensor | None = None) -> Judgement:
        """Judge pictures in [-1, 1].

        Args:
            pictures_NCHW: channels-last.
            labels_N: a class each, int64 from 0; not looked at by a discriminator that knows no classes.

        Raises:
            ValueError: a discriminator that knows classes was given no labels.
        """
        features_NCHW = F.relu(self.parts(pictures_NCHW))
        summed_NC = features_NCHW.sum(dim=(2, 3))
        logits_NK = self.head(summed_NC)
        if self.projection is not None:
            if labels_N is None:
                raise ValueError("a conditional discriminator needs a label for every picture")
            along_N = (self.projection(labels_N) * summed_NC).sum(dim=1)
            logits_NK = logits_NK + along_N[:, None]
        return Judgement(logits_NK, features_NCHW)


def _sides(start: int, end: int) -> list[int]:
    return [start << doubling for doubling in range((end // start).bit_length())]


def _initialise(layer: nn.Module) -> None:
    """Glorot's uniform weights, as the paper's code."""
    if isinstance(layer, SpectralConv2d):
        nn.init.xavier_uniform_(layer.weight)
