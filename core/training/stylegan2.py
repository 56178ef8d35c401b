"""StyleGAN2 in training: the logistic loss, with R1 and path length as lazy phases of their own.

Source: Karras et al. 2020 (arXiv 1912.04958), sections 3.1 and 3.2 and appendix B.
Shapes: N pictures, Z latent numbers, L places that take a style, S numbers of a style.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from core.models.stylegan2 import Discriminator, Generator
from core.training.augment import apply
from core.training.family import Phase
from core.training.gan import Gan, Latents
from core.training.microbatch import Tally, split
from core.training.precision import computing
from core.training.stylegan2_losses import PathLength, mixed, path_lengths, r1

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from core.schemas.stylegan2 import Stylegan2Config
    from core.training.family import Setting

_BETA = 0.99
_MEAN_DECAY = 0.995
_PATH_SHARE = 2  # the path length is measured on half of a batch: it costs as much memory as a whole step
_RAMP = 0.05


@dataclass(frozen=True)
class MixedLatents(Latents):
    """Two latents a picture, and the first place that takes the style of the second."""

    others_NZ: Tensor
    first_N: Tensor

    def rows(self, rows: slice) -> MixedLatents:
        """Those of some of the pictures."""
        plain = super().rows(rows)
        values = {field.name: getattr(plain, field.name) for field in fields(Latents)}
        return MixedLatents(**values, others_NZ=self.others_NZ[rows], first_N=self.first_N[rows])


class Stylegan2(Gan):
    """The logistic loss, R1 every 16 iterations and path length every 8, each scaled up by as much.

    Args:
        config: of the job.
        networks: from `build`, on the device.
        setting: what the trainer gives.
    """

    generator_class = Generator
    discriminator_class = Discriminator
    config: Stylegan2Config

    @classmethod
    def build(cls, config: Any, *, classes: int, channels: int = 3) -> dict[str, nn.Module]:
        """Those of every such family, and the mean length of paths."""
        return super().build(config, classes=classes, channels=channels) | {"path": PathLength()}

    def __init__(
        self, config: Stylegan2Config, *, networks: Mapping[str, nn.Module], setting: Setting
    ) -> None:
        super().__init__(config, networks=networks, setting=setting)
        generator, path = networks["generator"], networks["path"]
        assert isinstance(generator, Generator)
        assert isinstance(path, PathLength)
        self.generator: Generator = generator
        self._path = path

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Each network's steps, then its penalty's, which steps the same optimiser."""
        discriminator, generator = super().phases
        phases = [discriminator]
        if self.config.r1_gamma > 0:
            phases.append(Phase("r1", every=self.config.r1_every, shares=discriminator.name))
        phases.append(generator)
        if self.config.path_weight > 0:
            phases.append(Phase("path", every=self.config.path_every, shares=generator.name))
        return tuple(phases)

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """Adam with beta (0, 0.99), corrected for the penalty's steps.

        Source: StyleGAN2, appendix B: with one more step to k, rate and betas are those of k / (k + 1) of a step. The
        strengths of the noise learn at a rate of their own.
        """
        lazy = next((other for other in self.phases if other.shares == phase.name), None)
        between = 0 if lazy is None else lazy.every * phase.repeats
        share = 1.0 if lazy is None else between / (between + 1)
        rate = self.config.learning_rate * share
        named = self.networks[phase.name].named_parameters()
        strengths = {parameter for name, parameter in named if name.endswith(".strength")}
        stepping = self.stepping(phase)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in stepping if p not in strengths]},
            {"params": [p for p in stepping if p in strengths], "lr": rate * self.config.noise_rate},
        ]
        return torch.optim.Adam(groups, lr=rate, betas=(0.0, _BETA**share), eps=1e-8, fused=True)

    def draw_latents(self, labels_N: Tensor | None) -> MixedLatents:
        """Two latents a picture: of the mixed ones the second begins at any place but the first, of the others at none.

        Source: StyleGAN, section 3.1 (mixing regularisation).
        """
        plain = super().draw_latents(labels_N)
        places, count = self.generator.styled_places, plain.noise_NZ.shape[0]
        device, source = self.setting.device, self.sources.device
        others_NZ = torch.randn(plain.noise_NZ.shape, device=device, generator=source)
        place_N = torch.randint(1, places, (count,), device=device, generator=source)
        mixes_N = torch.rand(count, device=device, generator=source) < self.config.style_mixing
        first_N = torch.where(mixes_N, place_N, places)
        return MixedLatents(plain.noise_NZ, plain.planes, labels_N, others_NZ, first_N)

    def drawing(self) -> Callable[..., Tensor]:
        """The synthesis alone: styles are mixed before it."""
        return self.generator.synthesise

    def made(self, latents: Latents) -> Tensor:
        """The pictures of mixed styles; in G's own step the mean style follows the unmixed ones."""
        with computing(self.setting.dtype, device=self.setting.device):
            styles_NS, styles_NLS = self._styles(latents)
            if torch.is_grad_enabled():  # a micro-batch counts as its share of the batch
                share = styles_NS.shape[0] / self.config.batch
                self.generator.follow(styles_NS, decay=_MEAN_DECAY**share)
            return self.draw_pictures(styles_NLS, latents.planes)

    def _styles(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Those of the first latents, NS, and mixed with those of the second, NLS."""
        assert isinstance(latents, MixedLatents)
        styles_NS = self.generator.styles(latents.noise_NZ, latents.labels_N)
        others_NS = self.generator.styles(latents.others_NZ, latents.labels_N)
        places = self.generator.styled_places
        return styles_NS, mixed(styles_NS, others_NS, first_N=latents.first_N, places=places)

    def regularise(self, phase: Phase, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """One step of R1 or of path length, in float32, for all the iterations up to the next; one's share is told."""
        step = self._r1_step if phase.name == "r1" else self._path_step
        losses = step(phase.every, backward=backward)
        return {name: loss / phase.every for name, loss in losses.items()}

    def _r1_step(self, every: int, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """On the real pictures of the iteration's first step, augmented anew: as D sees them.

        The discriminator's plain forward: a compiled one has no second derivatives.
        """
        clear, labels_N = self.real(0), self._labels_of(0)
        real = apply(clear, self.draw_augmentation(clear), probability=self.switches.strength())
        gamma = self.config.r1_gamma * every * self.config.discriminator_steps
        tally = Tally(len(real), backward=backward)
        for rows in self.parts():
            some_N = None if labels_N is None else labels_N[rows]
            tally.add({"r1": r1(self.discriminator.forward, real[rows], some_N, gamma=gamma)}, rows=rows)
        return tally.losses

    def _path_step(self, every: int, *, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        latents = self.draw_latents(self._labels_of(0))
        count, lengths = max(1, self.config.batch // _PATH_SHARE), []
        tally = Tally(count, backward=backward)
        for rows in split(count, size=self.setting.micro_batch):
            some = latents.rows(rows)
            _, styles_NLS = self._styles(some)
            pictures = self.generator.synthesise(styles_NLS, some.planes)
            directions = torch.randn(pictures.shape, device=pictures.device, generator=self.sources.device)
            lengths_N = path_lengths(pictures, styles_NLS, directions_NCHW=directions)
            tally.add({"path": self.config.path_weight * every * self._path(lengths_N)}, rows=rows)
            lengths.append(lengths_N.detach())
        self._path.follow(torch.cat(lengths))
        return tally.losses

    def average_decay(self, iteration: int) -> float:
        """The EMA's decay at an iteration, counted from 0, from its half-life in pictures.

        Source: Karras et al. 2018 (ProGAN), appendix A (0.999 at a batch of 16), as a half-life; at first it is at
        most a twentieth of the pictures seen, so that the untrained weights do not stay.
        """
        half_life: float = self.config.ema_half_life_images
        if self.config.ema == "ramped":
            half_life = min(half_life, iteration * self.config.shown * _RAMP)
        return 0.0 if half_life == 0 else 0.5 ** (self.config.shown / half_life)
