"""SLAE-GAN from torch's own layers, as one would first write it: what the fast implementation must equal, and beat.

Modules are named as in `core.models.slaegan`, so that `copy_weights` can pair them. Nothing here is tuned: float32,
contiguous, every upsampling carried out, every gradient computed.

Shapes: N pictures, C channels, H height, W width, Z latent numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models import slaegan
from core.models.layers import NoiseInjection, SpectralConv2d
from core.models.slaegan import LATENT, METADATA, crop_quadrant, excitation_pairs, scaled, small_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.schemas.slaegan import SlaeganConfig


def conv(channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, padding: int = 0) -> nn.Module:
    """A bias-free convolution under torch's spectral normalisation."""
    return nn.utils.spectral_norm(nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False))  # type: ignore[no-untyped-call]  # torch's stub


class UpBlock(nn.Module):
    """Nearest x2, conv3, BN, GLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.up = conv(channels_in, 2 * channels_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(2 * channels_out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.glu(self.norm(self.up(F.interpolate(x_NCHW, scale_factor=2))), dim=1)


class FullUpBlock(nn.Module):
    """Nearest x2, then twice conv3, noise, BN, GLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.up = conv(channels_in, 2 * channels_out, 3, padding=1)
        self.noise_up = nn.ParameterDict({"weight": torch.zeros(1)})
        self.norm_up = nn.BatchNorm2d(2 * channels_out)
        self.conv = conv(channels_out, 2 * channels_out, 3, padding=1)
        self.noise_conv = nn.ParameterDict({"weight": torch.zeros(1)})
        self.norm_conv = nn.BatchNorm2d(2 * channels_out)

    def forward(self, x_NCHW: Tensor, noise_up_N1HW: Tensor, noise_conv_N1HW: Tensor) -> Tensor:
        x_NCHW = self.up(F.interpolate(x_NCHW, scale_factor=2)) + self.noise_up["weight"] * noise_up_N1HW
        x_NCHW = F.glu(self.norm_up(x_NCHW), dim=1)
        x_NCHW = self.conv(x_NCHW) + self.noise_conv["weight"] * noise_conv_N1HW
        return F.glu(self.norm_conv(x_NCHW), dim=1)


class Excitation(nn.Module):
    """The high map times sigmoid(conv1(swish(conv4(pool(low))))); with attention low is weighted in space."""

    def __init__(self, low: int, high: int, *, attention: bool) -> None:
        super().__init__()
        self.attention = nn.Conv2d(2, 1, 7, padding=3, bias=False) if attention else None
        self.squeeze, self.excite = conv(low, high, 4), conv(high, high, 1)

    def forward(self, low_NCHW: Tensor, high_NCHW: Tensor) -> Tensor:
        if self.attention is not None:
            pooled = torch.stack([low_NCHW.mean(1), low_NCHW.max(1).values], dim=1)
            low_NCHW = low_NCHW * self.attention(pooled).sigmoid()
        gate = self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(low_NCHW, 4))))
        return high_NCHW * gate.sigmoid()


