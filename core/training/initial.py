"""Fine-tuning: begin from the weights of another training instead of random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import ConfigurationFailed
from core.models.layers import SpectralConv2d
from core.schemas.training import SlaeganConfig, architecture_differences
from core.training import checkpoint
from core.training.snapshot import load_generator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

_POWER_ITERATIONS = 100  # from random vectors; the trained ones are not in a generator's file


def initialise(networks: Mapping[str, nn.Module], path: Path, *, config: SlaeganConfig) -> dict[str, Any]:
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
        ConfigurationFailed: the checkpoint's networks are others, with the differences.
        DataFailed: the state is damaged.
    """
    generator = networks["generator"]
    device = next(generator.parameters()).device
    if checkpoint.is_state(path):
        state = checkpoint.load_state(path, device=device)
        _check(SlaeganConfig.model_validate(state["config"]), config)
        generator.load_state_dict(state["networks"]["generator"] | state["average"])
        networks["discriminator"].load_state_dict(state["networks"]["discriminator"])
        return {"kind": "state", "images_seen": state["images_seen"]}
    deployed = load_generator(path, device=device)
    # Decoders belong to the discriminator.
    _check(deployed.config.model_copy(update={"decoders": config.decoders}), config)
    generator.load_state_dict(generator.state_dict() | deployed.network.state_dict())
    for layer in generator.modules():
        if isinstance(layer, SpectralConv2d):
            layer.iterate(_POWER_ITERATIONS)
    return {"kind": "generator", "images_seen": deployed.images_seen}


def _check(then: SlaeganConfig, now: SlaeganConfig) -> None:
    differing = architecture_differences(then, now)
    if differing:
        listed = "; ".join(f"{name} was {old!r}, is {new!r}" for name, (old, new) in differing.items())
        raise ConfigurationFailed(
            f"The checkpoint to begin from has other networks: {listed}. Submit with its values.",
            differing={name: list(values) for name, values in differing.items()},
        )
