"""What a user may configure of the training on latent codes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, StrictBool, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from core.schemas.dcgan import DcganConfig
from core.schemas.gan import GanConfig
from core.schemas.models import Source
from core.schemas.sagan import SaganConfig
from core.schemas.slaegan import SlaeganConfig
from core.schemas.stylegan2 import Stylegan2Config, usual_r1_gamma
from core.schemas.training import MAX_IMAGES, TrainingConfig, by_resolution
from core.schemas.wgan import WganGpConfig

SMALLEST_RESOLUTION = 64  # of a pair's own configuration; codes may be smaller
_PAIRS: dict[str, type[TrainingConfig]] = {
    "wgan_gp": WganGpConfig,
    "dcgan": DcganConfig,
    "sagan": SaganConfig,
    "stylegan2": Stylegan2Config,
    "slaegan": SlaeganConfig,
}
# The smallest side of codes for which a pair has networks.
_SMALLEST_SIDE = {"slaegan": 32}
# What a pair has on codes: section 3.3 has pixel normalisation in the generator. SLAE-GAN's metadata would be that of
# pictures, and its decoders are judged by a network that knows pictures; both are off.
_USUAL: dict[str, dict[str, Any]] = {"wgan_gp": {"generator_norm": "pixel", "learning_rate": 2e-4}}
_FIXED: dict[str, dict[str, Any]] = {
    "sagan": {"conditional": False},
    "stylegan2": {"conditional": False},
    "slaegan": {"metadata": False, "decoders": False, "coverage": 0.0, "output_tanh": True},
}
_AUTOENCODER = {64: 12_000, 128: 24_000}
_TOTAL_IMAGES = {64: 120_000, 128: 240_000}
_STEPS = {"wgan_gp": 2}


class CodesConfig(TrainingConfig):
    """A GAN on the latent codes of pictures: an autoencoder first, then any pair of networks on its codes."""

    source: ClassVar[Source] = Source(
        title="An Acceleration Framework for High Resolution Image Synthesis",
        authors="Liu et al.",
        year=2019,
        arxiv="1909.03611",
    )
    architecture: ClassVar[tuple[str, ...]] = (
        *("family", "resolution", "code_factor", "autoencoder_channels", "pair", "pair_settings"),
    )

    family: Literal["codes"] = "codes"
    pair: Literal["wgan_gp", "dcgan", "sagan", "stylegan2", "slaegan"] = Field(
        "wgan_gp",
        description="The family whose networks and losses learn the codes. wgan_gp is the paper's; slaegan, our step "
        "beyond it, has excitation and spatial attention, and needs codes of 32x32 or more",
    )
    pair_settings: dict[str, StrictBool | int | float | str | None] = Field(
        default_factory=dict,
        max_length=20,
        description="Fields of the pair's own configuration, by name, such as width and learning_rate; those that are "
        "fields here too are taken from here",
    )
    # Not inherited: the default comes from the pair, which must stand before it.
    discriminator_steps: int = Field(
        default_factory=lambda data: _STEPS.get(data.get("pair", ""), 1),
        ge=1,
        le=20,
        description="Steps of the codes' discriminator, each on new codes, to one of their generator; 2 for wgan_gp, "
        "else 1",
    )
    code_factor: Literal[2, 4, 8, 16] = Field(
        4,
        description="How many times smaller than the picture's the code's side is; the code has 16 channels",
    )
    autoencoder: Literal["train", "reuse", "tune"] = Field(
        "train",
        description="train: encoder and decoder are trained first. With init_from, reuse: those of the checkpoint "
        "stay as they are, whatever the resolution and the pair of their training; tune: they are trained on first",
    )
    total_images: int = Field(
        default_factory=by_resolution(_TOTAL_IMAGES, 400_000),
        ge=2,
        le=MAX_IMAGES,
        description="Training ends when this many real pictures were seen, in both stages together",
    )
    autoencoder_images: int = Field(
        default_factory=by_resolution(_AUTOENCODER, 48_000),
        ge=2,
        le=MAX_IMAGES,
        description="So many of the pictures seen go into the training of encoder and decoder; not used with reuse",
    )
    autoencoder_channels: int = Field(
        32,
        ge=4,
        le=128,
        multiple_of=4,
        description="Channels of encoder and decoder at full size; doubled by the first two halvings",
    )
    autoencoder_rate: float = Field(
        5e-4, gt=0, le=1e-1, description="Learning rate of encoder, decoder and the picture discriminator"
    )
    autoencoder_crops: StrictBool = Field(
        False,
        description="Above 128 pixels, encoder and decoder learn from 128x128 crops of the pictures instead of "
        "pictures reduced to 128x128",
    )
    adversarial: float = Field(
        0.01,
        ge=0,
        le=10,
        description="Weight of the adversarial loss beside L1 in the autoencoder's training (alpha); 0: no picture "
        "discriminator",
    )
    augmentation: tuple[Literal["translation", "cutout"], ...] = Field(
        ("translation",),
        description="Differentiable augmentations (DiffAugment) of codes; colour has no meaning on them",
    )

    @property
    def judged_from(self) -> int:
        return self.stage_one

    @property
    def shown(self) -> int:
        return self.batch * self.discriminator_steps

    @property
    def stage_one(self) -> int:
        """Images seen from which on codes are learnt."""
        return 0 if self.autoencoder == "reuse" else self.autoencoder_images

    @property
    def needs_checkpoint(self) -> bool:
        return self.autoencoder != "train"

    @property
    def inherits(self) -> tuple[str, ...]:
        if self.autoencoder == "train":
            return super().inherits
        return ("generator.encoder.", "generator.decoder.", "picture_discriminator.")

    @property
    def compared(self) -> tuple[str, ...]:
        if self.autoencoder == "train":
            # Of the pair's settings those matter that decide its networks.
            return (*(name for name in super().compared if name != "pair_settings"), "pair_architecture")
        return ("family", "code_factor", "autoencoder_channels")

    @property
    def mixing_sides(self) -> tuple[int, ...]:
        """Those of the pair, of codes."""
        return self.pair_config.mixing_sides

    @property
    def pair_architecture(self) -> dict[str, Any]:
        """The fields that decide the shapes and the meaning of the pair's weights, with their values."""
        pair = self.pair_config
        return {name: getattr(pair, name) for name in pair.architecture}

    @property
    def pair_config(self) -> TrainingConfig:
        """The pair's configuration; its resolution is the code's side, which no user could ask for."""
        kind = _PAIRS[self.pair]
        side = self.resolution // self.code_factor
        given = {name: getattr(self, name) for name in self._shared()}
        # Defaults by resolution are those of the nearest resolution that there is.
        given["resolution"] = max(side, SMALLEST_RESOLUTION)
        usual = _USUAL.get(self.pair, {})
        if self.pair == "stylegan2":
            # It is reckoned from pixels, of which a code may have fewer than the smallest resolution.
            usual = usual | {"r1_gamma": usual_r1_gamma(side, batch=self.batch)}
        config = kind.model_validate(usual | self.pair_settings | _FIXED.get(self.pair, {}) | given)
        return config.model_copy(update={"resolution": side})

    def _shared(self) -> set[str]:
        """The fields of the pair's configuration that are given by the fields of this one."""
        return (GanConfig.model_fields.keys() & _PAIRS[self.pair].model_fields.keys()) - {
            *("family", "version", "resolution"),
            *("evaluation", "stopping", "alarms", "retention"),
        }

    @model_validator(mode="after")
    def _has_a_second_stage(self) -> Self:
        if self.stage_one >= self.total_images:
            raise ValueError(
                f"autoencoder_images {self.stage_one} leaves none of total_images {self.total_images} to the codes"
            )
        return self

    @model_validator(mode="after")
    def _freezes_what_was_trained(self) -> Self:
        if self.freeze_discriminator > 0 and self.autoencoder != "train":
            raise ValueError(
                f"freeze_discriminator would keep random weights as they are: with autoencoder {self.autoencoder} the "
                "codes' discriminator is not taken from the checkpoint"
            )
        return self

    @model_validator(mode="after")
    def _has_a_pair(self) -> Self:
        side, smallest = self.resolution // self.code_factor, _SMALLEST_SIDE.get(self.pair, 8)
        if side < smallest:
            raise ValueError(
                f"codes of {side}x{side} are too small for {self.pair}, which needs {smallest}x{smallest}: lower "
                "code_factor"
            )
        taken = sorted(self.pair_settings.keys() & (self._shared() | {"family", "version", "resolution"}))
        if taken:
            raise ValueError(f"pair_settings may not hold {', '.join(taken)}: set the field of this name")
        fixed = sorted(self.pair_settings.keys() & _FIXED.get(self.pair, {}).keys())
        if fixed:
            raise ValueError(f"pair_settings may not hold {', '.join(fixed)}: on codes it is always the same")
        if self.discriminator_steps > 1 and "discriminator_steps" not in _PAIRS[self.pair].model_fields:
            raise ValueError(f"discriminator_steps is 1 for {self.pair}")
        try:
            self.pair_config  # noqa: B018 - raises where the settings are wrong
        except ValidationError as error:
            wrong = [self._placed(entry) for entry in error.errors()]
            raise ValidationError.from_exception_data(error.title, wrong) from None
        return self

    def _placed(self, entry: ErrorDetails) -> InitErrorDetails:
        """An error of the pair's configuration, at its place in this one."""
        loc, of_the_pair = entry["loc"], not entry["loc"] or entry["loc"][0] not in self._shared()
        return InitErrorDetails(
            type=PydanticCustomError(entry["type"], entry["msg"], entry.get("ctx")),
            loc=("pair_settings", *loc) if of_the_pair else loc,
            input=entry["input"],
        )
