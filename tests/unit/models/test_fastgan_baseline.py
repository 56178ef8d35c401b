from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from core.models.attention import SkipExcitation
from core.models.slaegan import Discriminator, Generator
from core.schemas.fastgan_baseline import FastganBaselineConfig
from core.schemas.slaegan import SlaeganConfig
from core.training.families import family_of
from core.training.slaegan import Slaegan

OFF = {"attention": False, "metadata": False, "excitation": False, "decoders": False}


def test_it_is_slaegan_with_everything_off() -> None:
    baseline, theirs = FastganBaselineConfig(), SlaeganConfig.model_validate(OFF)
    assert family_of(baseline) is Slaegan
    mine, other = baseline.model_dump(), theirs.model_dump()
    assert mine.pop("family") == "fastgan_baseline"
    assert other.pop("family") == "slaegan"
    assert mine == other
    assert not baseline.uses_metadata
    assert not baseline.uses_perceptual


@pytest.mark.parametrize("switch", sorted(OFF))
def test_its_switches_stay_off(switch: str) -> None:
    with pytest.raises(ValidationError, match=switch):
        FastganBaselineConfig.model_validate({switch: True})


def test_its_networks() -> None:
    """26.35 and 8.39 million parameters at 256 pixels (docs/method.md), and nothing of the excitation in G."""
    config = FastganBaselineConfig()
    with torch.device("meta"):
        generator, discriminator = Generator(config), Discriminator(config)
    assert sum(p.numel() for p in generator.parameters()) == 26_353_830
    assert sum(p.numel() for p in discriminator.parameters()) == 8_386_672
    assert not any(isinstance(layer, SkipExcitation) for layer in generator.modules())
    assert not discriminator.decoders
