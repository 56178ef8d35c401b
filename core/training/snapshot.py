"""The deployed generator: averaged weights, fresh BN statistics, spectral norm folded, in one safetensors file.

Shapes: N pictures, Z latent numbers, M rows of the bank, F metadata features.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.errors import ConfigurationFailed
from core.files import atomic_path
from core.models.layers import SpectralConv2d
from core.models.slaegan import LATENT, Generator
from core.schemas.training import SlaeganConfig
from core.training.metadata import MetadataBank, mixed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

Latents = Literal["mix", "bank", "plain"]
_FORMAT, _VERSION = "slaegan-generator", "1"
_POWER_ITERATIONS = 20
_BN_LATENTS, _BN_BATCH = 2048, 64
STATISTICS_BATCH = (
    16  # pictures that are normalised by their own statistics together, where a protocol wants that
)
_GRID_SEED = 0
_GRID_SIDE = 6
_GRID_PIXELS = 1024


class DeployedGenerator:
    """A generator in evaluation mode, float32; each picture is a function of (seed, index) alone.

    Args:
        network: with folded kernels and running statistics, in evaluation mode.
        config: it was trained with.
        bank: metadata of the training pictures, None where it was trained without.
        images_seen: real pictures shown in training, the model's age.
    """

    def __init__(
        self, network: Generator, *, config: SlaeganConfig, bank: MetadataBank | None, images_seen: int = 0
    ) -> None:
        self.network, self.config, self.bank, self.images_seen = network, config, bank, images_seen
        self._device = next(network.parameters()).device
        # The memory of 16 pictures at 256 pixels is enough at every resolution.
        self._together = max(2, min(STATISTICS_BATCH, STATISTICS_BATCH * 256**2 // config.resolution**2))
        self._metadata_MF = None if bank is None else bank.standardised()

    def sample(self, *, seed: int, start: int, count: int, latents: Latents = "mix") -> Tensor:
        """Make pictures number start to start + count - 1 of a seed.

        Args:
            seed: at least 0.
            start: first index, at least 0.
            count: how many, at least 1.
            latents: where metadata comes from: one row of the bank, a convex mix of two, or plain for the
                noise alone. A generator trained without metadata knows plain noise only.

        Returns:
            count,3,resolution,resolution uint8 on the CPU.
        """
        return self.pictures(range(start, start + count), seed=seed, latents=latents)

    @torch.no_grad()
    def pictures(self, indices: Sequence[int], *, seed: int, latents: Latents = "mix") -> Tensor:
        """Make some pictures of a seed, as `sample` does, in the order of their indices as given."""
        parts = []
        for first in range(0, len(indices), self._together):
            some = list(indices[first : first + self._together])
            # One picture takes other kernels than many, and would differ in its last bits.
            padded = some * 2 if len(some) == 1 else some
            latent_NZ, noises, _ = self._draw(padded, seed=seed, latents=latents)
            full_N3HW, _ = self.network(latent_NZ, noises)
            pixels = ((full_N3HW + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
            parts.append(pixels[: len(some)].cpu().contiguous())
        return torch.cat(parts)

    def bank_rows(self, indices: Sequence[int], *, seed: int, latents: Latents = "mix") -> Tensor | None:
        """Which rows of the bank the pictures of some indices were drawn from; N1, of mixes N2, int64.

        None where the bank has no part in them.
        """
        parts = []  # the noise planes, drawn along with them, are large: never those of all at once
        for first in range(0, len(indices), self._together):
            _, _, rows = self._draw(indices[first : first + self._together], seed=seed, latents=latents)
            if rows is None:
                return None
            parts.append(rows)
        return torch.cat(parts)

    @contextmanager
    def batch_statistics(self) -> Iterator[None]:
        """Within it, BN uses the statistics of 16 pictures that are made together, as the papers' generators do."""
        layers = [layer for layer in self.network.modules() if isinstance(layer, nn.BatchNorm2d)]
        together, self._together = self._together, STATISTICS_BATCH
        for layer in layers:
            layer.track_running_stats = False  # those that it has stay as they are
            layer.train()
        try:
            yield
        finally:
            self._together = together
            for layer in layers:
                layer.track_running_stats = True
                layer.eval()

    def _draw(
        self, indices: Sequence[int], *, seed: int, latents: Latents
    ) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """Latents, noise planes, and rows of the bank, drawn on the CPU so that they are the same on every device."""
        sides = self.network.noise_sides()
        sources = [np.random.Generator(np.random.Philox(key=[seed, index])) for index in indices]
        noise_NZ = torch.from_numpy(np.stack([s.standard_normal(LATENT, dtype=np.float32) for s in sources]))
        planes = [
            torch.from_numpy(
                np.stack([s.standard_normal((1, side, side), dtype=np.float32) for s in sources])
            )
            for side in sides
        ]
        metadata_NF = rows_N2 = None
        if self._metadata_MF is not None and latents != "plain":
            count = self._metadata_MF.shape[0]
            rows_N2 = torch.from_numpy(np.stack([s.integers(count, size=2) for s in sources]))
            share_N = torch.tensor([s.random() for s in sources], dtype=torch.float32)
            metadata_NF = self._metadata_MF[rows_N2[:, 0]]
            if latents == "mix":
                metadata_NF = mixed(metadata_NF, self._metadata_MF[rows_N2[:, 1]], share_N)
            else:
                rows_N2 = rows_N2[:, :1]
            metadata_NF = metadata_NF.to(self._device)
        latent_NZ = self.network.latent(noise_NZ.to(self._device), metadata_NF)
        return latent_NZ, [plane.to(self._device) for plane in planes], rows_N2


