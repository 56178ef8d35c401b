from __future__ import annotations

from typing import TYPE_CHECKING

import lpips
import pytest
import torch

from core.models.vgg import vgg16_features
from core.training.perceptual import Lpips

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def mine(weights_dir: Path) -> Lpips:
    return Lpips(weights_dir)


@pytest.fixture
def package(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> lpips.LPIPS:
    """The published package with the same VGG-16."""

    class Trunk:
        """Stands for torchvision's vgg16, which would download its weights."""

        def __init__(self, **_: object) -> None:
            self.features = vgg16_features(weights_dir)

    monkeypatch.setattr("lpips.pretrained_networks.tv.vgg16", Trunk)
    return lpips.LPIPS(net="vgg", verbose=False)


@pytest.mark.parametrize("side", [32, 64])
def test_equal_to_the_package_in_value_and_gradient(mine: Lpips, package: lpips.LPIPS, side: int) -> None:
    torch.manual_seed(0)
    a, b = (torch.rand(3, 3, side, side) * 2 - 1 for _ in range(2))
    a.requires_grad_()
    found, expected = mine(a, b), package(a, b).flatten()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    (my_grad,) = torch.autograd.grad(found.sum(), a)
    (their_grad,) = torch.autograd.grad(expected.sum(), a)
    torch.testing.assert_close(my_grad, their_grad, rtol=1e-3, atol=1e-6)


def test_the_heads_are_the_packages_to_the_bit(mine: Lpips, package: lpips.LPIPS) -> None:
    for head, layer in zip(mine.heads, package.lins, strict=True):
        assert torch.equal(head, layer.model[1].weight)


def test_a_dead_position_has_a_finite_gradient(mine: Lpips) -> None:
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(mine(flat, torch.zeros(1, 3, 32, 32)).sum(), flat)
    assert torch.isfinite(grad).all()


def test_bfloat16_is_close(mine: Lpips, weights_dir: Path) -> None:
    torch.manual_seed(0)
    a, b = (torch.rand(4, 3, 32, 32) * 2 - 1 for _ in range(2))
    coarse = Lpips(weights_dir, dtype=torch.bfloat16)(a, b)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, mine(a, b), rtol=0.02, atol=0)
