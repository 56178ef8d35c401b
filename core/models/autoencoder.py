"""Pictures to small codes and back, and the discriminator that sharpens the way back.

Source: Liu et al., "An Acceleration Framework for High Resolution Image Synthesis", section 3.1 and Fig. 3(a): an
encoder F with a tanh at its end, a decoder H and a picture discriminator D, all fully convolutional and, but for D,
without normalisation (section 3.3), so that what was trained on small pictures serves larger ones. The paper gives no
layers; these are ours: a strided convolution for every halving, residual blocks at the code's side where they cost
least, and the mirror image of that in the decoder.
Shapes: N pictures, C channels, H height, W width; h, w a code's sides; Z latent numbers; K logits a picture.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.contract import PictureGenerator
from core.models.layers import SLOPE, SpectralConv2d

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CODE_CHANNELS = 16
_WIDEST = 4  # times the channels at full size; beyond it a halving does not widen
_RESIDUAL_BLOCKS = 2
_JUDGING = (1, 2, 4)  # channels of D's maps, in multiples


class Encoder(nn.Module):
    """A picture to its code (F of the paper's Eq. 1).

    Args:
        factor: how many times smaller the code's side is: 2, 4, 8 or 16.
        channels: at full size; doubled by every halving, at most four times.
    """

    def __init__(self, *, factor: int, channels: int) -> None:
        super().__init__()
        self.factor = factor
        widths = _widths(factor, channels)
        layers: list[nn.Module] = []
        before = 3
        for width in widths[1:]:
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
            before = width
        layers += [_Residual(before) for _ in range(_RESIDUAL_BLOCKS)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, CODE_CHANNELS, 3, padding=1))
        _initialise(self)

    def forward(self, pictures_N3HW: Tensor) -> Tensor:
        """Codes in [-1, 1].

        Args:
            pictures_N3HW: in [-1, 1], sides divisible by the factor.

        Returns:
            N,16,H/factor,W/factor in the type computed in.
        """
        code_NChw: Tensor = self.layers(pictures_N3HW)
        return torch.tanh(code_NChw)


class Decoder(nn.Module):
    """A code to its picture (H of the paper's Eq. 1). The arguments are the encoder's."""

    def __init__(self, *, factor: int, channels: int) -> None:
        super().__init__()
        self.factor = factor
        widths = _widths(factor, channels)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(CODE_CHANNELS, widths[0], 3, padding=1)]
        layers += [_Residual(widths[0]) for _ in range(_RESIDUAL_BLOCKS)]
        for before, width in pairwise(widths):
            # Every output pixel meets two by two inputs: even kernels of twice the stride leave no chequered traces.
            layers += [
                nn.LeakyReLU(SLOPE),
                nn.ConvTranspose2d(before, width, 4, stride=2, padding=1),
            ]
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(SLOPE), nn.Conv2d(widths[-1], 3, 3, padding=1))
        _initialise(self)

    def forward(self, codes_NChw: Tensor) -> Tensor:
        """Pictures N3HW in [-1, 1] of codes in [-1, 1], factor times larger."""
        pictures_N3HW: Tensor = self.layers(codes_NChw)
        return torch.tanh(pictures_N3HW)


class PictureDiscriminator(nn.Module):
    """Tell pictures from decoded ones, place by place: a logit for every 8x8 of pixels (D of Eq. 2 and 4).

    The paper leaves its layers open. Ours judge places, since L1 settles the whole and what it leaves to sharpen is
    local, and have spectral norm, so that the weight alpha means the same throughout the training.

    Args:
        channels: of the first map.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        before, layers = 3, list[nn.Module]()
        for times in _JUDGING:
            conv = SpectralConv2d(before, times * channels, 4, stride=2, padding=1, spectral=True)
            layers += [conv, nn.LeakyReLU(SLOPE)]
            before = times * channels
        self.layers = nn.Sequential(*layers, SpectralConv2d(before, 1, 3, padding=1, spectral=True))

    def forward(self, pictures_N3HW: Tensor) -> Tensor:
        """Logits NK in the type of the pictures; K grows with their size."""
        logits_N1hw: Tensor = self.layers(pictures_N3HW)
        return logits_N1hw.flatten(1)


class DecodingGenerator(PictureGenerator):
    """A generator of codes, the decoder that makes pictures of them, and the encoder that goes with it.

    Source: section 3.2 and Fig. 2(b). The encoder makes no pictures; it lies here so that whoever has the network can
    train on other pictures' codes without training the way to them again (section 4.2: they are trained once).

    Args:
        pair: makes codes of 16 channels.
        factor: as the encoder's.
        channels: as the encoder's.
    """

    def __init__(self, pair: PictureGenerator, *, factor: int, channels: int) -> None:
        super().__init__()
        self.latent_size, self.resolution = pair.latent_size, pair.resolution * factor
        self.follows_input_type = pair.follows_input_type
        self.pair = pair
        self.encoder = Encoder(factor=factor, channels=channels)
        self.decoder = Decoder(factor=factor, channels=channels)

    def measured(self) -> PictureGenerator:
        """The pair's generator: what decodes has no batch normalisation."""
        return self.pair.measured()

    def noise_sides(self) -> list[int]:
        """Of the pair's generator."""
        return self.pair.noise_sides()

    def latent(self, noise_NZ: Tensor, metadata_NM: Tensor | None, *, kept_N: Tensor | None = None) -> Tensor:
        """As the pair's generator makes it."""
        return self.pair.latent(noise_NZ, metadata_NM, kept_N=kept_N)

    def render(
        self,
        latent_NZ: Tensor,
        planes: Sequence[Tensor],
        *,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Decoded pictures N3HW in [-1, 1]; the arguments are of the pair's generator."""
        return self._decoded(self.pair.render(latent_NZ, planes, labels_N=labels_N, truncation=truncation))

    def between(
        self,
        ends_NZ: tuple[Tensor, Tensor],
        planes: Sequence[Tensor],
        *,
        share: float,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Of decoded codes between codes, as the pair's generator goes."""
        codes_NChw = self.pair.between(ends_NZ, planes, share=share, labels_N=labels_N, truncation=truncation)
        return self._decoded(codes_NChw)

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
        """Of decoded codes that the pair's generator mixed, from a side of codes on."""
        codes_NChw = self.pair.mix(
            latent_NZ, styles_NZ, planes, from_side=from_side, labels_N=labels_N, truncation=truncation
        )
        return self._decoded(codes_NChw)

    def _decoded(self, codes_NChw: Tensor) -> Tensor:
        pictures_N3HW: Tensor = self.decoder(codes_NChw.float())
        return pictures_N3HW


class _Residual(nn.Module):
    """x + conv3(act(conv3(act(x)))). The last kernel starts at zero, so that depth costs nothing at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        inner_NCHW = self.first(F.leaky_relu(x_NCHW, SLOPE))
        out: Tensor = x_NCHW + self.second(F.leaky_relu(inner_NCHW, SLOPE))
        return out


def _widths(factor: int, channels: int) -> list[int]:
    """Channel counts from full size down to the code's side."""
    halvings = factor.bit_length() - 1
    if factor not in {2, 4, 8, 16}:
        raise ValueError(f"a code's side is a half, a quarter, an eighth or a sixteenth; not 1/{factor}")
    return [channels * min(2**step, _WIDEST) for step in range(halvings + 1)]


def _convolutions(network: nn.Module) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            yield layer


def _initialise(network: nn.Module) -> None:
    """He et al. 2015, Eq. 14: without normalisation only the initial scale keeps the signal's."""
    for layer in _convolutions(network):
        if isinstance(layer, nn.Conv2d):  # transposed convolutions of oneDNN take a contiguous kernel faster
            layer.to(memory_format=torch.channels_last)
        # What one output sums: a transposed convolution of stride 2 meets a quarter of its kernel's places.
        inputs = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
        if isinstance(layer, nn.ConvTranspose2d):
            inputs //= layer.stride[0] * layer.stride[1]
        deviation = (2 / (1 + SLOPE**2) / inputs) ** 0.5
        nn.init.normal_(layer.weight, 0.0, deviation)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    for block in network.modules():
        if isinstance(block, _Residual):
            nn.init.zeros_(block.second.weight)
