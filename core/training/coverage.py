"""A coverage term on G: every real picture pulls at the generated picture nearest to it.

Source: Vashist et al. 2024 (RS-IMLE, arXiv 2409.17439): of a pool of generated pictures those closer than
epsilon to a real one are rejected, each real picture takes the nearest of the rest, and G brings it closer. There it
is the only loss and the pool meets the whole set; here it stands beside the adversarial loss, and one
batch's real pictures meet a pool of a few times their number.
Shapes: N real pictures, P pictures of the pool, F features, S small side.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.training.microbatch import split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.models.slaegan import Generator
    from core.training.latents import Latents
    from core.training.perceptual import Lpips

_FEATURE_SIDE = 16


def features(pictures_N3HW: Tensor) -> Tensor:
    """What pictures are matched by: 16x16 means of their pixels, scaled so that distances are root mean squares.

    Args:
        pictures_N3HW: in [-1, 1], any float type, at least 16 pixels a side.

    Returns:
        N,768 float32; two pictures' Euclidean distance lies in [0, 2].
    """
    means_NF = F.adaptive_avg_pool2d(pictures_N3HW.float(), _FEATURE_SIDE).flatten(1)
    return means_NF / math.sqrt(means_NF.shape[1])


def match(real_NF: Tensor, pool_PF: Tensor, *, radius: float) -> tuple[Tensor, Tensor]:
    """The nearest picture of the pool for each real one, leaving out those that already lie at a real picture.

    Args:
        real_NF: features of real pictures.
        pool_PF: features of generated ones.
        radius: epsilon; a candidate closer than this to any of the real pictures is rejected.

    Returns:
        Row of the pool for each real picture, N int64; and whether the pool had any left, a boolean scalar.
    """
    distance_NP = torch.cdist(real_NF, pool_PF, compute_mode="donot_use_mm_for_euclid_dist")
    rejected_P = (distance_NP < radius).any(dim=0)
    return distance_NP.masked_fill(rejected_P, torch.inf).argmin(dim=1), ~rejected_P.all()


@torch.no_grad()
def choose(
    generator: Generator,
    pool: Latents,
    *,
    real_N3SS: Tensor,
    radius: float,
    micro_batch: int,
) -> tuple[Tensor, Tensor]:
    """Let each real picture choose the generated one that it will pull.

    The generator runs as it will be served, on its running statistics: so a second forward of the chosen latents
    (`pull`) makes the very pictures that were chosen, and neither forward touches a buffer.

    Args:
        generator: in training mode, to which it returns.
        pool: what P pictures are made from.
        real_N3SS: real pictures in [-1, 1], float32, not augmented, reduced to S.
        radius: epsilon, see `match`.
        micro_batch: pictures in memory at a time.

    Returns:
        As `match`.
    """
    with _as_served(generator):
        candidates = [
            features(pool.rows(rows).pictures(generator)[0])
            for rows in split(pool.noise_NZ.shape[0], size=micro_batch)
        ]
    return match(features(real_N3SS), torch.cat(candidates), radius=radius)


def pull(
    generator: Generator,
    chosen: Latents,
    *,
    real_N3SS: Tensor,
    perceptual: Lpips,
) -> Tensor:
    """Mean LPIPS + mean square between real pictures and the generated ones that they chose, at the small side.

    Args:
        generator: in training mode, to which it returns; it runs as in `choose`.
        chosen: what the N chosen pictures are made from.
        real_N3SS: as in `choose`.
        perceptual: the distance that G is to shorten.

    Returns:
        A float32 scalar.
    """
    with torch.no_grad():
        target = list(perceptual.directions(real_N3SS))
    with _as_served(generator):
        made_N3HW, _ = chosen.pictures(generator)
    mine_N3SS = F.adaptive_avg_pool2d(made_N3HW.float(), real_N3SS.shape[2])
    squares_N = (mine_N3SS - real_N3SS).square().mean(dim=(1, 2, 3))
    return (perceptual.against(mine_N3SS, target) + squares_N).mean()


@contextmanager
def _as_served(generator: Generator) -> Iterator[None]:
    generator.eval()
    try:
        yield
    finally:
        generator.train()
