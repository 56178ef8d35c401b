"""SLAE-GAN in training: one generator forward, a discriminator step, then a generator step against it.

Source: SLAE-GAN, section 3; FastGAN, section 3 and its published recipe (docs/method.md).
Shapes: N pictures, K logits, Z latent numbers, M pictures in the set, F metadata features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.models.slaegan import Discriminator, Generator, crop_quadrant, small_side
from core.training.apa import deceive
from core.training.augment import Draws, apply, draw, flip
from core.training.coverage import choose, pull
from core.training.ema import decay_at
from core.training.fakes import Fakes
from core.training.family import Phase, Setting
from core.training.insgen import InsGen, Views, insgen_of, perturbed
from core.training.latents import Latents, draw_latents
from core.training.losses import generator_loss, hinge_fake, hinge_margin, hinge_real, reconstruction
from core.training.microbatch import Tally, parts, replaying, split
from core.training.sources import Sources
from core.training.switches import Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from core.models.contract import Judgement
    from core.schemas.slaegan import SlaeganConfig
    from core.training.deployed import DeployedGenerator
    from core.training.insgen import Side

_BETAS = (0.5, 0.999)
_QUADRANTS = 4


@dataclass(frozen=True)
class _Iteration:
    """What both phases of an iteration share; pictures are augmented, float32, in [-1, 1].

    `clear_N3SS`, for the coverage term alone, are the real ones reduced to the small side and not augmented.
    """

    real_N3HW: Tensor
    small_N3HW: Tensor
    fakes: Fakes
    clear_N3SS: Tensor | None
    views: Views | None


class Slaegan:
    """The family's side of the trainer's interface (`core.training.family.Family`).

    Args:
        config: of the job.
        networks: from `build`, on the device.
        setting: with the metadata of the training pictures and LPIPS, where the configuration uses them.
    """

    phases: tuple[Phase, ...] = (Phase("discriminator"), Phase("generator"))
    averaged = "generator"

    @classmethod
    def build(cls, config: SlaeganConfig, *, classes: int, channels: int = 3) -> dict[str, nn.Module]:
        """Generator, discriminator and switches, and the heads of InsGen where it is on; it ignores classes."""
        del classes
        networks = {
            "generator": Generator(config, channels=channels),
            "discriminator": Discriminator(config, channels=channels),
            "switches": Switches(config),
        }
        shapes = [
            (config.batch, channels, side, side)
            for side in (config.resolution, small_side(config.resolution))
        ]
        return networks | insgen_of(config, networks["discriminator"], *shapes, labelled=False)

    @classmethod
    def deployable(
        cls, config: SlaeganConfig, *, classes: int, spectral: bool, channels: int = 3
    ) -> Generator:
        """A new generator."""
        del classes
        return Generator(config, channels=channels, spectral=spectral)

    def __init__(self, config: SlaeganConfig, *, networks: Mapping[str, nn.Module], setting: Setting) -> None:
        self.networks = networks
        self._config, self._dtype, self._device = config, setting.dtype, setting.device
        self._micro_batch = setting.micro_batch
        generator, discriminator, switches = (
            networks[name] for name in ("generator", "discriminator", "switches")
        )
        assert isinstance(generator, Generator)
        assert isinstance(discriminator, Discriminator)
        assert isinstance(switches, Switches)
        self._generator, self._discriminator, self._switches = generator, discriminator, switches
        self._insgen = cast("InsGen | None", networks.get("insgen"))
        for part in discriminator.first_parts(config.freeze_discriminator):
            part.requires_grad_(False)
        if config.compile != "off":
            for network in (generator, discriminator):
                network.compile(mode=config.compile)
        self._judging = [p for p in discriminator.parameters() if p.requires_grad]
        if self._insgen is not None:
            self._judging += list(self._insgen.parameters())
        self._bank, self._perceptual = setting.bank, setting.perceptual
        self._metadata_MF = None if setting.bank is None else setting.bank.standardised().to(setting.device)
        self._sources = Sources(config.seed, device=setting.device)
        self._draws, self._host_draws = self._sources.device, self._sources.host
        self._now: _Iteration | None = None

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """Adam with beta (0.5, 0.999), as FastGAN; the metadata's projection learns at a rate of its own."""
        rate, slow_rate = self._config.learning_rate, self._config.learning_rate * self._config.metadata_rate
        named = [(name, p) for name, p in self.networks[phase.name].named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in named if not name.startswith("metadata.")]},
            {"params": [p for name, p in named if name.startswith("metadata.")], "lr": slow_rate},
        ]
        if self._insgen is not None and phase.name == "discriminator":
            groups[0]["params"] += list(self._insgen.parameters())
        return torch.optim.Adam(groups, lr=rate, betas=_BETAS, fused=True)

    def begin(self, real_N3HW: Tensor, *, rows_N: Tensor) -> None:
        """Flip the real pictures, and show them."""
        clear = real_N3HW.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
        if self._config.flips:
            clear = flip(clear, generator=self._draws)
        self.show(clear, rows_N=rows_N)

    def show(self, clear: Tensor, *, rows_N: Tensor) -> None:
        """Augment the real pictures, and make as many generated ones, augmented once for both steps."""
        if self._config.compile == "reduce-overhead":  # the import of the compiler takes a second
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch's stub
        strength = self._switches.strength()
        real = apply(clear, self._draw_augmentation(clear), probability=strength)
        latents = self._draw_latents(rows_N)
        fakes = Fakes(self._generator, latents, micro_batch=self._micro_batch)
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
            views=self._views(clear, latents, rows_N=rows_N),
        )

    @torch.no_grad()
    def _views(self, clear_N3HW: Tensor, latents: Latents, *, rows_N: Tensor) -> Views | None:
        """Second views for InsGen, which leave G's buffers alone; None where it is off."""
        if self._insgen is None:
            return None
        strength = self._switches.strength()
        real = apply(clear_N3HW, self._draw_augmentation(clear_N3HW), probability=strength)
        near = replace(latents, noise_NZ=perturbed(latents.noise_NZ, generator=self._draws))
        with replaying(self._generator):
            rows = split(len(clear_N3HW), size=self._micro_batch)
            made = [near.rows(some).pictures(self._generator) for some in rows]
        full, small = (torch.cat(sizes).float() for sizes in zip(*made, strict=True))
        fake = tuple(
            apply(size, self._draw_augmentation(size), probability=strength) for size in (full, small)
        )
        return Views((real, F.interpolate(real, size=small.shape[2:], mode="nearest")), fake, rows_N)

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
            pictures_N3HW.float(),
            kinds=self._config.kinds,
            pipeline=self._config.pipeline,
            generator=self._draws,
            chance=chance,
        )

    def run(self, phase: Phase, *, repeat: int, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """Compute the losses of a phase and call backward on each."""
        del repeat  # each phase steps once
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
        if self._insgen is not None:
            self._insgen.follow(self._discriminator)
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
            losses |= self._switches.on_real(logits)
            tally.add(losses | self._told_apart("real", judged, now, rows=rows), rows=rows)
            real_logits.append(logits.detach().clone())
        for rows in self._parts(now):
            full, small = (self._in_type(fake) for fake in now.fakes.judged(rows))
            judged = self._discriminator(full, small)
            logits = judged.logits_NK
            losses = {"fake": hinge_fake(logits, self._margin(logits))} | self._switches.on_fake(logits)
            tally.add(losses | self._told_apart("fake", judged, now, rows=rows), rows=rows)
            fake_logits.append(logits.detach().clone())
        told = self._switches.observe(real_NK=torch.cat(real_logits), fake_NK=torch.cat(fake_logits))
        if self._insgen is not None:
            self._insgen.remember()
        return tally.losses | told

    def _told_apart(
        self, side: Side, judged: Judgement, now: _Iteration, *, rows: slice
    ) -> dict[str, Tensor]:
        """InsGen's term of D's loss on (a part of) a batch; empty where it is off."""
        if self._insgen is None or now.views is None:
            return {}
        slow_NCHW, owners_N = self._slow_features(side, now.views.rows(rows))
        return self._insgen.tell_apart(side, judged.features_NCHW, slow_NCHW, owners_N=owners_N)

    @torch.no_grad()
    def _slow_features(self, side: Side, views: Views) -> tuple[Tensor, Tensor | None]:
        assert self._insgen is not None
        pictures, owners_N = views.of(side)
        with replaying(self._discriminator):
            inputs = (self._in_type(size) for size in pictures)
            return self._insgen.slow_features(self._discriminator, *inputs), owners_N

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
            judged = self._discriminator(full, small)
            losses = {"generator": generator_loss(judged.logits_NK)}
            if self._insgen is not None and now.views is not None and self._insgen.spreads:
                slow_NCHW, _ = self._slow_features("fake", now.views.rows(rows))
                losses |= self._insgen.spread(judged.features_NCHW, slow_NCHW)
            tally.add(losses, rows=rows)
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

    def extras(self, deployed: DeployedGenerator) -> Mapping[str, Callable[[Path], None]]:
        """Nothing beside the grid."""
        del deployed
        return {}

    def average_decay(self, iteration: int) -> float:
        """The EMA's decay at an iteration, counted from 0."""
        return decay_at(iteration, kind=self._config.ema)

    def stepped(self, phase: Phase) -> None:
        """Nothing follows a step."""

    def state(self) -> dict[str, Any]:
        """Random sources, and the bank that sampling needs."""
        bank = None if self._bank is None else {"rows": self._bank.rows_MF}
        return {**self._sources.state(), "bank": bank}

    def reseed(self, salt: int) -> None:
        """Begin the random draws anew, from the configuration's seed and a number."""
        self._sources.reseed(salt)

    def load(self, state: dict[str, Any]) -> None:
        """Take over the random sources of a saved state."""
        self._sources.load(state)


def _sum(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()
