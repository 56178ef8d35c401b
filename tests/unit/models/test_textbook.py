"""The fast networks against torch's own layers: outputs and gradients in float64, at every resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks import textbook
from core.models.slaegan import LATENT, METADATA, Discriminator, Generator, small_side
from core.schemas.slaegan import SlaeganConfig
from core.schemas.training import RESOLUTIONS

if TYPE_CHECKING:
    from torch import Tensor, nn

TOLERANCE = 1e-9
SWITCHES = [
    {},
    {"attention": False, "metadata": False},
    {"attention": False},
    {"metadata": False},
    {"excitation": False},
    {"decoders": False},
    {"output_tanh": False},
]
CASES = [(resolution, {}) for resolution in RESOLUTIONS] + [(64, switch) for switch in SWITCHES[1:]]


def tiny(resolution: int, switches: dict[str, object]) -> SlaeganConfig:
    return SlaeganConfig.model_validate({"resolution": resolution, "width": 0.125} | switches)


def compare(
    fast: nn.Module, plain: nn.Module, *, mine: list[Tensor], theirs: list[Tensor], inputs: list[Tensor]
) -> None:
    """The same outputs, and the same gradients in every weight and in the inputs, which both share."""
    for found, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    upstream = [torch.randn_like(out) / out[0].numel() for out in theirs]
    pairs = textbook.paired_parameters(fast, plain)
    my_grads = torch.autograd.grad(mine, [p for _, p, _ in pairs] + inputs, upstream, allow_unused=True)
    their_grads = torch.autograd.grad(theirs, [p for _, _, p in pairs] + inputs, upstream, allow_unused=True)
    names = [name for name, _, _ in pairs] + ["input"] * len(inputs)
    unused = []
    for name, found, expected in zip(names, my_grads, their_grads, strict=True):
        if expected is None:
            unused.append(name)
            assert found is None, name
        else:
            # Of one tensor's numbers the small ones carry the rounding of the large ones.
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(
                found,
                expected,
                rtol=0,
                atol=TOLERANCE * scale,
                msg=lambda text, name=name: f"{name}: {text}",
            )
    assert len(unused) < len(names) / 2


def start(fast: nn.Module, plain: nn.Module) -> None:
    """The same double weights in both, with noise switched on as after some training."""
    for name, parameter in fast.named_parameters():
        if "noise" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.5)
    fast.double()
    plain.double()
    textbook.copy_weights(fast, plain)


@pytest.mark.parametrize(("resolution", "switches"), CASES)
def test_generator(resolution: int, switches: dict[str, object]) -> None:
    torch.manual_seed(0)
    config = tiny(resolution, switches)
    fast, plain = Generator(config), textbook.Generator(config)
    start(fast, plain)
    # Twice in training: the second has other vectors and statistics. That takes no other code at a larger size.
    for training in (True, True, False) if resolution < 512 else (True, False):
        fast.train(training)
        plain.train(training)
        noise = torch.randn(2, LATENT, dtype=torch.float64, requires_grad=True)
        metadata = torch.randn(2, METADATA, dtype=torch.float64)
        kept = torch.tensor([1.0, 0.0], dtype=torch.float64)
        planes = fast.draw_noises(noise, generator=None)
        mine = fast(fast.latent(noise, metadata, kept_N=kept), planes)
        theirs = plain(plain.latent(noise, metadata, kept_N=kept), planes)
        compare(fast, plain, mine=list(mine), theirs=list(theirs), inputs=[noise])


@pytest.mark.parametrize(("resolution", "switches"), CASES)
def test_discriminator(resolution: int, switches: dict[str, object]) -> None:
    torch.manual_seed(0)
    config = tiny(resolution, switches)
    fast, plain = Discriminator(config), textbook.Discriminator(config)
    start(fast, plain)
    for training, quadrant in ((True, 0), (True, 3), (True, None), (False, 2)):
        fast.train(training)
        plain.train(training)
        small = small_side(resolution)
        pictures = [
            (torch.rand(2, 3, side, side, dtype=torch.float64) * 2 - 1).requires_grad_()
            for side in (resolution, small)
        ]
        judged = fast(
            *(picture.to(memory_format=torch.channels_last) for picture in pictures), quadrant=quadrant
        )
        logits, decoded = plain(*pictures, quadrant=quadrant)
        compare(
            fast, plain, mine=[judged.logits_NK, *judged.decoded], theirs=[logits, *decoded], inputs=pictures
        )
