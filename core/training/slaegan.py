"""SLAE-GAN in training: one generator forward, a discriminator step, then a generator step against it.

Source: SLAE-GAN, section 3; FastGAN, section 3 and its published recipe (docs/method.md).
Shapes: N pictures, K logits, Z latent numbers, M pictures in the set, F metadata features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.slaegan import LATENT, Discriminator, Generator, crop_quadrant, small_side
from core.training.apa import deceive
from core.training.augment import augment, flip
from core.training.coverage import coverage_loss
from core.training.ema import decay_at
from core.training.family import Phase
from core.training.losses import generator_loss, hinge_fake, hinge_margin, hinge_real, reconstruction
from core.training.snapshot import deploy, write_generator, write_grid
from core.training.switches import Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from core.schemas.training import SlaeganConfig
    from core.training.metadata import MetadataBank
    from core.training.perceptual import Lpips

_BETAS = (0.5, 0.999)
_QUADRANTS = 4


def build_networks(config: SlaeganConfig, *, device: torch.device) -> dict[str, nn.Module]:
    """Generator and discriminator with weights drawn from the configuration's seed, channels-last."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        networks = {"generator": Generator(config), "discriminator": Discriminator(config)}
    return {name: network.to(device).train() for name, network in networks.items()}


@dataclass(frozen=True)
class _Iteration:
    """What both phases of an iteration share; pictures are augmented, float32, in [-1, 1].

    `clear_N3SS`, for the coverage term alone, are the real ones reduced to the small side and not augmented.
    """

    real_N3HW: Tensor
    small_N3HW: Tensor
    fake_N3HW: Tensor
    fake_small_N3HW: Tensor
    metadata_ratio: Tensor
    clear_N3SS: Tensor | None


