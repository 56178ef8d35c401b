from __future__ import annotations

import pytest
import torch

from core.schemas.slaegan import SlaeganConfig
from core.training.apa import deceive
from core.training.families import build_networks
from core.training.family import Setting
from core.training.slaegan import Slaegan

CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [0.0, 0.25, 0.7, 1.0])
def test_that_share_of_the_rows_is_replaced_whole(p: float) -> None:
    count = 4000
    real = torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    draws = torch.Generator().manual_seed(0)
    shown = deceive(real, pseudo_N3HW=-real, probability=torch.tensor(p), generator=draws)
    replaced = (shown == -real).flatten(1).all(dim=1)
    kept = (shown == real).flatten(1).all(dim=1)
    assert torch.equal(replaced, ~kept)  # each row is wholly its own or its generated one
    # Five standard deviations; exact at the ends.
    assert replaced.float().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / count) ** 0.5)


def test_nothing_flows_into_the_generated_pictures() -> None:
    real, pseudo = (torch.rand(6, 3, 4, 4).requires_grad_() for _ in range(2))
    shown = deceive(real, pseudo_N3HW=pseudo, probability=torch.tensor(0.5), generator=None)
    shown.sum().backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert pseudo.grad is None


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_d_is_shown_the_generated_pictures_of_the_iteration(p: float) -> None:
    config = SlaeganConfig(
        width=0.125,
        resolution=64,
        metadata=False,
        decoders=False,
        flips=False,
        augmentation=(),
        apa_target=0.6,
    )
    networks = build_networks(config, device=CPU)
    family = Slaegan(
        config, networks=networks, setting=Setting(dtype=torch.float32, device=CPU, micro_batch=config.batch)
    )
    assert family._switches.apa is not None
    family._switches.apa.probability.fill_(p)
    family.begin(torch.full((4, 3, 64, 64), 255, dtype=torch.uint8), rows_N=torch.arange(4))
    now = family._now
    assert now is not None
    assert torch.equal(now.real_N3HW, now.fakes.clear[0] if p else torch.ones(4, 3, 64, 64))
    assert torch.equal(now.small_N3HW, now.real_N3HW[:, :, ::2, ::2])
    assert not now.real_N3HW.requires_grad
    assert now.fakes.clear[0].requires_grad
