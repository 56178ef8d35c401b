from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.schemas.dcgan import DcganConfig
from core.schemas.fgan import DivergenceName, FganConfig
from core.training import divergences
from core.training.dcgan import Dcgan
from core.training.families import build_networks
from core.training.family import Phase, Setting
from core.training.fgan import Fgan

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
LOGITS = torch.tensor([[-2.0], [0.5], [3.0]])


def family(kind: type[Dcgan], config: Any) -> Dcgan:
    setting = Setting(dtype=torch.float32, device=CPU, micro_batch=config.batch)
    return kind(config, networks=build_networks(config, device=CPU), setting=setting)


def test_dcgans_losses_are_logistic() -> None:
    trained = family(Dcgan, DcganConfig(width=4))
    share = torch.sigmoid(LOGITS)
    torch.testing.assert_close(trained.real_loss(LOGITS), -share.log().mean())
    torch.testing.assert_close(trained.fake_loss(LOGITS), -(1 - share).log().mean())
    torch.testing.assert_close(trained.generator_loss(LOGITS), -share.log().mean())


@pytest.mark.parametrize("name", ["discriminator", "generator"])
def test_dcgans_adam(name: str) -> None:
    trained = family(Dcgan, DcganConfig(width=4))
    (group,) = trained.optimiser(Phase(name)).param_groups
    assert (group["lr"], group["betas"]) == (2e-4, (0.5, 0.999))
    wanted = {id(p) for p in trained.networks[name].parameters()}
    assert {id(p) for p in group["params"]} == wanted


def test_the_gan_divergence_with_its_trick_is_dcgan() -> None:
    """Of all f-divergences this one makes the same training as the logistic loss."""
    mine = family(Fgan, FganConfig(width=4, divergence="gan"))
    theirs = family(Dcgan, DcganConfig(width=4))
    for logits in (LOGITS, torch.linspace(-30, 30, 7)[:, None]):
        torch.testing.assert_close(mine.real_loss(logits), theirs.real_loss(logits))
        torch.testing.assert_close(mine.fake_loss(logits), theirs.fake_loss(logits))
        torch.testing.assert_close(mine.generator_loss(logits), theirs.generator_loss(logits))


def test_algorithm_one_of_the_gan_divergence_is_the_saturating_loss() -> None:
    mine = family(Fgan, FganConfig(width=4, divergence="gan", generator_objective="minimise"))
    torch.testing.assert_close(mine.generator_loss(LOGITS), F.logsigmoid(-LOGITS).mean())


@pytest.mark.parametrize("divergence", get_args(DivergenceName))
@pytest.mark.parametrize("objective", ["minimise", "non_saturating"])
def test_the_configuration_chooses_the_losses(divergence: DivergenceName, objective: str) -> None:
    config = FganConfig.model_validate(
        {"width": 4, "divergence": divergence, "generator_objective": objective}
    )
    mine = family(Fgan, config)
    wanted: Callable[..., torch.Tensor] = (
        divergences.minimising_loss if objective == "minimise" else divergences.non_saturating_loss
    )
    assert torch.equal(mine.generator_loss(LOGITS), wanted(LOGITS, divergence=divergence))
    assert torch.equal(mine.real_loss(LOGITS), divergences.real_loss(LOGITS, divergence=divergence))
    assert torch.equal(mine.fake_loss(LOGITS), divergences.fake_loss(LOGITS, divergence=divergence))


@pytest.mark.parametrize("divergence", get_args(DivergenceName))
def test_signs_steer_only_where_a_discriminator_that_cannot_tell_says_zero(
    divergence: DivergenceName,
) -> None:
    """There the bound is flat at 0 where real and generated pictures are alike."""
    alike = torch.zeros(1, 1, requires_grad=True)
    bound = divergences.real_loss(alike, divergence=divergence) + divergences.fake_loss(
        alike, divergence=divergence
    )
    (slope,) = torch.autograd.grad(bound, alike)
    for switch in ({"adaptive_target": 0.6}, {"apa_target": 0.6}, {"pipeline": "ada"}):
        values = {"divergence": divergence} | switch
        if slope.abs() < 1e-6:
            FganConfig.model_validate(values)
        else:
            with pytest.raises(ValidationError, match="says 1, not 0"):
                FganConfig.model_validate(values)