class Slaegan:
    """The family's side of the trainer's interface (`core.training.family.Family`).

    Args:
        config: of the job.
        networks: from `build_networks`.
        bank: metadata of the training pictures; None where the configuration has none.
        perceptual: LPIPS in the type to compute in; None where the configuration has neither decoders nor coverage.
        dtype: in which the networks compute.
        device: where everything lies.
    """

    phases: tuple[Phase, ...] = (Phase("discriminator"), Phase("generator"))
    averaged = "generator"

    def __init__(
        self,
        config: SlaeganConfig,
        *,
        networks: dict[str, nn.Module],
        bank: MetadataBank | None,
        perceptual: Lpips | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.networks: Mapping[str, nn.Module] = networks
        self._config, self._dtype, self._device = config, dtype, device
        generator, discriminator = networks["generator"], networks["discriminator"]
        assert isinstance(generator, Generator)
        assert isinstance(discriminator, Discriminator)
        self._generator, self._discriminator = generator, discriminator
        for part in discriminator.first_parts(config.freeze_discriminator):
            part.requires_grad_(False)
        self._judging = [p for p in discriminator.parameters() if p.requires_grad]
        self._bank, self._perceptual = bank, perceptual
        self._metadata_MF = None if bank is None else bank.standardised().to(device)
        # Seeds below 2**31 made the weights; the draws begin elsewhere.
        self._draws = None if device.type == "meta" else torch.Generator(device)
        self._host_draws = torch.Generator()
        self.reseed(0)
        self._switches = Switches(config, device=device)
        self._now: _Iteration | None = None

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """Adam with beta (0.5, 0.999), as FastGAN; the metadata's projection learns at a rate of its own."""
        rate, slow_rate = self._config.learning_rate, self._config.learning_rate * self._config.metadata_rate
        named = [(name, p) for name, p in self.networks[phase.name].named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in named if not name.startswith("metadata.")]},
            {"params": [p for name, p in named if name.startswith("metadata.")], "lr": slow_rate},
        ]
        return torch.optim.Adam(groups, lr=rate, betas=_BETAS, fused=True)

    def begin(self, real_N3HW: Tensor, *, rows_N: Tensor) -> None:
        """Flip and augment the real pictures, and make as many generated ones, augmented once for both steps."""
        clear = real_N3HW.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
        if self._config.flips:
            clear = flip(clear, generator=self._draws)
        real = self._augment(clear)
        noise_NZ = torch.randn(real.shape[0], LATENT, device=real.device, generator=self._draws)
        latent_NZ = self._latent(noise_NZ, rows_N=rows_N)
        in_type_NZ = latent_NZ.to(self._dtype)
        noises = self._generator.draw_noises(in_type_NZ, generator=self._draws)
        fake, fake_small = self._generator(in_type_NZ, noises)
        with torch.no_grad():
            ratio = (latent_NZ - noise_NZ).var() / noise_NZ.var()
        if self._switches.apa is not None:
            # Augmented by draws of its own, as the real picture was in whose place it comes.
            pseudo, share = self._augment(fake.detach().float()), self._switches.apa.probability
            real = deceive(real, pseudo_N3HW=pseudo, probability=share, generator=self._draws)
        small = small_side(self._config.resolution)
        self._now = _Iteration(
            real_N3HW=real,
            small_N3HW=F.interpolate(real, size=small, mode="nearest"),
            fake_N3HW=self._augment(fake.float()),
            fake_small_N3HW=self._augment(fake_small.float()),
            metadata_ratio=ratio,
            clear_N3SS=F.adaptive_avg_pool2d(clear, small) if self._config.coverage > 0 else None,
        )

    def _latent(self, noise_NZ: Tensor, *, rows_N: Tensor) -> Tensor:
        """The noise with the metadata of the real pictures that D sees in the same iteration."""
        if self._metadata_MF is None:
            return noise_NZ
        kept_N = None
        if self._config.metadata_dropout > 0:
            uniform_N = torch.rand(noise_NZ.shape[0], device=noise_NZ.device, generator=self._draws)
            kept_N = (uniform_N >= self._config.metadata_dropout).float()
        return self._generator.latent(noise_NZ, self._metadata_MF[rows_N], kept_N=kept_N)

    def _augment(self, pictures_N3HW: Tensor) -> Tensor:
        return augment(
            pictures_N3HW,
            kinds=self._config.augmentation,
            generator=self._draws,
            probability=self._switches.strength(),
        )

    def run(self, phase: Phase, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """Compute the losses of a phase and call backward on each."""
        assert self._now is not None, "begin comes first"
        step = self._discriminator_step if phase.name == "discriminator" else self._generator_step
        return {name: loss.detach() for name, loss in step(self._now, backward=backward).items()}

    def _discriminator_step(
        self, now: _Iteration, *, backward: Callable[[Tensor], None]
    ) -> dict[str, Tensor]:
        """L_D on real pictures with its reconstruction, then apart on generated ones: their BN statistics differ."""
        quadrant = None
        if self._config.decoders:
            quadrant = int(torch.randint(_QUADRANTS, (), generator=self._host_draws))
        real = self._discriminator(
            self._in_type(now.real_N3HW), self._in_type(now.small_N3HW), quadrant=quadrant
        )
        losses = {"real": hinge_real(real.logits_NK, self._margin(real.logits_NK))}
        if quadrant is not None:
            losses["reconstruction"] = self._reconstruction(real.decoded, now, quadrant=quadrant)
        losses |= self._switches.on_real(real.logits_NK)
        backward(_sum(losses.values()))
        fake = self._discriminator(
            self._in_type(now.fake_N3HW.detach()), self._in_type(now.fake_small_N3HW.detach())
        )
        on_fake = {"fake": hinge_fake(fake.logits_NK, self._margin(fake.logits_NK))}
        on_fake |= self._switches.on_fake(fake.logits_NK)
        backward(_sum(on_fake.values()))
        told = self._switches.observe(real_NK=real.logits_NK, fake_NK=fake.logits_NK)
        return losses | on_fake | told

    def _generator_step(self, now: _Iteration, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """L_G against the updated D, whose parameters are frozen; its power iteration and BN still update."""
        for parameter in self._judging:
            parameter.requires_grad_(False)
        judged = self._discriminator(self._in_type(now.fake_N3HW), self._in_type(now.fake_small_N3HW))
        loss = generator_loss(judged.logits_NK)
        backward(loss)
        for parameter in self._judging:
            parameter.requires_grad_(True)
        losses = {"generator": loss, "metadata_ratio": now.metadata_ratio}
        if now.clear_N3SS is not None:
            losses["coverage"] = self._config.coverage * self._coverage(now.clear_N3SS)
            backward(losses["coverage"])
        return losses

    def _coverage(self, real_N3SS: Tensor) -> Tensor:
        """The coverage term over a fresh pool, whose latents get the metadata of any picture of the set."""
        assert self._perceptual is not None
        count = real_N3SS.shape[0] * self._config.coverage_pool
        noise_PZ = torch.randn(count, LATENT, device=self._device, generator=self._draws)
        pictures = 1 if self._metadata_MF is None else self._metadata_MF.shape[0]
        rows_P = torch.randint(pictures, (count,), device=self._device, generator=self._draws)
        latent_PZ = self._latent(noise_PZ, rows_N=rows_P).to(self._dtype)
        return coverage_loss(
            self._generator,
            latent_PZ,
            self._generator.draw_noises(latent_PZ, generator=self._draws),
            real_N3SS=real_N3SS,
            perceptual=self._perceptual,
            radius=self._config.coverage_radius,
        )

    def _margin(self, logits_NK: Tensor) -> Tensor:
        return hinge_margin(logits_NK, kind=self._config.hinge_margin, generator=self._draws)

    def _in_type(self, pictures_N3HW: Tensor) -> Tensor:
        return pictures_N3HW.to(self._dtype, memory_format=torch.channels_last)

    def _reconstruction(self, decoded: tuple[Tensor, ...], now: _Iteration, *, quadrant: int) -> Tensor:
        """The three decoders' LPIPS in one call; the first two share their target, and its features."""
        assert self._perceptual is not None
        count = now.real_N3HW.shape[0]
        with torch.no_grad():
            part = F.interpolate(
                crop_quadrant(now.real_N3HW, quadrant), size=now.small_N3HW.shape[2:], mode="nearest"
            )
            both = self._perceptual.directions(torch.cat([now.small_N3HW, part]))
            targets = [torch.cat([features[:count], features]) for features in both]
        distances = self._perceptual.against(torch.cat(decoded), targets)
        return _sum(reconstruction(distances_N) for distances_N in distances.split(count))  # type: ignore[no-untyped-call]  # torch's stub

    def average_decay(self, iteration: int) -> float:
        """The EMA's decay at an iteration, counted from 0."""
        return decay_at(iteration, kind=self._config.ema)

    def statistics(self) -> list[Tensor]:
        """What the switches remember; a skipped iteration leaves it as it was."""
        return self._switches.statistics()

    def state(self) -> dict[str, Any]:
        """Random generators, what the switches remember, and the bank that sampling needs."""
        assert self._draws is not None, "only a test's step runs on the meta device"
        bank = None if self._bank is None else {"rows": self._bank.rows_MF}
        return {
            "draws": self._draws.get_state(),
            "host_draws": self._host_draws.get_state(),
            "switches": self._switches.state(),
            "bank": bank,
        }

    def reseed(self, salt: int) -> None:
        """Begin the random draws anew, from the configuration's seed and a number."""
        seed = self._config.seed + 2**31 * (1 + salt)
        for draws in (self._draws, self._host_draws):
            if draws is not None:
                draws.manual_seed(seed)

    def load(self, state: dict[str, Any]) -> None:
        """Take over the random generators, and what the switches remembered, of a saved state."""
        assert self._draws is not None, "only a test's step runs on the meta device"
        self._draws.set_state(state["draws"].cpu())
        self._host_draws.set_state(state["host_draws"].cpu())
        self._switches.load(state.get("switches", {}))  # a state from before there were switches has none on

    def write_snapshot(
        self, stem: Path, *, average: dict[str, Tensor], images_seen: int, check_stop: Callable[[], None]
    ) -> tuple[Path, Path]:
        """Write the deployed generator and its grid."""
        deployed = deploy(
            self._generator,
            config=self._config,
            average=average,
            bank=self._bank,
            dtype=self._dtype,
            check_stop=check_stop,
        )
        generator, grid = stem.with_suffix(".safetensors"), stem.with_suffix(".png")
        write_generator(generator, deployed, images_seen=images_seen)
        write_grid(grid, deployed, check_stop=check_stop)
        return generator, grid


def _sum(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()
