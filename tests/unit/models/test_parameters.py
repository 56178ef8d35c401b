"""The counts of docs/method.md; nothing is computed, so every size is cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from core.models.slaegan import Discriminator, Generator
from core.schemas.slaegan import SlaeganConfig

if TYPE_CHECKING:
    from torch import nn

FASTGAN = {"attention": False, "metadata": False}


def parameters(kind: type[nn.Module], **config: Any) -> int:
    with torch.device("meta"):
        network = kind(SlaeganConfig(**config))
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("resolution", "width", "generator", "discriminator"),
    [
        (64, 1, 31_963_396, 10_701_568),
        (64, 0.5, 10_091_652, 2_686_336),
        (64, 0.25, 3_573_316, 677_056),
        (128, 1, 29_762_630, 11_319_584),
        (128, 0.5, 9_541_158, 2_840_208),
        (256, 1, 29_127_846, 11_526_160),
        (512, 1, 29_174_392, 11_526_496),
        (1024, 1, 29_176_512, 11_528_192),
    ],
)
def test_the_base(resolution: int, width: float, generator: int, discriminator: int) -> None:
    config = {"resolution": resolution, "width": width} | FASTGAN
    assert parameters(Generator, **config) == generator
    assert parameters(Discriminator, **config) == discriminator


@pytest.mark.parametrize(
    ("resolution", "generator", "discriminator"),
    [
        (256, 26_353_830, 8_386_672),
        (512, 26_367_352, 8_387_008),
        (1024, 26_369_472, 8_388_704),
    ],
)
def test_without_excitation_and_without_decoders(resolution: int, generator: int, discriminator: int) -> None:
    assert parameters(Generator, resolution=resolution, excitation=False, **FASTGAN) == generator
    assert parameters(Discriminator, resolution=resolution, decoders=False) == discriminator


@pytest.mark.parametrize(
    ("resolution", "attention"), [(64, 294), (128, 294), (256, 294), (512, 392), (1024, 392)]
)
def test_what_slae_adds(resolution: int, attention: int) -> None:
    size = {"resolution": resolution, "width": 1}
    base = parameters(Generator, **size | FASTGAN)
    assert parameters(Generator, attention=True, metadata=False, **size) - base == attention
    assert parameters(Generator, attention=False, metadata=True, **size) - base == 131_328
    assert parameters(Generator, **size) - base == attention + 131_328


@pytest.mark.parametrize("switch", ["attention", "metadata"])
def test_the_discriminator_knows_nothing_of_it(switch: str) -> None:
    assert parameters(Discriminator, resolution=256, **{switch: False}) == 11_526_160
