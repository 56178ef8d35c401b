"""The training of one generator and one discriminator of whole pictures, in which most families agree.

A family derives from `Gan`, names its two networks, and says what is its own: optimisers, losses, penalties, phases.
Shapes: N pictures, M pictures of the set, K logits a picture, Z latent numbers, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from core.training.apa import deceive
from core.training.augment import Draws, apply, draw, flip
from core.training.autoencoding import scaled
from core.training.ema import decay_at
from core.training.family import Phase, Setting
from core.training.insgen import InsGen, Views, insgen_of, perturbed
from core.training.microbatch import Tally, parts, replaying, split
from core.training.precision import computing
from core.training.sources import Sources
from core.training.switches import Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from core.models.contract import Judgement, PictureDiscriminator, PictureGenerator
    from core.schemas.gan import GanConfig
    from core.training.deployed import DeployedGenerator
    from core.training.insgen import Side


@dataclass(frozen=True)
class Latents:
    """What a batch of pictures is made from; the first dimension of each is the picture."""

    noise_NZ: Tensor
    planes: tuple[Tensor, ...]
    labels_N: Tensor | None

    def rows(self, rows: slice) -> Latents:
        """Those of some of the pictures."""
        labels_N = None if self.labels_N is None else self.labels_N[rows]
        return Latents(self.noise_NZ[rows], tuple(plane[rows] for plane in self.planes), labels_N)


@dataclass(frozen=True)
class Batch:
    """One step's pictures for the discriminator, augmented, float32 in [-1, 1], and the classes of each."""

    real_N3HW: Tensor
    fake_N3HW: Tensor
    labels_N: Tensor | None
    views: Views | None = None

    def rows(self, rows: slice) -> Batch:
        """Some of them."""
        labels_N = None if self.labels_N is None else self.labels_N[rows]
        views = None if self.views is None else self.views.rows(rows)
        return Batch(self.real_N3HW[rows], self.fake_N3HW[rows], labels_N, views)


