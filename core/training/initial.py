"""Fine-tuning: begin from the weights of another training instead of random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import ConfigurationFailed
from core.models.layers import SpectralConv2d
from core.schemas.families import parse_config
from core.schemas.gan import architecture_differences
from core.training import checkpoint
from core.training.insgen import InsGen
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from core.schemas.training import TrainingConfig

_POWER_ITERATIONS = 100  # from random vectors; the trained ones are not in a generator's file


def initialise(networks: Mapping[str, nn.Module], path: Path, *, config: TrainingConfig) -> dict[str, Any]:
    """Load the weights of a checkpoint into new networks; optimisers, averages and random draws begin anew.

    A training state gives both networks, the generator by its averaged parameters. A deployed generator gives the
    generator alone: its kernels are divided by their spectral norms already, which normalising leaves as they are.

    Args:
        networks: generator and discriminator, on the CPU or a device.
        path: a training state, or a generator's file.
        config: of the new training.

    Returns:
        Facts: the kind of checkpoint and its age in images.

    Raises:
        ConfigurationFailed: the checkpoint's networks are others, with the differences; or it has no discriminator,
            of which parts shall be frozen.
        DataFailed: the state is damaged.
    """
    generator = networks["generator"]
    device = next(generator.parameters()).device
    if checkpoint.is_state(path):
        state = checkpoint.load_state(path, device=device)
        _check(parse_config(state["config"]), config)
        weights = state["networks"] | {"generator": state["networks"]["generator"] | state["average"]}
        for name, values in weights.items():
            # What other modules remember beside their weights belongs to the training that it comes from, and so do
            # the heads of InsGen, whose queues would not fit them here.
            if isinstance(networks.get(name), InsGen):
                continue
            if name in networks and any(True for _ in networks[name].parameters()):
                _take_over(networks[name], values, name=name, config=config)
        return {"kind": "state", "images_seen": state["images_seen"]}
    if config.freeze_discriminator > 0:
        raise ConfigurationFailed(
            "freeze_discriminator keeps the discriminator's weights as they are, and the checkpoint to begin from is a "
            "generator alone. Begin from a training state, or set freeze_discriminator to 0."
        )
    deployed = load_generator(path, device=device)
    _check(deployed.config, config, generator_only=True)
    _take_over(generator, deployed.network.state_dict(), name="generator", config=config)
    for layer in generator.modules():
        if isinstance(layer, SpectralConv2d):
            layer.iterate(_POWER_ITERATIONS)
    return {"kind": "generator", "images_seen": deployed.images_seen}


def _take_over(
    network: nn.Module, weights: Mapping[str, Tensor], *, name: str, config: TrainingConfig
) -> None:
    """Load those weights of a network that the configuration inherits; the others stay as they are."""
    own = network.state_dict()
    found = {key: value for key, value in weights.items() if f"{name}.{key}".startswith(config.inherits)}
    network.load_state_dict(own | found)


def _check(then: TrainingConfig, now: TrainingConfig, *, generator_only: bool = False) -> None:
    differing = architecture_differences(then, now, generator_only=generator_only)
    if differing:
        listed = "; ".join(f"{name} was {old!r}, is {new!r}" for name, (old, new) in differing.items())
        raise ConfigurationFailed(
            f"The checkpoint to begin from has other networks: {listed}. Submit with its values.",
            differing={name: list(values) for name, values in differing.items()},
        )
