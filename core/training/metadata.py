"""The metadata of SLAE-GAN: what VGG-16 sees in each training picture, added to the generator's noise.

Source: SLAE-GAN, section 3.2: relu5_3, averaged over space; extracted once. The paper is silent on
scaling and sampling; docs/method.md has our reading.
Shapes: M pictures in the set, N rows of a batch, F = 512 features.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.files import atomic_path
from core.models.vgg import IMAGENET_DEVIATION, IMAGENET_MEAN, vgg16_features
from core.training.data import picture_paths, read_pictures
from core.weights import VGG16_SHA256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.schemas.training import Fit

_SIDE = 224
_BATCH = 8
_CLIP = 5.0
_FLOOR = 0.1


@dataclass(frozen=True)
class MetadataBank:
    """Features of all training pictures, raw, with the statistics that standardise them."""

    rows_MF: Tensor
    mean_F: Tensor
    deviation_F: Tensor

    @classmethod
    def of(cls, rows_MF: Tensor) -> MetadataBank:
        """Measure the statistics of raw features over the training pictures.

        Some channels are dead or nearly so on a small set; dividing by their deviation breaks training.
        The deviation is floored at a tenth of the median of the non-zero deviations.
        """
        deviation_F, mean_F = torch.std_mean(rows_MF, dim=0, correction=0)
        alive = deviation_F[deviation_F > 0]
        floor = _FLOOR * alive.median() if alive.numel() else torch.ones(())
        return cls(rows_MF=rows_MF, mean_F=mean_F, deviation_F=deviation_F.clamp_min(floor))

    def standardised(self) -> Tensor:
        """(rows - mean) / deviation, clipped to [-5, 5]; MF float32."""
        return ((self.rows_MF - self.mean_F) / self.deviation_F).clamp(-_CLIP, _CLIP)


def mixed(a_NF: Tensor, b_NF: Tensor, share_N: Tensor) -> Tensor:
    """A convex mix of two standardised rows, scaled back to the variance of one.

    Args:
        a_NF: rows.
        b_NF: other rows.
        share_N: lambda in [0, 1], the share of `a`.

    Returns:
        (lambda a + (1 - lambda) b) / sqrt(lambda^2 + (1 - lambda)^2).
    """
    share_N1 = share_N[:, None]
    return (share_N1 * a_NF + (1 - share_N1) * b_NF) / (share_N1.square() + (1 - share_N1).square()).sqrt()


def load_bank(
    images_dir: Path,
    *,
    fit: Fit,
    cache_dir: Path,
    dataset_hash: str,
    weights_dir: Path,
    device: torch.device,
    dtype: torch.dtype,
    check_stop: Callable[[], None],
) -> MetadataBank:
    """The bank of a folder of pictures, from the cache where it was extracted before.

    Args:
        images_dir: picture files, read in the order of their names.
        fit: how a picture becomes square, as for training.
        cache_dir: shared by jobs; holds one file for each dataset, fit, VGG-16 weights and type.
        dataset_hash: names the content of images_dir.
        weights_dir: where the VGG-16 weights are.
        device: where to compute.
        dtype: in which the features are computed.
        check_stop: called between pictures; may raise to give up.

    Raises:
        DataFailed: a file cannot be read.
        WeightsMissing: the VGG-16 weights are not to be had.
    """
    kind = str(dtype).removeprefix("torch.")
    cached = cache_dir / f"bank-{dataset_hash}-{fit}-{VGG16_SHA256[:16]}-{kind}.safetensors"
    if cached.is_file():
        try:
            return MetadataBank.of(load_file(cached)["rows"])
        except SafetensorError:
            cached.unlink(missing_ok=True)  # a damaged cache is made again
    rows_MF = _extract(
        picture_paths(images_dir),
        fit=fit,
        network=vgg16_features(weights_dir),
        device=device,
        dtype=dtype,
        check_stop=check_stop,
    )
    with atomic_path(cached) as temporary:
        save_file({"rows": rows_MF}, temporary)
    return MetadataBank.of(rows_MF)


def _extract(
    paths: list[Path],
    *,
    fit: Fit,
    network: nn.Sequential,
    device: torch.device,
    dtype: torch.dtype,
    check_stop: Callable[[], None],
) -> Tensor:
    network.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack memory_format
    rows = []
    reading = read_pictures(
        paths, side=_SIDE, fit=fit, resample=Image.Resampling.BILINEAR, check_stop=check_stop
    )
    with closing(reading) as pictures:
        while batch := list(islice(pictures, _BATCH)):
            rows.append(_features(network, torch.stack(batch).to(device), dtype=dtype).cpu())
    return torch.cat(rows)


@torch.no_grad()
def _features(network: nn.Module, pictures_N3HW: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Mean over space of relu5_3; NF float32."""
    mean, deviation = (
        torch.tensor(values, device=pictures_N3HW.device).view(1, 3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )
    x = ((pictures_N3HW / 255 - mean) / deviation).to(dtype, memory_format=torch.channels_last)
    features: Tensor = network(x).float().mean(dim=(2, 3))
    return features
