"""The training of every family, by its configuration."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

    from core.schemas.families import Config
    from core.training.classes import Classes
    from core.training.family import Family

# Resolved when a training is made: only its own modules are imported.
_TRAINED_BY = {
    "slaegan": "core.training.slaegan:Slaegan",
    "fastgan_baseline": "core.training.slaegan:Slaegan",
    "sagan": "core.training.sagan:Sagan",
    "stylegan2": "core.training.stylegan2:Stylegan2",
    "dcgan": "core.training.dcgan:Dcgan",
    "wgan": "core.training.wgan:Wgan",
    "wgan_gp": "core.training.wgan:WganGp",
    "fgan": "core.training.fgan:Fgan",
    "codes": "core.training.codes:Codes",
}


def family_of(config: Config) -> type[Family]:
    """The class that trains a configuration."""
    family: type[Family] = resolve_name(_TRAINED_BY[config.family])
    return family


def build_networks(
    config: Config, *, device: torch.device, classes: Classes | None = None
) -> dict[str, nn.Module]:
    """All networks of a training by name, weights drawn from the configuration's seed, on the device.

    Args:
        config: of any family.
        device: where they go.
        classes: of the training pictures, where the training is by class.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        networks = family_of(config).build(config, classes=0 if classes is None else len(classes.names))
    return {name: network.to(device).train() for name, network in networks.items()}
