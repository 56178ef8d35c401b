"""One iteration of SLAE-GAN as one would first write it: float32, contiguous, torch's defaults, nothing saved.

Shapes: N pictures, M pictures in the set, F metadata features.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import lpips
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from benchmarks.textbook import Discriminator, Generator
from core.models.slaegan import LATENT, METADATA, crop_quadrant, small_side
from core.training.augment import augment, flip

if TYPE_CHECKING:
    from core.schemas.slaegan import SlaeganConfig

_BETAS = (0.5, 0.999)


class TextbookStep:
    """Networks, optimisers and average of a plain run on random pictures; the work is that of real ones.

    LPIPS is the published package's, on a VGG-16 with random weights.

    Args:
        config: resolution, width and batch.
    """

    def __init__(self, config: SlaeganConfig) -> None:
        torch.manual_seed(0)
        self._config = config
        self._generator, self._discriminator = Generator(config), Discriminator(config)
        self._average = copy.deepcopy(self._generator)
        rate = config.learning_rate
        self._to_generator = torch.optim.Adam(self._generator.parameters(), lr=rate, betas=_BETAS)
        self._to_discriminator = torch.optim.Adam(self._discriminator.parameters(), lr=rate, betas=_BETAS)
        self._perceptual = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
        side = config.resolution
        self._real_N3HW = torch.randint(256, (config.batch, 3, side, side), dtype=torch.uint8)
        self._metadata_NF = torch.randn(config.batch, METADATA)

    def __call__(self) -> None:
        """Take one iteration."""
        small, kinds = small_side(self._config.resolution), self._config.augmentation
        real = augment(flip(self._real_N3HW / 127.5 - 1, generator=None), kinds=kinds, generator=None)
        real_small = F.interpolate(real, size=small)
        noise_NZ = torch.randn(len(real), LATENT)
        kept_N = (torch.rand(len(real)) >= self._config.metadata_dropout).float()
        latent_NZ = self._generator.latent(noise_NZ, self._metadata_NF, kept_N=kept_N)
        sides = [side for side in self._generator.sides if side in {8, 32, 128, 512} for _ in range(2)]
        fake, fake_small = self._generator(
            latent_NZ, [torch.randn(len(real), 1, side, side) for side in sides]
        )
        fakes = [augment(picture, kinds=kinds, generator=None) for picture in (fake, fake_small)]

        self._discriminator.zero_grad()
        quadrant = int(torch.randint(4, ()))
        logits, (whole, of_small, part) = self._discriminator(real, real_small, quadrant=quadrant)
        target = F.interpolate(crop_quadrant(real, quadrant).contiguous(), size=small)
        loss = F.relu(_margin(logits) - logits).mean()
        for decoded, wanted in ((whole, real_small), (of_small, real_small), (part, target)):
            loss = loss + self._perceptual(decoded, wanted).sum()
        loss.backward()
        logits, _ = self._discriminator(*(picture.detach() for picture in fakes))
        F.relu(_margin(logits) + logits).mean().backward()
        self._to_discriminator.step()

        self._generator.zero_grad()
        logits, _ = self._discriminator(*fakes)
        (-logits.mean()).backward()
        self._to_generator.step()
        _average(self._average, self._generator)


def _margin(logits: Tensor) -> Tensor:
    return 0.8 + 0.2 * torch.rand_like(logits)


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module) -> None:
    for mean, parameter in zip(average.parameters(), network.parameters(), strict=True):
        mean.mul_(0.999).add_(0.001 * parameter)