@torch.no_grad()
def deploy(
    weights: dict[str, Tensor],
    *,
    config: SlaeganConfig,
    bank: MetadataBank | None,
    dtype: torch.dtype,
    check_stop: Callable[[], None],
    batch: int | None = None,
) -> DeployedGenerator:
    """Turn a generator in training into one that can be served.

    Averaged weights, 20 power iterations, spectral norm folded, then BN statistics measured anew over
    2,048 latents of the training's mixture, noise on: the training's own statistics belong to other weights.

    Args:
        weights: of a generator in training, by name: averaged parameters, and buffers. They are not changed.
        config: of the job.
        bank: metadata of the training pictures.
        dtype: in which the statistics are measured.
        check_stop: called between batches; may raise to give up.
        batch: latents in memory at a time, where the usual ones would not fit.
    """
    # The memory of a batch of 64 at 256 pixels is enough at every resolution.
    batch = min(_BN_BATCH, _BN_BATCH * 256**2 // config.resolution**2, batch or _BN_BATCH)
    device = next(iter(weights.values())).device
    spectral = Generator(config).to(device)
    spectral.load_state_dict(weights)
    plain = Generator(config, spectral=False).to(device)
    state = spectral.state_dict()
    for name, layer in spectral.named_modules():
        if isinstance(layer, SpectralConv2d):
            state[f"{name}.weight"] = layer.weight / layer.iterate(_POWER_ITERATIONS)
            del state[f"{name}.u"], state[f"{name}.v"]
    plain.load_state_dict(state)
    _measure_batch_norm(plain, config=config, bank=bank, dtype=dtype, check_stop=check_stop, batch=batch)
    return DeployedGenerator(plain.eval().requires_grad_(False), config=config, bank=bank)


def _measure_batch_norm(
    network: Generator,
    *,
    config: SlaeganConfig,
    bank: MetadataBank | None,
    dtype: torch.dtype,
    check_stop: Callable[[], None],
    batch: int,
) -> None:
    """Set every BN layer's running statistics to the mean over fresh batches."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean of all batches
    network.train()
    device = next(network.parameters()).device
    draws = torch.Generator(device).manual_seed(config.seed)
    metadata_MF = None if bank is None else bank.standardised().to(device)
    for _ in range(_BN_LATENTS // batch):
        check_stop()
        latent_NZ = torch.randn(batch, LATENT, device=device, generator=draws)
        if metadata_MF is not None:
            rows_N = torch.randint(metadata_MF.shape[0], (batch,), device=device, generator=draws)
            uniform_N = torch.rand(batch, device=device, generator=draws)
            kept_N = (uniform_N >= config.metadata_dropout).float()
            latent_NZ = network.latent(latent_NZ, metadata_MF[rows_N], kept_N=kept_N)
        latent_NZ = latent_NZ.to(dtype)
        network(latent_NZ, network.draw_noises(latent_NZ, generator=draws))


def write_generator(path: Path, deployed: DeployedGenerator, *, images_seen: int) -> None:
    """Write a deployed generator: tensors, and in the header its configuration as JSON."""
    tensors = {f"generator.{name}": t.contiguous() for name, t in deployed.network.state_dict().items()}
    if deployed.bank is not None:
        tensors["bank.rows"] = deployed.bank.rows_MF.contiguous()
        tensors["bank.mean"] = deployed.bank.mean_F.contiguous()
        tensors["bank.deviation"] = deployed.bank.deviation_F.contiguous()
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "family": deployed.config.family,
        "images_seen": str(images_seen),
        "config": json.dumps(deployed.config.model_dump(mode="json")),
    }
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
    config = SlaeganConfig.model_validate_json(header["config"])
    # The channels-last layout comes before the weights: a file keeps no strides.
    network = Generator(config, spectral=False).to(device)
    network.load_state_dict(
        {n.removeprefix("generator."): t for n, t in tensors.items() if n.startswith("generator.")}
    )
    bank = None
    if config.metadata:
        bank = MetadataBank(
            rows_MF=tensors["bank.rows"].cpu(),
            mean_F=tensors["bank.mean"].cpu(),
            deviation_F=tensors["bank.deviation"].cpu(),
        )
    return DeployedGenerator(
        network.eval().requires_grad_(False), config=config, bank=bank, images_seen=int(header["images_seen"])
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
        pictures_N3HW = deployed.sample(seed=_GRID_SEED, start=row * across, count=across)
        rows.append(pictures_N3HW.permute(2, 0, 3, 1).reshape(side, across * side, 3))
    with atomic_path(path) as temporary:
        Image.fromarray(torch.cat(rows).numpy()).save(temporary, format="PNG")
