"""The two networks of SLAE-GAN at 64 to 1024 pixels; without its switches they are FastGAN's.

Shapes: N pictures, C channels, H height, W width, Z latent numbers, M metadata numbers.
Between 256 and 1024 the layers are FastGAN's, as published; at 64 and 128 they are our truncation
(docs/method.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.models.attention import SkipExcitation
from core.models.contract import Judgement, PictureGenerator
from core.models.layers import (
    GLU,
    SLOPE,
    DownBlock,
    FullUpBlock,
    SpectralConv2d,
    StartConv,
    UpBlock,
    batch_norm,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.schemas.slaegan import SlaeganConfig

LATENT = 256
FASTGAN_MIN, FASTGAN_TANH = (
    256,
    1024,
)  # the published sizes begin here; the published code has a tanh here alone
METADATA = 512
_GENERATOR = {4: 1024, 8: 512, 16: 256, 32: 128, 64: 128, 128: 64, 256: 32, 512: 16, 1024: 8}
_FULL = {8, 32, 128, 512}
_DISCRIMINATOR = {256: 16, 128: 32, 64: 64, 32: 128, 16: 256, 8: 512}
_SMALL = {64: 32, 32: 64, 16: 128, 8: 256}
_DECODER = {16: 128, 32: 64, 64: 64, 128: 32}
_HEAD = 1024


def scaled(channels: int, *, width: float) -> int:
    """A channel count scaled by the width, in multiples of 4 and at least 4."""
    return max(4, round(channels * width / 4) * 4)


def small_side(resolution: int) -> int:
    """Side of the second, smaller picture: 128 where that is at most half of the resolution."""
    return min(128, resolution // 2)


def excitation_pairs(resolution: int) -> dict[int, int]:
    """Which early map gates which late one in the generator, late side to early side."""
    if resolution <= FASTGAN_MIN:
        return {resolution // 4: 4, resolution // 2: 8, resolution: 16}
    return {64: 4, 128: 8, 256: 16, 512: 32}


class Generator(PictureGenerator):
    """Latent to two pictures, one of full resolution and one of `small_side`.

    Source: FastGAN, section 3.1; SLAE-GAN, sections 3.1 (attention) and 3.2 (metadata).

    Args:
        config: resolution, width and the switches attention, metadata, excitation, output_tanh.
        channels: of the pictures; 16 where they are codes.
        spectral: False for a deployed generator, whose kernels are already normalised.
    """

    follows_input_type = True

    def __init__(self, config: SlaeganConfig, *, channels: int = 3, spectral: bool = True) -> None:
        super().__init__()
        self.latent_size = LATENT
        self.resolution, self.small = config.resolution, small_side(config.resolution)
        self.tanh = config.output_tanh or config.resolution == FASTGAN_TANH
        widths = {side: scaled(c, width=config.width) for side, c in _GENERATOR.items()}
        self.metadata = nn.Linear(METADATA, LATENT) if config.metadata else None
        self.start = StartConv(LATENT, 2 * widths[4], 4, spectral=spectral)
        self.start_norm = batch_norm(2 * widths[4])
        self.start_glu = GLU()
        self.blocks = nn.ModuleDict()
        self.excitations = nn.ModuleDict()
        pairs = excitation_pairs(config.resolution) if config.excitation else {}
        side = 8
        while side <= config.resolution:
            block = FullUpBlock if side in _FULL else UpBlock
            self.blocks[str(side)] = block(widths[side // 2], widths[side], spectral=spectral)
            if side in pairs:
                self.excitations[str(side)] = SkipExcitation(
                    widths[pairs[side]], widths[side], attention=config.attention, spectral=spectral
                )
            side *= 2
        self.pairs = pairs
        self.to_small = SpectralConv2d(widths[self.small], channels, 1, spectral=spectral)
        self.to_full = SpectralConv2d(widths[self.resolution], channels, 3, padding=1, spectral=spectral)

    def noise_sides(self) -> list[int]:
        """Sides of the noise planes that a forward takes, in order."""
        return [int(side) for side, block in self.blocks.items() for _ in range(block.noises)]  # type: ignore[arg-type]

    def latent(self, noise_NZ: Tensor, metadata_NM: Tensor | None, *, kept_N: Tensor | None = None) -> Tensor:
        """Add the projected metadata to the noise.

        Source: SLAE-GAN, section 3.2 and Fig. 4.

        Args:
            noise_NZ: N(0, 1).
            metadata_NM: standardised VGG-16 features, a row a picture; None for plain noise.
            kept_N: 1 where a row gets its metadata, 0 where it gets the noise alone; None keeps all.
        """
        if self.metadata is None or metadata_NM is None:
            return noise_NZ
        projected: Tensor = self.metadata(metadata_NM)
        if kept_N is not None:
            projected = projected * kept_N[:, None]
        return noise_NZ + projected

    def forward(self, latent_NZ: Tensor, noises: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Make pictures in [-1, 1], in the type of the latents.

        Args:
            latent_NZ: what `latent` returned, in the type to compute in.
            noises: planes as `draw_noises` makes them.

        Returns:
            The pictures at full resolution and at the small side, N3HW.
        """
        maps = self._maps(latent_NZ, noises, gates={})
        full, small = self.to_full(maps[self.resolution]), self.to_small(maps[self.small])
        return (torch.tanh(full), torch.tanh(small)) if self.tanh else (full, small)

    def _maps(
        self,
        latent_NZ: Tensor,
        noises: Sequence[Tensor],
        *,
        gates: Mapping[int, Tensor],
        largest: int | None = None,
    ) -> dict[int, Tensor]:
        """The feature maps by their sides.

        Args:
            latent_NZ: as of `forward`.
            noises: as of `forward`.
            gates: what gates the maps of a side, where it is not an early map of the same picture.
            largest: side of the last one that is wanted; None for all.
        """
        planes = iter(noises)
        maps = {4: self.start_glu(self.start_norm(self.start(latent_NZ)))}
        for name, block in self.blocks.items():
            side = int(name)
            if largest is not None and side > largest:
                break
            maps[side] = block(maps[side // 2], *(next(planes) for _ in range(block.noises)))  # type: ignore[arg-type]
            if side in self.pairs:
                gate = gates[side] if side in gates else maps[self.pairs[side]]
                maps[side] = self.excitations[name](gate, maps[side])
        return maps

    def render(
        self,
        latent_NZ: Tensor,
        planes: Sequence[Tensor],
        *,
        labels_N: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """The pictures of full resolution alone; a truncated latent is one multiplied."""
        del labels_N  # this family ignores classes
        full_N3HW: Tensor
        full_N3HW, _ = self(latent_NZ if truncation == 1 else latent_NZ * truncation, planes)
        return full_N3HW

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
        """Pictures whose large feature maps are gated by the small ones of others.

        Source: FastGAN, section on style mixing: the skip-layer excitation tells style from content, and takes the
        style of whatever picture its small map is of.
        """
        del labels_N
        others = self._maps(styles_NZ * truncation, planes, gates={}, largest=max(self.pairs.values()))
        gates = {side: others[small] for side, small in self.pairs.items() if side >= from_side}
        full_N3HW = self.to_full(self._maps(latent_NZ * truncation, planes, gates=gates)[self.resolution])
        return torch.tanh(full_N3HW) if self.tanh else full_N3HW


class _Decoder(nn.Module):
    """8x8 features to a picture of the small side in [-1, 1]. Source: FastGAN, section 3.2 and Fig. 4."""

    def __init__(self, channels_in: int, *, side: int, width: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        channels = channels_in
        for to, count in _DECODER.items():
            if to <= side:
                self.blocks.append(UpBlock(channels, scaled(count, width=width), spectral=True))
                channels = scaled(count, width=width)
        self.to_picture = SpectralConv2d(channels, 3, 3, padding=1, spectral=True)

    def forward(self, features_NC88: Tensor) -> Tensor:
        picture_N3HW: Tensor = self.to_picture(self.blocks(features_NC88))
        return torch.tanh(picture_N3HW)


class Discriminator(nn.Module):
    """Judge a picture at two sizes; decode real ones from its features.

    Source: FastGAN, section 3.2.

    Args:
        config: resolution, width and the switch decoders.
        channels: of the pictures; 16 where they are codes, which no decoder makes.
    """

    def __init__(self, config: SlaeganConfig, *, channels: int = 3) -> None:
        super().__init__()
        widths = {side: scaled(c, width=config.width) for side, c in _DISCRIMINATOR.items()}
        small = {side: scaled(c, width=config.width) for side, c in _SMALL.items()}
        start, side = min(config.resolution, 256), small_side(config.resolution)
        self.stem = _stem(
            config.resolution, widths[start], channels=channels, half=scaled(8, width=config.width)
        )
        self.blocks = nn.ModuleDict()
        self.excitations = nn.ModuleDict()
        for to in (128, 64, 32, 16, 8):
            if to < start:
                self.blocks[str(to)] = DownBlock(widths[2 * to], widths[to])
            if 8 * to in widths and 8 * to <= start:
                self.excitations[str(to)] = SkipExcitation(
                    widths[8 * to], widths[to], attention=False, spectral=True
                )
        head = scaled(_HEAD, width=config.width)
        self.head = nn.Sequential(
            SpectralConv2d(widths[8], head, 1, spectral=True),
            batch_norm(head),
            nn.LeakyReLU(SLOPE),
            SpectralConv2d(head, 1, 4, spectral=True),
        )
        self.small = nn.Sequential(
            SpectralConv2d(channels, small[side // 2], 4, stride=2, padding=1, spectral=True),
            nn.LeakyReLU(SLOPE),
        )
        for to in (32, 16, 8):
            if to < side // 2:
                self.small.extend(_down(small[2 * to], small[to]))
        self.small_head = SpectralConv2d(small[8], 1, 4, spectral=True)
        self.decoders = nn.ModuleList(
            _Decoder(count, side=side, width=config.width)
            for count in (widths[8], small[8], widths[16])
            if config.decoders
        )

    def first_parts(self, count: int) -> list[nn.Module]:
        """The parts nearest to the full picture: the stem, then the blocks in their order."""
        return [self.stem, *self.blocks.values()][:count]

    def forward(self, full_N3HW: Tensor, small_N3HW: Tensor, *, quadrant: int | None = None) -> Judgement:
        """Judge pictures, and decode them where a quadrant is given.

        Args:
            full_N3HW: pictures at full resolution in [-1, 1], channels-last, in the type to compute in.
            small_N3HW: the same pictures at the small side.
            quadrant: 0 to 3, row by row, which quarter of the 16x16 features is decoded; None decodes nothing.
        """
        start = self.stem(full_N3HW)
        maps = {start.shape[2]: start}
        for name, block in self.blocks.items():
            side = int(name)
            maps[side] = block(maps[2 * side])
            if name in self.excitations:
                maps[side] = self.excitations[name](maps[8 * side], maps[side])
        small_NC88 = self.small(small_N3HW)
        logits = torch.cat([self.head(maps[8]).flatten(1), self.small_head(small_NC88).flatten(1)], dim=1)
        if quadrant is None or not self.decoders:
            return Judgement(logits, maps[8])
        sources = (maps[8], small_NC88, crop_quadrant(maps[16], quadrant))
        decoded = tuple(decode(source) for decode, source in zip(self.decoders, sources, strict=True))
        return Judgement(logits, maps[8], decoded)


def crop_quadrant(x_NCHW: Tensor, quadrant: int) -> Tensor:
    """One quarter of a map or picture: 0 top left, 1 top right, 2 bottom left, 3 bottom right."""
    half = x_NCHW.shape[2] // 2
    row, column = divmod(quadrant, 2)
    cut = x_NCHW[:, :, row * half : (row + 1) * half, column * half : (column + 1) * half]
    return cut.contiguous(memory_format=torch.channels_last)


def _down(channels_in: int, channels_out: int) -> list[nn.Module]:
    conv = SpectralConv2d(channels_in, channels_out, 4, stride=2, padding=1, spectral=True)
    return [conv, batch_norm(channels_out), nn.LeakyReLU(SLOPE)]


def _stem(resolution: int, width: int, *, channels: int, half: int) -> nn.Sequential:
    """From a picture to the first features: at 256 pixels, or at the resolution itself below that."""
    match resolution:
        case 1024:
            first = SpectralConv2d(channels, half, 4, stride=2, padding=1, spectral=True)
            return nn.Sequential(first, nn.LeakyReLU(SLOPE), *_down(half, width))
        case 512:
            first = SpectralConv2d(channels, width, 4, stride=2, padding=1, spectral=True)
        case _:
            first = SpectralConv2d(channels, width, 3, padding=1, spectral=True)
    return nn.Sequential(first, nn.LeakyReLU(SLOPE))
