from __future__ import annotations

from typing import TYPE_CHECKING

import lpips
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.metrics.networks import VGG16_NAME, Vgg16Relu53
from core.metrics.perception import apart, look, relu5_3
from core.models.vgg import vgg16_features
from core.training.perceptual import Lpips
from core.weights import VGG16_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def pictures(count: int, *, seed: int = 0, side: int = 32) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=random, dtype=torch.uint8)


@pytest.fixture(scope="module")
def ours(weights_dir: Path) -> Lpips:
    return Lpips(weights_dir)


@pytest.fixture
def theirs(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> lpips.LPIPS:
    class Trunk:
        """Stands for torchvision's vgg16, which would download its weights."""

        def __init__(self, **_: object) -> None:
            self.features = vgg16_features(weights_dir)

    monkeypatch.setattr("lpips.pretrained_networks.tv.vgg16", Trunk)
    return lpips.LPIPS(net="vgg", verbose=False)


def test_distances_of_pairs_are_those_of_the_lpips_package(ours: Lpips, theirs: lpips.LPIPS) -> None:
    stream = pictures(8)
    scaled = stream / 127.5 - 1
    with torch.inference_mode():
        expected = theirs(scaled[0::2], scaled[1::2]).flatten()
        found = ours(scaled[0::2], scaled[1::2])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(apart(ours, look(ours, stream)), expected, rtol=0, atol=1e-5)


def test_identical_pictures_are_not_apart(ours: Lpips) -> None:
    same = pictures(1).expand(4, -1, -1, -1)
    assert apart(ours, look(ours, same)).tolist() == [0, 0]


def test_one_pass_gives_the_features_of_fid(ours: Lpips, weights_dir: Path) -> None:
    extractor = Vgg16Relu53(
        VGG16_NAME, [Vgg16Relu53.LAYER], feature_extractor_weights_path=str(weights_dir / VGG16_FILE)
    )
    for side in (32, 240):
        stream = pictures(2, side=side)
        with torch.inference_mode():
            (expected,) = extractor(stream)
        torch.testing.assert_close(relu5_3(look(ours, stream)), expected, rtol=1e-4, atol=1e-5)


def test_larger_pictures_are_reduced_and_smaller_ones_stay(ours: Lpips) -> None:
    large = pictures(2, side=96)
    assert look(ours, large)[0].shape == (2, 64, 96, 96)
    reduced = F.interpolate(large.float(), size=(64, 64), mode="bilinear", antialias=True) / 127.5 - 1
    found = look(ours, large, side=64)
    with torch.inference_mode():
        for mine, expected in zip(found, ours.depths(reduced), strict=True):
            torch.testing.assert_close(mine, expected)


def test_bf16_distances_are_near(ours: Lpips, weights_dir: Path) -> None:
    half = Lpips(weights_dir, dtype=torch.bfloat16)
    coarse = torch.rand(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    soft = (F.interpolate(coarse, size=64, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)
    torch.testing.assert_close(
        apart(half, look(half, soft)), apart(ours, look(ours, soft)), rtol=0.01, atol=0.002
    )
