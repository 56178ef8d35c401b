"""Training on latent codes: encoder and decoder first, then a GAN of any of our families on the codes they give.

Source: Liu et al., "An Acceleration Framework for High Resolution Image Synthesis", section 3 and Fig. 2(b).
The paper's own second stage is the pair `wgan_gp`: WGAN-GP with lambda 10 (Eq. 5 to 8) and pixel normalisation in the
generator. It gives neither optimiser nor critic steps. Adam is that of WGAN-GP's own paper at twice its rate, 2e-4; two
critic steps to one of the generator, between the five of that paper and the one of Karras et al. 2018, whose pixel
normalisation it takes. Other pairs are ours.

Augmentation in stage two acts on codes. Pictures are mirrored before they are encoded, as the code of a mirror image
is no mirrored code. Translation and cutout are sound on codes: a code is laid out as its picture is, and whatever both
real and generated codes undergo before the discriminator still tells it where the two differ. Brightness, saturation
and contrast say something about colours, which a code's channels are not: they are off.
Shapes: N pictures, H height, W width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from core.models.autoencoder import CODE_CHANNELS, DecodingGenerator, PictureDiscriminator
from core.training.autoencoding import Autoencoding, CodeBook, cropped, reduced, scaled
from core.training.family import Phase, Setting
from core.training.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from core.schemas.codes import CodesConfig
    from core.training.deployed import DeployedGenerator
    from core.training.family import PairFamily

_PICTURES = "picture_discriminator"
_OTHER_DRAWS = 2**30  # the pair draws from the configuration's own seed
_HALF = 0.5


class Codes:
    """The family's side of the trainer's interface (`core.training.family.Family`).

    The pair is a whole family of its own, which is shown codes in place of pictures, and begins after stage one.

    Args:
        config: of the job.
        networks: from `build`, on the device.
        setting: what the trainer gives.
    """

    averaged = "generator"

    @classmethod
    def build(cls, config: CodesConfig, *, classes: int) -> dict[str, nn.Module]:
        """The pair's networks, its generator with encoder and decoder, and the picture discriminator if one learns."""
        networks = _family(config).build(config.pair_config, classes=classes, channels=CODE_CHANNELS)
        made = {**networks, "generator": _decoding(config, networks["generator"])}
        if config.stage_one and config.adversarial:
            made[_PICTURES] = PictureDiscriminator(channels=2 * config.autoencoder_channels)
        return made

    @classmethod
    def deployable(cls, config: CodesConfig, *, classes: int, spectral: bool) -> DecodingGenerator:
        """A new generator of codes with encoder and decoder."""
        pair = _family(config).deployable(
            config.pair_config, classes=classes, spectral=spectral, channels=CODE_CHANNELS
        )
        return _decoding(config, pair)

    def __init__(self, config: CodesConfig, *, networks: Mapping[str, nn.Module], setting: Setting) -> None:
        self.networks, self._config, self._setting = networks, config, setting
        generator = cast("DecodingGenerator", networks["generator"])
        if config.compile != "off":
            generator.encoder.compile(mode=config.compile)
            generator.decoder.compile(mode=config.compile)
        self._first = Autoencoding(
            config,
            encoder=generator.encoder,
            decoder=generator.decoder,
            discriminator=cast("PictureDiscriminator | None", networks.get(_PICTURES)),
            setting=setting,
        )
        self._pair = _family(config)(
            config.pair_config, networks={**networks, "generator": generator.pair}, setting=setting
        )
        self._encoder = generator.encoder
        self._book: CodeBook | None = None
        self._sources = Sources(config.seed + _OTHER_DRAWS, device=setting.device)
        self._real_N3HW: Tensor | None = None
        self._rows_N: Tensor | None = None
        self._pictures_N3SS: Tensor | None = None
        self._shows_codes = False

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Those of stage one up to its end, and the pair's from there on."""
        boundary, steps = self._config.stage_one, self._config.discriminator_steps
        first = [Phase(name, repeats=steps, ends=boundary) for name in ("autoencoder", _PICTURES)]
        if _PICTURES not in self.networks:
            first = first[:1]
        second = [replace(phase, begins=max(phase.begins, boundary)) for phase in self._pair.phases]
        return (*(first if boundary else ()), *second)

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """Adam in stage one, the pair's own in stage two."""
        return self._first.optimiser(phase.name) if self._is_first(phase) else self._pair.optimiser(phase)

    @staticmethod
    def _is_first(phase: Phase) -> bool:
        return phase.name in {"autoencoder", _PICTURES}

    def begin(self, real_N3HW: Tensor, *, rows_N: Tensor) -> None:
        """Keep the pictures until a phase tells what is to be made of them."""
        self._real_N3HW, self._rows_N = real_N3HW, rows_N
        self._pictures_N3SS, self._shows_codes = None, False

    def run(self, phase: Phase, *, repeat: int, backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
        """Compute the losses of a phase's step and call backward on each."""
        if not self._is_first(phase):
            self._show_codes()
            return self._pair.run(phase, repeat=repeat, backward=backward)
        batch = self._config.batch
        real_N3SS = self._small_pictures()[repeat * batch : (repeat + 1) * batch]
        step = self._first.step_discriminator if phase.name == _PICTURES else self._first.step_autoencoder
        losses = step(real_N3SS, repeat=repeat, backward=backward)
        return {name: loss.detach() for name, loss in losses.items()}

    def _mirrored(self, count: int) -> Tensor:
        """Which pictures are mirrored, N bool."""
        device = self._setting.device
        if not self._config.flips:
            return torch.zeros(count, dtype=torch.bool, device=device)
        return torch.rand(count, device=device, generator=self._sources.device) < _HALF

    def _small_pictures(self) -> Tensor:
        """All of the iteration's pictures as stage one takes them, float32 in [-1, 1]."""
        if self._pictures_N3SS is None:
            assert self._real_N3HW is not None, "begin comes first"
            clear = scaled(self._real_N3HW)
            clear = torch.where(self._mirrored(len(clear))[:, None, None, None], clear.flip(3), clear)
            crops = self._config.autoencoder_crops
            some = cropped(clear, generator=self._sources.device) if crops else reduced(clear)
            self._pictures_N3SS = some.contiguous(memory_format=torch.channels_last)
        return self._pictures_N3SS

    def _show_codes(self) -> None:
        """Let the pair see the codes of the iteration's pictures, at its first phase."""
        if self._shows_codes:
            return
        assert self._real_N3HW is not None, "begin comes first"
        assert self._rows_N is not None
        if self._book is None:
            self._book = CodeBook(self._encoder, device=self._setting.device)
        codes_N16hw = self._book.codes(
            self._real_N3HW, rows_N=self._rows_N, mirrored_N=self._mirrored(len(self._real_N3HW))
        )
        self._pair.show(codes_N16hw, rows_N=self._rows_N)
        self._shows_codes = True

    def stepped(self, phase: Phase) -> None:
        """What the pair does after its own steps."""
        if not self._is_first(phase):
            self._pair.stepped(phase)

    def extras(self, deployed: DeployedGenerator) -> Mapping[str, Callable[[Path], None]]:
        """Nothing beside the grid: what a pair would show is of codes, not of pictures."""
        del deployed
        return {}

    def average_decay(self, iteration: int) -> float:
        """The pair's. It begins anew with stage two, whose averages shall not remember untrained codes."""
        first = -(-self._config.stage_one // self._config.shown)
        return self._pair.average_decay(iteration if iteration < first else iteration - first)

    def state(self) -> dict[str, Any]:
        """The random sources of both stages."""
        return {"stage_one": self._sources.state(), "pair": self._pair.state()}

    def reseed(self, salt: int) -> None:
        """Begin the random draws anew, otherwise than with another salt."""
        self._sources.reseed(salt)
        self._pair.reseed(salt)

    def load(self, state: dict[str, Any]) -> None:
        """Take over the random sources of `state`. What was encoded may be another encoder's from now on."""
        self._sources.load(state["stage_one"])
        self._pair.load(state["pair"])
        self._book = None


def _family(config: CodesConfig) -> type[PairFamily]:
    """The class that trains the pair."""
    from core.training.families import family_of  # noqa: PLC0415 - which imports this module's class

    return cast("type[PairFamily]", family_of(cast("Any", config.pair_config)))


def _decoding(config: CodesConfig, pair: nn.Module) -> DecodingGenerator:
    return DecodingGenerator(
        cast("Any", pair), factor=config.code_factor, channels=config.autoencoder_channels
    )