class Gan:
    """The family's side of the trainer's interface (`core.training.family.Family`), as far as families agree.

    Args:
        config: of the job.
        networks: from `build`, on the device.
        setting: what the trainer gives.
    """

    averaged = "generator"
    generator_class: ClassVar[type[PictureGenerator]]
    discriminator_class: ClassVar[type[nn.Module]]

    @classmethod
    def build(cls, config: Any, *, classes: int, channels: int = 3) -> dict[str, nn.Module]:
        """Generator, discriminator and switches, and the heads of InsGen where it is on."""
        networks = {
            "generator": cls.generator_class(config, channels=channels, classes=classes),
            "discriminator": cls.discriminator_class(config, channels=channels, classes=classes),
            "switches": Switches(config),
        }
        shape = (config.batch, channels, config.resolution, config.resolution)
        return networks | insgen_of(config, networks["discriminator"], shape, labelled=classes > 0)

    @classmethod
    def deployable(cls, config: Any, *, classes: int, spectral: bool, channels: int = 3) -> PictureGenerator:
        """A new generator, for weights as they are trained or as they are served."""
        return cls.generator_class(config, channels=channels, classes=classes, spectral=spectral)

    def __init__(self, config: GanConfig, *, networks: Mapping[str, nn.Module], setting: Setting) -> None:
        self.config, self.networks, self.setting = config, networks, setting
        self.generator = cast("PictureGenerator", networks["generator"])
        self.discriminator = networks["discriminator"]
        self.judge = cast("PictureDiscriminator", self.discriminator)
        switches = networks["switches"]
        assert isinstance(switches, Switches)
        self.switches = switches
        self.insgen = cast("InsGen | None", networks.get("insgen"))
        for part in self.judge.first_parts(config.freeze_discriminator):
            part.requires_grad_(False)
        if config.compile != "off":
            self.discriminator.compile(mode=config.compile)
        # What is compiled is what is called: `Module.compile` would leave methods other than __call__ as they are.
        drawing = self.drawing()
        self.draw_pictures = (
            drawing if config.compile == "off" else torch.compile(drawing, mode=config.compile)
        )
        self._judging = self.stepping(Phase("discriminator"))
        self.sources = Sources(config.seed, device=setting.device)
        self._real_NCHW: Tensor | None = None
        self._labels_N: Tensor | None = None
        self._rows_N: Tensor | None = None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The discriminator's steps, each on new pictures, then one of the generator."""
        return (Phase("discriminator", repeats=self.config.discriminator_steps), Phase("generator"))

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """A new optimiser of what steps in a phase; a family's own."""
        raise NotImplementedError

    def stepping(self, phase: Phase) -> list[nn.Parameter]:
        """The parameters of the network by which a phase is called, but for frozen ones; D has InsGen's heads."""
        parameters = [p for p in self.networks[phase.name].parameters() if p.requires_grad]
        if self.insgen is not None and phase.name == "discriminator":
            parameters += list(self.insgen.parameters())
        return parameters

    def drawing(self) -> Callable[..., Tensor]:
        """The generator's method by which `made` has its pictures, and which is compiled where compile is on."""
        return self.generator.render

    def begin(self, real_N3HW: Tensor, *, rows_N: Tensor) -> None:
        """Flip the pictures of an iteration's steps."""
        if self.config.flips:
            real_N3HW = flip(real_N3HW, generator=self.sources.device)
        self.show(real_N3HW, rows_N=rows_N)

    def show(self, real_NCHW: Tensor, *, rows_N: Tensor) -> None:
        """Prepare an iteration from what stands for real: uint8 pictures, or codes in [-1, 1], not augmented."""
        if self.config.compile == "reduce-overhead":  # the import of the compiler takes a second
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch's stub
        self._real_NCHW = real_NCHW
        self._labels_N = None if self.setting.labels_M is None else self.setting.labels_M[rows_N]
        self._rows_N = rows_N

    def run(self, phase: Phase, *, repeat: int, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """Compute the losses of a phase's step and call backward on each."""
        match phase.name:
            case "discriminator":
                losses = self._discriminator_step(repeat, backward=backward)
            case "generator":
                losses = self._generator_step(backward=backward)
            case _:
                losses = self.regularise(phase, backward=backward)
        return {name: loss.detach() for name, loss in losses.items()}

    def regularise(self, phase: Phase, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """The step of a phase that is a family's own."""
        raise NotImplementedError(phase.name)

    def _discriminator_step(self, repeat: int, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        batch = self.shown(repeat)
        if self.insgen is not None:
            self.insgen.follow(self.discriminator)
        tally, real_logits, fake_logits = Tally(len(batch.real_N3HW), backward=backward), [], []
        for rows in self.parts():
            some = batch.rows(rows)
            judged = self.judged(some.real_N3HW, some.labels_N)
            logits = judged.logits_NK
            losses = {"real": self.real_loss(logits)} | self.switches.on_real(logits)
            tally.add(losses | self._told_apart("real", judged, some), rows=rows)
            real_logits.append(logits.detach().clone())
        for rows in self.parts():
            some = batch.rows(rows)
            judged = self.judged(some.fake_N3HW, some.labels_N)
            logits = judged.logits_NK
            losses = {"fake": self.fake_loss(logits)} | self.switches.on_fake(logits)
            tally.add(losses | self._told_apart("fake", judged, some), rows=rows)
            fake_logits.append(logits.detach().clone())
        for rows in self.parts():
            penalties = self.penalties(batch.rows(rows))
            if penalties:
                tally.add(penalties, rows=rows)
        told = self.switches.observe(real_NK=torch.cat(real_logits), fake_NK=torch.cat(fake_logits))
        if self.insgen is not None:
            self.insgen.remember()
        return tally.losses | told

    def _told_apart(self, side: Side, judged: Judgement, batch: Batch) -> dict[str, Tensor]:
        """InsGen's term of D's loss on (a part of) a batch; empty where it is off."""
        if self.insgen is None or batch.views is None:
            return {}
        (pictures_N3HW,), owners_N = batch.views.of(side)
        slow_NCHW = self._slow_features(pictures_N3HW, batch.labels_N)
        return self.insgen.tell_apart(side, judged.features_NCHW, slow_NCHW, owners_N=owners_N)

    @torch.no_grad()
    def _slow_features(self, pictures_N3HW: Tensor, labels_N: Tensor | None) -> Tensor:
        assert self.insgen is not None
        inputs = (pictures_N3HW,) if labels_N is None else (pictures_N3HW, labels_N)
        with replaying(self.discriminator), computing(self.setting.dtype, device=self.setting.device):
            return self.insgen.slow_features(self.discriminator, *inputs)

    def _generator_step(self, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """Against the updated discriminator, whose parameters are frozen; its buffers still move."""
        assert self._real_NCHW is not None, "begin comes first"
        latents = self.draw_latents(self._labels_of(0))
        # Of the shape of the generated ones.
        like = torch.empty_like(self._real_NCHW[self._rows(0)], dtype=torch.float32)
        draws = self.draw_augmentation(like)
        spreading = self.insgen is not None and self.insgen.spreads
        others = self.draw_augmentation(like) if spreading else None
        tally, strength = Tally(self.config.batch, backward=backward), self.switches.strength()
        self.freeze_discriminator(frozen=True)
        for rows, _ in zip(self.parts(self.generator), self.parts(), strict=True):
            some = latents.rows(rows)
            made = self.made(some).float()
            judged = self.judged(apply(made, draws.rows(rows), probability=strength), some.labels_N)
            losses = {"generator": self.generator_loss(judged.logits_NK)}
            if self.insgen is not None and others is not None:
                other = apply(made.detach(), others.rows(rows), probability=strength)
                slow_NCHW = self._slow_features(other, some.labels_N)
                losses |= self.insgen.spread(judged.features_NCHW, slow_NCHW)
            tally.add(losses, rows=rows)
        self.freeze_discriminator(frozen=False)
        return tally.losses

    def freeze_discriminator(self, *, frozen: bool) -> None:
        """Keep the discriminator's weights out of the graph, or let those that learn in again."""
        for parameter in self._judging:
            parameter.requires_grad_(not frozen)

    def parts(self, network: nn.Module | None = None) -> Iterator[slice]:
        """The rows of the micro-batches of a network, by default the discriminator."""
        return parts(network or self.discriminator, self.config.batch, size=self.setting.micro_batch)

    def shown(self, repeat: int) -> Batch:
        """The pictures of one of the discriminator's steps: real ones of its own, and as many fresh generated ones."""
        strength = self.switches.strength()
        clear, labels_N = self.real(repeat), self._labels_of(repeat)
        real = apply(clear, self.draw_augmentation(clear), probability=strength)
        latents = self.draw_latents(labels_N)
        with torch.no_grad():
            made = self._made_in_parts(latents, self.parts(self.generator))
            fake = apply(made, self.draw_augmentation(made), probability=strength)
            if self.switches.apa is not None:
                # Augmented by draws of its own, as the real picture was in whose place it comes.
                pseudo = apply(made, self.draw_augmentation(made), probability=strength)
                share = self.switches.apa.probability
                real = deceive(real, pseudo_N3HW=pseudo, probability=share, generator=self.sources.device)
        return Batch(real, fake, labels_N, self._views(clear, latents, repeat=repeat))

    def _made_in_parts(self, latents: Latents, rows: Iterable[slice]) -> Tensor:
        """Float32 pictures without a graph; each part is copied, since CUDA graphs write the next in its place."""
        return torch.cat([self.made(latents.rows(some)).clone() for some in rows]).float()

    @torch.no_grad()
    def _views(self, clear_N3HW: Tensor, latents: Latents, *, repeat: int) -> Views | None:
        """Second views for InsGen, which leave G's buffers alone; None where it is off."""
        if self.insgen is None:
            return None
        assert self._rows_N is not None, "begin comes first"
        strength = self.switches.strength()
        real = apply(clear_N3HW, self.draw_augmentation(clear_N3HW), probability=strength)
        near = perturbed(latents.noise_NZ, generator=self.sources.device)
        latents = replace(latents, noise_NZ=near)
        with replaying(self.generator):
            rows = split(self.config.batch, size=self.setting.micro_batch)
            made = self._made_in_parts(latents, rows)
        fake = apply(made, self.draw_augmentation(made), probability=strength)
        return Views((real,), (fake,), self._rows_N[self._rows(repeat)])

    def real(self, repeat: int) -> Tensor:
        """What is real in one of the discriminator's steps, flipped but not augmented, float32 in [-1, 1].

        Pictures lie as bytes until their step comes, whatever their number in an iteration.
        """
        assert self._real_NCHW is not None, "begin comes first"
        some_NCHW = self._real_NCHW[self._rows(repeat)]
        return some_NCHW if some_NCHW.is_floating_point() else scaled(some_NCHW)

    def _rows(self, repeat: int) -> slice:
        return slice(repeat * self.config.batch, (repeat + 1) * self.config.batch)

    def _labels_of(self, repeat: int) -> Tensor | None:
        return None if self._labels_N is None else self._labels_N[self._rows(repeat)]

    def draw_latents(self, labels_N: Tensor | None) -> Latents:
        """For a batch, whose pictures get the classes of the real ones."""
        noise_NZ = torch.randn(
            self.config.batch,
            self.generator.latent_size,
            device=self.setting.device,
            generator=self.sources.device,
        )
        planes = tuple(self.generator.draw_noises(noise_NZ, generator=self.sources.device))
        return Latents(noise_NZ, planes, labels_N)

    def draw_augmentation(self, pictures_N3HW: Tensor) -> Draws:
        """Draws for pictures, of which only shape, type and device matter."""
        return draw(
            pictures_N3HW,
            kinds=self.config.kinds,
            pipeline=self.config.pipeline,
            generator=self.sources.device,
            chance=self.switches.strength() is not None,
        )

    def made(self, latents: Latents) -> Tensor:
        """The generator's pictures of a batch in training."""
        with computing(self.setting.dtype, device=self.setting.device):
            return self.draw_pictures(latents.noise_NZ, latents.planes, labels_N=latents.labels_N)

    def judged(self, pictures_N3HW: Tensor, labels_N: Tensor | None) -> Judgement:
        """What the discriminator says, in the type to compute in; penalties with second derivatives take float32."""
        with computing(self.setting.dtype, device=self.setting.device):
            return self.judge(pictures_N3HW, labels_N)

    def real_loss(self, logits_NK: Tensor) -> Tensor:
        """E[softplus(-D(x))]: the logistic loss. Source: Goodfellow et al. 2014, Eq. 1."""
        return F.softplus(-logits_NK.float()).mean()

    def fake_loss(self, logits_NK: Tensor) -> Tensor:
        """E[softplus(D(G(z)))]. Source: Goodfellow et al. 2014, Eq. 1."""
        return F.softplus(logits_NK.float()).mean()

    def generator_loss(self, logits_NK: Tensor) -> Tensor:
        """E[softplus(-D(G(z)))]: the non-saturating loss. Source: Goodfellow et al. 2014, section 3."""
        return F.softplus(-logits_NK.float()).mean()

    def penalties(self, batch: Batch) -> dict[str, Tensor]:
        """What else the discriminator pays for, by name, float32 means over the pictures; by default nothing."""
        del batch
        return {}

    def stepped(self, phase: Phase) -> None:
        """Called after the optimiser's step; by default nothing follows."""

    def extras(self, deployed: DeployedGenerator) -> Mapping[str, Callable[[Path], None]]:
        """What a snapshot shows beside its grid; by default nothing."""
        del deployed
        return {}

    def average_decay(self, iteration: int) -> float:
        """The EMA's decay at an iteration, counted from 0."""
        return decay_at(iteration, kind=self.config.ema)

    def state(self) -> dict[str, Any]:
        """The random sources."""
        return self.sources.state()

    def reseed(self, salt: int) -> None:
        """Begin the random draws anew, from the configuration's seed and a number."""
        self.sources.reseed(salt)

    def load(self, state: dict[str, Any]) -> None:
        """Take over the random sources of a saved state."""
        self.sources.load(state)
