"""Backtracking: how near a generator comes to given pictures, when its latents are optimised for that.

Table 5 of the SLAE-GAN paper reports it, after FastGAN (section 4.1 there): a generator that has learnt the variety
of a set reaches pictures of it that it was never shown; one that merely repeats pictures does not.
Shapes: N pictures, Z latent numbers, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.errors import NonFinite
from core.training.deployed import as_pixels

if TYPE_CHECKING:
    from core.training.deployed import DeployedGenerator
    from core.training.perceptual import Lpips

LEARNING_RATE = 0.1
SQUARE_WEIGHT = 0.2
_BATCH = 8  # pictures of 256 pixels; of larger ones as many as take the same memory


class Reached(NamedTuple):
    """How near the generator came to each picture."""

    lpips_N: Tensor  # of the whole pictures, float32 on the CPU
    pictures_N3HW: Tensor  # what it drew in the end, uint8 on the CPU
    latent_NZ: Tensor  # where it arrived, float32 on the CPU
    planes: tuple[Tensor, ...]  # the noise planes that were held, N1HW float32 on the CPU


def backtrack(
    generator: DeployedGenerator,
    targets_N3HW: Tensor,
    *,
    lpips: Lpips,
    steps: int,
    seed: int,
    labels_N: Tensor | None = None,
) -> Reached:
    """Optimise a latent for each picture, by Adam from a random draw of the noise, its noise planes held.

    The loss is LPIPS + 0.2 times the mean square difference, in [-1, 1], both of pictures halved by means of 2x2.
    Pictures do not influence each other: each has a draw of its own by its place.

    Args:
        generator: on the device to compute on.
        targets_N3HW: uint8, of the generator's resolution.
        lpips: on the same device.
        steps: of Adam.
        seed: of the draws.
        labels_N: their classes, int64, where the generator was trained by class.

    Raises:
        NonFinite: the generator or the loss left the finite numbers.
    """
    batch = max(1, min(_BATCH, _BATCH * 256**2 // generator.config.resolution**2))
    parts = [
        _some(
            generator,
            targets_N3HW[first : first + batch],
            first=first,
            lpips=lpips,
            steps=steps,
            seed=seed,
            labels_N=None if labels_N is None else labels_N[first : first + batch],
        )
        for first in range(0, len(targets_N3HW), batch)
    ]
    distances, pictures, latents, planes = zip(*parts, strict=True)
    joined = tuple(torch.cat(sizes) for sizes in zip(*planes, strict=True))
    return Reached(torch.cat(distances), torch.cat(pictures), torch.cat(latents), joined)


def _some(
    generator: DeployedGenerator,
    targets_N3HW: Tensor,
    *,
    first: int,
    lpips: Lpips,
    steps: int,
    seed: int,
    labels_N: Tensor | None,
) -> Reached:
    network, device = generator.network, lpips.shift.device
    labels_N = None if labels_N is None else labels_N.to(device)
    sources = [
        torch.Generator().manual_seed(seed + 1_000_003 * (first + i)) for i in range(len(targets_N3HW))
    ]
    latent_NZ = torch.cat([torch.randn(1, network.latent_size, generator=source) for source in sources])
    latent_NZ = latent_NZ.to(device).requires_grad_()
    drawn = [network.draw_noises(torch.zeros(1, 1), generator=source) for source in sources]
    noises = [torch.cat(planes).to(device) for planes in zip(*drawn, strict=True)]
    target_N3HW = targets_N3HW.to(device) / 127.5 - 1
    halved_N3HW = F.avg_pool2d(target_N3HW, 2)
    with torch.no_grad():
        directions = list(lpips.directions(halved_N3HW))
    adam = torch.optim.Adam([latent_NZ], lr=LEARNING_RATE)
    for _ in range(steps):
        picture_N3HW = F.avg_pool2d(network.render(latent_NZ, noises, labels_N=labels_N), 2)
        square_N = (picture_N3HW - halved_N3HW).square().mean(dim=(1, 2, 3))
        loss = (lpips.against(picture_N3HW, directions) + SQUARE_WEIGHT * square_N).sum()
        if not loss.isfinite():
            raise NonFinite("Backtracking left the finite numbers.")
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
    with torch.no_grad():
        pixels = as_pixels(network.render(latent_NZ, noises, labels_N=labels_N))
        distance_N = lpips(pixels / 127.5 - 1, target_N3HW)
    held = tuple(plane.cpu() for plane in noises)
    return Reached(distance_N.float().cpu(), pixels.cpu(), latent_NZ.detach().cpu(), held)