class Generator(nn.Module):
    """The generator; see `core.models.slaegan.Generator`."""

    def __init__(self, config: SlaeganConfig) -> None:
        super().__init__()
        channels = {side: scaled(c, width=config.width) for side, c in slaegan._GENERATOR.items()}
        self.resolution, self.small_side = config.resolution, small_side(config.resolution)
        self.tanh = config.output_tanh or config.resolution == 1024
        self.metadata = nn.Linear(METADATA, LATENT) if config.metadata else None
        start = nn.ConvTranspose2d(LATENT, 2 * channels[4], 4, bias=False)
        self.start = nn.utils.spectral_norm(start)  # type: ignore[no-untyped-call]  # torch's stub
        self.start_norm = nn.BatchNorm2d(2 * channels[4])
        self.pairs = excitation_pairs(config.resolution) if config.excitation else {}
        self.sides = [side for side in sorted(channels) if 4 < side <= config.resolution]
        self.blocks, self.excitations = nn.ModuleDict(), nn.ModuleDict()
        for side in self.sides:
            kind = FullUpBlock if side in {8, 32, 128, 512} else UpBlock
            self.blocks[str(side)] = kind(channels[side // 2], channels[side])
            if side in self.pairs:
                self.excitations[str(side)] = Excitation(
                    channels[self.pairs[side]], channels[side], attention=config.attention
                )
        self.to_small = conv(channels[self.small_side], 3, 1)
        self.to_full = conv(channels[self.resolution], 3, 3, padding=1)

    def latent(self, noise_NZ: Tensor, metadata_NM: Tensor | None, *, kept_N: Tensor | None = None) -> Tensor:
        """Noise, plus the metadata's projection where it is kept."""
        if self.metadata is None or metadata_NM is None:
            return noise_NZ
        projected: Tensor = self.metadata(metadata_NM)
        return noise_NZ + (projected if kept_N is None else projected * kept_N[:, None])

    def forward(self, latent_NZ: Tensor, noises: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Pictures at full resolution and at the small side."""
        planes = iter(noises)
        maps = {4: F.glu(self.start_norm(self.start(latent_NZ[:, :, None, None])), dim=1)}
        for side in self.sides:
            block = self.blocks[str(side)]
            extra = (next(planes), next(planes)) if isinstance(block, FullUpBlock) else ()
            maps[side] = block(maps[side // 2], *extra)
            if side in self.pairs:
                maps[side] = self.excitations[str(side)](maps[self.pairs[side]], maps[side])
        full, small = self.to_full(maps[self.resolution]), self.to_small(maps[self.small_side])
        return (full.tanh(), small.tanh()) if self.tanh else (full, small)


class DownBlock(nn.Module):
    """The mean of a convolutional path and of an average-pooled one, each of half the side."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.down = conv(channels_in, channels_out, 4, stride=2, padding=1)
        self.norm_down = nn.BatchNorm2d(channels_out)
        self.conv = conv(channels_out, channels_out, 3, padding=1)
        self.norm_conv = nn.BatchNorm2d(channels_out)
        self.short = conv(channels_in, channels_out, 1)
        self.norm_short = nn.BatchNorm2d(channels_out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        main = F.leaky_relu(self.norm_down(self.down(x_NCHW)), 0.2)
        main = F.leaky_relu(self.norm_conv(self.conv(main)), 0.2)
        short = F.leaky_relu(self.norm_short(self.short(F.avg_pool2d(x_NCHW, 2))), 0.2)
        return (main + short) / 2


class Decoder(nn.Module):
    """Up blocks from 8x8 features to a picture."""

    def __init__(self, channels_in: int, *, side: int, width: float) -> None:
        super().__init__()
        counts = [scaled(count, width=width) for to, count in slaegan._DECODER.items() if to <= side]
        pairs = zip([channels_in, *counts[:-1]], counts, strict=True)
        self.blocks = nn.Sequential(*(UpBlock(before, after) for before, after in pairs))
        self.to_picture = conv(counts[-1], 3, 3, padding=1)

    def forward(self, features_NC88: Tensor) -> Tensor:
        out: Tensor = self.to_picture(self.blocks(features_NC88)).tanh()
        return out


class Discriminator(nn.Module):
    """The discriminator; see `core.models.slaegan.Discriminator`."""

    def __init__(self, config: SlaeganConfig) -> None:
        super().__init__()
        width = config.width
        channels = {side: scaled(c, width=width) for side, c in slaegan._DISCRIMINATOR.items()}
        small = {side: scaled(c, width=width) for side, c in slaegan._SMALL.items()}
        start, side = min(config.resolution, 256), small_side(config.resolution)
        self.stem = _stem(config.resolution, channels[start], half=scaled(8, width=width))
        self.blocks, self.excitations = nn.ModuleDict(), nn.ModuleDict()
        for to in (to for to in (128, 64, 32, 16, 8) if to < start):
            self.blocks[str(to)] = DownBlock(channels[2 * to], channels[to])
            if 8 * to <= start:
                self.excitations[str(to)] = Excitation(channels[8 * to], channels[to], attention=False)
        head = scaled(slaegan._HEAD, width=width)
        self.head = nn.Sequential(
            conv(channels[8], head, 1), nn.BatchNorm2d(head), nn.LeakyReLU(0.2), conv(head, 1, 4)
        )
        self.small = nn.Sequential(conv(3, small[side // 2], 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        for to in (to for to in (32, 16, 8) if to < side // 2):
            self.small.extend(_down(small[2 * to], small[to]))
        self.small_head = conv(small[8], 1, 4)
        sources = (channels[8], small[8], channels[16]) if config.decoders else ()
        self.decoders = nn.ModuleList(Decoder(count, side=side, width=width) for count in sources)

    def forward(
        self, full_N3HW: Tensor, small_N3HW: Tensor, *, quadrant: int | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the decoders' pictures where a quadrant is given."""
        start = self.stem(full_N3HW)
        maps = {start.shape[2]: start}
        for name, block in self.blocks.items():
            side = int(name)
            maps[side] = block(maps[2 * side])
            if name in self.excitations:
                maps[side] = self.excitations[name](maps[8 * side], maps[side])
        small_NC88 = self.small(small_N3HW)
        logits = torch.cat([self.head(maps[8]).flatten(1), self.small_head(small_NC88).flatten(1)], dim=1)
        if quadrant is None:
            return logits, []
        sources = (maps[8], small_NC88, crop_quadrant(maps[16], quadrant).contiguous())
        return logits, [decode(source) for decode, source in zip(self.decoders, sources, strict=False)]


def _down(channels_in: int, channels_out: int) -> list[nn.Module]:
    down = conv(channels_in, channels_out, 4, stride=2, padding=1)
    return [down, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2)]


def _stem(resolution: int, channels: int, *, half: int) -> nn.Sequential:
    slope = nn.LeakyReLU(0.2)
    if resolution == 1024:
        return nn.Sequential(conv(3, half, 4, stride=2, padding=1), slope, *_down(half, channels))
    if resolution == 512:
        return nn.Sequential(conv(3, channels, 4, stride=2, padding=1), slope)
    return nn.Sequential(conv(3, channels, 3, padding=1), slope)


@torch.no_grad()
def copy_weights(fast: nn.Module, plain: nn.Module) -> None:
    """Give a textbook network the weights, vectors and statistics of its fast twin; names must agree."""
    state = {}
    for name, value in fast.state_dict().items():
        owner, _, last = name.rpartition(".")
        layer = fast.get_submodule(owner)
        if isinstance(layer, SpectralConv2d):
            kernel = layer.weight.shape[2:]
            # Ours orders the columns rows, columns, channels, so that a channels-last kernel needs no copy.
            ordered = value.view(*kernel, -1).permute(2, 0, 1).reshape(-1) if last == "v" else value
            state[f"{owner}.weight_{'orig' if last == 'weight' else last}"] = ordered.contiguous()
        else:
            assert isinstance(layer, nn.Linear | nn.BatchNorm2d | nn.Conv2d | NoiseInjection), name
            state[name] = value.contiguous()
    plain.load_state_dict(state)


def paired_parameters(fast: nn.Module, plain: nn.Module) -> list[tuple[str, nn.Parameter, nn.Parameter]]:
    """Name, fast parameter and textbook parameter of every weight."""
    theirs = dict(plain.named_parameters())
    return [
        (name, mine, theirs[f"{name}_orig"] if f"{name}_orig" in theirs else theirs[name])
        for name, mine in fast.named_parameters()
    ]
