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

from core.models.slaegan import Discriminator, Generator, crop_quadrant, small_side
from core.training.apa import deceive
from core.training.augment import Draws, apply, draw, flip
from core.training.coverage import choose, pull
from core.training.ema import decay_at
from core.training.fakes import Fakes
from core.training.family import Phase
from core.training.latents import Latents, draw_latents
from core.training.losses import generator_loss, hinge_fake, hinge_margin, hinge_real, reconstruction
from core.training.microbatch import Tally, parts, split
from core.training.snapshot import deploy, write_generator, write_grid
from core.training.switches import Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
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
    fakes: Fakes
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
        micro_batch: pictures in memory at a time; see `core.training.microbatch`.
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
        micro_batch: int | None = None,
    ) -> None:
        self.networks: Mapping[str, nn.Module] = networks
        self._config, self._dtype, self._device = config, dtype, device
        self._micro_batch = micro_batch or config.batch
        generator, discriminator = networks["generator"], networks["discriminator"]
        assert isinstance(generator, Generator)
        assert isinstance(discriminator, Discriminator)
        self._generator, self._discriminator = generator, discriminator
        for part in discriminator.first_parts(config.freeze_discriminator):
            part.requires_grad_(False)
        if config.compile != "off":
            for network in networks.values():
                network.compile(mode=config.compile)
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
        if self._config.compile == "reduce-overhead":  # the import of the compiler takes a second
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch's stub
        clear = real_N3HW.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
        if self._config.flips:
            clear = flip(clear, generator=self._draws)
        strength = self._switches.strength()
        real = apply(clear, self._draw_augmentation(clear), probability=strength)
        fakes = Fakes(self._generator, self._draw_latents(rows_N), micro_batch=self._micro_batch)
        if self._switches.apa is not None:
            # Augmented by draws of its own, as the real picture was in whose place it comes.
            pseudo = fakes.clear[0].detach().float()
            pseudo = apply(pseudo, self._draw_augmentation(pseudo), probability=strength)
            share = self._switches.apa.probability
            real = deceive(real, pseudo_N3HW=pseudo, probability=share, generator=self._draws)
        small = small_side(self._config.resolution)
        fakes.augment(*(self._draw_augmentation(fake) for fake in fakes.clear), probability=strength)
        self._now = _Iteration(
            real_N3HW=real,
            small_N3HW=F.interpolate(real, size=small, mode="nearest"),
            fakes=fakes,
            clear_N3SS=F.adaptive_avg_pool2d(clear, small) if self._config.coverage > 0 else None,
        )

    def _draw_latents(self, rows_N: Tensor) -> Latents:
        """For training: with the metadata of the real pictures that D sees in the same iteration."""
        return draw_latents(
            self._generator,
            metadata_MF=self._metadata_MF,
            rows_N=rows_N,
            dropout=self._config.metadata_dropout,
            dtype=self._dtype,
            draws=self._draws,
        )

    def _draw_augmentation(self, pictures_N3HW: Tensor) -> Draws:
        chance = self._switches.strength() is not None
        return draw(
            pictures_N3HW.float(), kinds=self._config.augmentation, generator=self._draws, chance=chance
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
        tally, real_logits, fake_logits = Tally(now.real_N3HW.shape[0], backward=backward), [], []
        for rows in self._parts(now):
            real, small = now.real_N3HW[rows], now.small_N3HW[rows]
            judged = self._discriminator(self._in_type(real), self._in_type(small), quadrant=quadrant)
            logits = judged.logits_NK
            losses = {"real": hinge_real(logits, self._margin(logits))}
            if quadrant is not None:
                losses["reconstruction"] = self._reconstruction(
                    judged.decoded, real, small, quadrant=quadrant
                )
            tally.add(losses | self._switches.on_real(logits), rows=rows)
            real_logits.append(logits.detach().clone())
        for rows in self._parts(now):
            full, small = (self._in_type(fake) for fake in now.fakes.judged(rows))
            logits = self._discriminator(full, small).logits_NK
            losses = {"fake": hinge_fake(logits, self._margin(logits))}
            tally.add(losses | self._switches.on_fake(logits), rows=rows)
            fake_logits.append(logits.detach().clone())
        told = self._switches.observe(real_NK=torch.cat(real_logits), fake_NK=torch.cat(fake_logits))
        return tally.losses | told

    def _parts(self, now: _Iteration) -> Iterator[slice]:
        """The rows of D's micro-batches."""
        return parts(self._discriminator, now.real_N3HW.shape[0], size=self._micro_batch)

    def _generator_step(self, now: _Iteration, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """L_G against the updated D, whose parameters are frozen; its power iteration and BN still update."""
        tally = Tally(now.real_N3HW.shape[0], backward=backward)
        for parameter in self._judging:
            parameter.requires_grad_(False)
        for rows in self._parts(now):
            full, small = (self._in_type(fake) for fake in now.fakes.with_graph(rows))
            tally.add({"generator": generator_loss(self._discriminator(full, small).logits_NK)}, rows=rows)
        for parameter in self._judging:
            parameter.requires_grad_(True)
        if now.clear_N3SS is not None:
            self._cover(now.clear_N3SS, tally=tally)
        return tally.losses | {"metadata_ratio": now.fakes.metadata_ratio()}

    def _cover(self, real_N3SS: Tensor, *, tally: Tally) -> None:
        """The coverage term over a fresh pool, whose latents get the metadata of any picture of the set."""
        assert self._perceptual is not None
        count = real_N3SS.shape[0] * self._config.coverage_pool
        pictures = 1 if self._metadata_MF is None else self._metadata_MF.shape[0]
        rows_P = torch.randint(pictures, (count,), device=self._device, generator=self._draws)
        pool = self._draw_latents(rows_P)
        chosen_N, found = choose(
            self._generator,
            pool,
            real_N3SS=real_N3SS,
            radius=self._config.coverage_radius,
            micro_batch=self._micro_batch,
        )
        for rows in split(real_N3SS.shape[0], size=self._micro_batch):
            loss = pull(
                self._generator,
                pool.rows(chosen_N[rows]),
                real_N3SS=real_N3SS[rows],
                perceptual=self._perceptual,
            )
            tally.add({"coverage": found * self._config.coverage * loss}, rows=rows)

    def _margin(self, logits_NK: Tensor) -> Tensor:
        return hinge_margin(logits_NK, kind=self._config.hinge_margin, generator=self._draws)

    def _in_type(self, pictures_N3HW: Tensor) -> Tensor:
        return pictures_N3HW.to(self._dtype, memory_format=torch.channels_last)

    def _reconstruction(
        self, decoded: tuple[Tensor, ...], real_N3HW: Tensor, small_N3HW: Tensor, *, quadrant: int
    ) -> Tensor:
        """The three decoders' LPIPS in one call; the first two share their target, and its features."""
        assert self._perceptual is not None
        count = real_N3HW.shape[0]
        with torch.no_grad():
            part = F.interpolate(
                crop_quadrant(real_N3HW, quadrant), size=small_N3HW.shape[2:], mode="nearest"
            )
            both = self._perceptual.directions(torch.cat([small_N3HW, part]))
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
        self, stem: Path, *, weights: dict[str, Tensor], images_seen: int, check_stop: Callable[[], None]
    ) -> tuple[Path, Path]:
        """Write the deployed generator and its grid."""
        deployed = deploy(
            weights,
            config=self._config,
            bank=self._bank,
            dtype=self._dtype,
            check_stop=check_stop,
            # Without gradients four times the pictures take no more memory than a step does.
            batch=None if self._micro_batch == self._config.batch else 4 * self._micro_batch,
        )
        generator, grid = stem.with_suffix(".safetensors"), stem.with_suffix(".png")
        write_generator(generator, deployed, images_seen=images_seen)
        write_grid(grid, deployed, check_stop=check_stop)
        return generator, grid


def _sum(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()
