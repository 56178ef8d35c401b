"""The deployed generator: averaged weights, fresh BN statistics, spectral norm folded, in one safetensors file.

Shapes: N pictures, Z latent numbers, M rows of the bank, F metadata features.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.errors import ConfigurationFailed
from core.files import atomic_path
from core.models.layers import SpectralConv2d
from core.schemas.families import parse_config
from core.training.classes import Classes
from core.training.deployed import GRID_SEED, DeployedGenerator
from core.training.families import family_of
from core.training.metadata import MetadataBank
from core.training.precision import computing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core.models.contract import PictureGenerator
    from core.schemas.families import Config
    from core.training.family import Setting

_FORMAT, _VERSION = "slaegan-generator", "1"
_POWER_ITERATIONS = 20
_BN_LATENTS, _BN_BATCH = 2048, 64
_GRID_SIDE = 6
_GRID_PIXELS = 1024


@torch.no_grad()
def deploy(
    weights: dict[str, Tensor], *, config: Config, setting: Setting, check_stop: Callable[[], None]
) -> DeployedGenerator:
    """Turn a generator in training into one that can be served.

    Averaged weights, 20 power iterations, spectral norm folded, then BN statistics measured anew over
    2,048 latents of the training's mixture, noise on: the training's own statistics belong to other weights.

    Args:
        weights: of a generator in training, by name: averaged parameters, and buffers. They are not changed.
        config: of the job.
        setting: of the training; the statistics are measured in its type, and in no larger parts than memory allows.
        check_stop: called between batches; may raise to give up.
    """
    family, count = family_of(config), 0 if setting.classes is None else len(setting.classes.names)
    device = next(iter(weights.values())).device
    trained = family.deployable(config, classes=count, spectral=True).to(device)
    trained.load_state_dict(weights)
    plain = family.deployable(config, classes=count, spectral=False).to(device)
    state = trained.state_dict()
    for name, layer in trained.named_modules():
        if isinstance(layer, SpectralConv2d):
            state[f"{name}.weight"] = layer.weight / layer.iterate(_POWER_ITERATIONS)
            del state[f"{name}.u"], state[f"{name}.v"]
    plain.load_state_dict(state)
    if any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules()):
        _measure_batch_norm(plain.measured(), config=config, setting=setting, check_stop=check_stop)
    plain = plain.eval().requires_grad_(False)
    return DeployedGenerator(plain, config=config, bank=setting.bank, classes=setting.classes)


def _measure_batch_norm(
    network: PictureGenerator, *, config: Config, setting: Setting, check_stop: Callable[[], None]
) -> None:
    """Set every BN layer's running statistics to the mean over fresh batches."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean of all batches
    network.train()
    # The memory of a batch of 64 at 256 pixels is enough at every resolution.
    batch = min(_BN_BATCH, _BN_BATCH * 256**2 // config.resolution**2)
    if setting.micro_batch < config.batch:
        # Without gradients four times the pictures take no more memory than a step does.
        batch = min(batch, 4 * setting.micro_batch)
    device = next(network.parameters()).device
    draws = torch.Generator(device).manual_seed(config.seed)
    for _ in range(_BN_LATENTS // batch):
        check_stop()
        noise_NZ = torch.randn(batch, network.latent_size, device=device, generator=draws)
        latent_NZ = _with_metadata(network, noise_NZ, config=config, bank=setting.bank, draws=draws)
        if network.follows_input_type:
            latent_NZ = latent_NZ.to(setting.dtype)
        planes = network.draw_noises(latent_NZ, generator=draws)
        labels_N = None
        if setting.classes is not None:
            shares_K = torch.from_numpy(setting.classes.shares).to(device)
            labels_N = torch.multinomial(shares_K, batch, replacement=True, generator=draws)
        with computing(setting.dtype, device=device, on=not network.follows_input_type):
            network.render(latent_NZ, planes, labels_N=labels_N)


def _with_metadata(
    network: PictureGenerator,
    noise_NZ: Tensor,
    *,
    config: Config,
    bank: MetadataBank | None,
    draws: torch.Generator,
) -> Tensor:
    """Latents of the training's mixture: most get the metadata of some training picture."""
    if bank is None:
        return noise_NZ
    metadata_MF = bank.standardised().to(noise_NZ.device)
    batch, device = len(noise_NZ), noise_NZ.device
    rows_N = torch.randint(metadata_MF.shape[0], (batch,), device=device, generator=draws)
    uniform_N = torch.rand(batch, device=device, generator=draws)
    kept_N = (uniform_N >= config.plain_share).float()
    return network.latent(noise_NZ, metadata_MF[rows_N], kept_N=kept_N)


def write_generator(path: Path, deployed: DeployedGenerator, *, images_seen: int) -> None:
    """Write a deployed generator: tensors, and in the header its configuration as JSON."""
    tensors = {f"generator.{name}": t.contiguous() for name, t in deployed.network.state_dict().items()}
    if deployed.bank is not None:
        tensors["bank.rows"] = deployed.bank.rows_MF.contiguous()
        tensors["bank.mean"] = deployed.bank.mean_F.contiguous()
        tensors["bank.deviation"] = deployed.bank.deviation_F.contiguous()
    classes = deployed.classes
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "family": deployed.config.family,
        "images_seen": str(images_seen),
        "config": json.dumps(deployed.config.model_dump(mode="json")),
    }
    if classes is not None:
        header["classes"] = json.dumps(dict(zip(classes.names, classes.counts, strict=True)))
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def load_generator(path: Path, *, device: torch.device | str = "cpu") -> DeployedGenerator:
    """Read a deployed generator.

    Raises:
        ConfigurationFailed: the file is damaged, or is no generator of this version.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise ConfigurationFailed(
            f"{path.name} cannot be read as a generator: {error}", file=path.name
        ) from error
    if (header.get("format"), header.get("version")) != (_FORMAT, _VERSION):
        raise ConfigurationFailed(f"{path.name} is not a generator of this service.", file=path.name)
    try:
        return _assembled(header, tensors, device=device)
    except (
        KeyError,
        ValueError,
        RuntimeError,
    ) as error:  # a pydantic error is a ValueError, a wrong shape a RuntimeError
        raise ConfigurationFailed(
            f"{path.name} is not whole as a generator: {error}", file=path.name
        ) from error


def _assembled(
    header: dict[str, str], tensors: dict[str, Tensor], *, device: torch.device | str
) -> DeployedGenerator:
    config = parse_config(json.loads(header["config"]))
    classes = None
    if "classes" in header:
        counts: dict[str, int] = json.loads(header["classes"])
        classes = Classes(tuple(counts), tuple(counts.values()))
    # The channels-last layout comes before the weights: a file keeps no strides.
    count = 0 if classes is None else len(classes.names)
    network = family_of(config).deployable(config, classes=count, spectral=False).to(device)
    network.load_state_dict(
        {n.removeprefix("generator."): t for n, t in tensors.items() if n.startswith("generator.")}
    )
    bank = None
    if config.uses_metadata:
        bank = MetadataBank(
            rows_MF=tensors["bank.rows"].cpu(),
            mean_F=tensors["bank.mean"].cpu(),
            deviation_F=tensors["bank.deviation"].cpu(),
        )
    return DeployedGenerator(
        network.eval().requires_grad_(False),
        config=config,
        bank=bank,
        classes=classes,
        images_seen=int(header["images_seen"]),
    )


def write_grid(
    path: Path, deployed: DeployedGenerator, *, check_stop: Callable[[], None] = lambda: None
) -> None:
    """Write a PNG of the same latents at every age of a model: 6x6 pictures, fewer above 128 pixels."""
    side = deployed.config.resolution
    across = max(2, min(_GRID_SIDE, _GRID_PIXELS // side))
    rows = []
    for row in range(across):
        check_stop()
        pictures_N3HW = deployed.sample(seed=GRID_SEED, start=row * across, count=across)
        rows.append(pictures_N3HW.permute(2, 0, 3, 1).reshape(side, across * side, 3))
    with atomic_path(path) as temporary:
        Image.fromarray(torch.cat(rows).numpy()).save(temporary, format="PNG")
