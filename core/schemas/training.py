"""What a user may configure of every training; each family of models adds its own (core.schemas.families)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, StrictBool, model_validator

from core.schemas.judging import AlarmConfig, EvaluationConfig, RetentionConfig, StoppingConfig
from core.schemas.models import Labels, Source
from core.schemas.sent import Frozen, Sent

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

Fit = Literal["crop", "pad", "squash"]
RESOLUTIONS = (64, 128, 256, 512, 1024)
MAX_IMAGES = 100_000_000
# That of a configuration which names none.
DEFAULT_FAMILY = "slaegan"
_ADA_TARGET = 0.6
_TOTAL_IMAGES = {64: 24_000, 128: 80_000}


def by_resolution(table: dict[int, Any], other: Any) -> Any:
    return lambda data: table.get(data.get("resolution", 256), other)


def _tenth(data: dict[str, Any]) -> int:
    """A tenth of the run, in whole batches."""
    batch: int = data.get("batch", 8)
    total: int = data.get("total_images", 400_000)
    return max(batch, -(-total // 10 // batch) * batch)


class TrainingConfig(Frozen, Sent):
    """What all families have; stored whole, with its version, on the job."""

    # The paper that the family is from.
    source: ClassVar[Source]
    # Whether the family can use the classes of a dataset that has them.
    labels: ClassVar[Labels] = "ignored"
    # The fields that decide the shapes and the meaning of weights.
    architecture: ClassVar[tuple[str, ...]] = ("family", "resolution")
    # Those of them that a generator's file does not depend on.
    discriminator_only: ClassVar[tuple[str, ...]] = ()

    family: str
    version: Literal[1] = Field(1, description="Of the meaning of these fields")
    resolution: Literal[64, 128, 256, 512, 1024] = Field(
        256, description="Side of the square pictures, in pixels"
    )
    held_out: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of the pictures kept from the training, chosen by their hashes, to judge by: FID and KID "
        "against pictures never seen are reported beside those against the training set",
    )
    fit: Fit = Field(
        "crop",
        description="How a picture becomes square. crop: its central square; pad: the whole picture, centred on "
        "white; squash: the whole picture, stretched",
    )
    batch: int = Field(8, ge=2, le=256, description="Pictures an iteration")
    total_images: int = Field(
        default_factory=by_resolution(_TOTAL_IMAGES, 400_000),
        ge=2,
        le=MAX_IMAGES,
        description="Training ends when this many real pictures were seen",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of first weights and all random draws")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device computes it natively, else fp16 on CUDA, fp32 on CPU"
    )
    compile: Literal["off", "default", "reduce-overhead"] = Field(
        "off",
        description="torch.compile of both networks, with torch's mode of this name, but for penalties by second "
        "derivatives, which it has not; reduce-overhead uses CUDA graphs. For CUDA: the first iterations take "
        "minutes, and on the CPU it has been slower",
    )
    freeze_discriminator: int = Field(
        0,
        ge=0,
        le=6,
        description="For a training that begins from a checkpoint: so many of the discriminator's first parts, stem "
        "and blocks, do not learn (FreezeD, Mo et al. 2020)",
    )
    flips: StrictBool = Field(True, description="Random horizontal flips of the training pictures")
    pipeline: Literal["diffaugment", "ada"] = Field(
        "diffaugment",
        description="Whose augmentations D's pictures go through, real and generated ones alike. diffaugment: the "
        "kinds in augmentation; ada: those in ada_kinds, each with the probability that adaptive_target steers",
    )
    augmentation: tuple[Literal["color", "translation", "cutout"], ...] = Field(
        ("color", "translation"), description="Differentiable augmentations (DiffAugment)"
    )
    ada_kinds: tuple[Literal["blit", "geometry", "color", "filter", "noise", "cutout"], ...] = Field(
        ("blit", "geometry", "color"),
        description="Transformations of pipeline ada (Karras et al. 2020). blit: flip, quarter turns, whole "
        "translation; geometry: scaling, rotation, stretching, translation; color: brightness, contrast, luma flip, "
        "hue, saturation; filter: four frequency bands; noise; cutout",
    )
    adaptive_target: float | None = Field(
        default_factory=lambda data: _ADA_TARGET if data.get("pipeline") == "ada" else None,
        gt=-1,
        lt=1,
        description="Adaptive augmentation: each kind is applied with a probability that rises while the mean sign "
        "of D's logits on real pictures is above this; 0.6 is usual, and the default of pipeline ada. null: every "
        "kind always, with diffaugment alone",
    )
    adaptive_images: int = Field(
        20_000, ge=2, description="Real pictures in which that probability could rise from 0 to 1"
    )
    lecam: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Weight of LeCam regularisation: D's logits stay near their averages on the other side; "
        "0.1 to 0.5 is usual. 0: off",
    )
    lecam_start_iterations: int = Field(
        1_000, ge=0, description="Steps of the discriminator in which LeCam's averages only watch"
    )
    apa_target: float | None = Field(
        None,
        gt=-1,
        lt=1,
        description="Adaptive pseudo augmentation: D is shown generated pictures as real with a probability that "
        "rises while the mean sign of its logits on real pictures is above this; 0.6 is usual. null: never",
    )
    apa_images: int = Field(
        20_000, ge=2, description="Real pictures in which that probability could rise from 0 to 1"
    )
    insgen: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Weight of instance discrimination in D's loss: it also learns to tell every picture from every "
        "other, real and generated ones apart (InsGen); 1 is usual. 0: off",
    )
    insgen_generator: float = Field(
        0.1,
        ge=0,
        le=10,
        description="Weight of the same in the generator's loss, as a share of insgen: its pictures shall be easy to "
        "tell apart. 0: off",
    )
    insgen_queue: int = Field(
        256, ge=1, le=65_536, description="Earlier pictures that a picture is told from, on each side"
    )
    ema: Literal["ramped", "constant"] = Field(
        "ramped", description="ramped: min(0.999, (1+t)/(10+t)); constant: 0.999"
    )
    evaluate_every_images: int = Field(
        default_factory=_tenth,
        ge=2,
        description="A snapshot is evaluated this often; also at 0 and at the end",
    )
    checkpoint_every_images: int = Field(
        default_factory=lambda data: data.get("evaluate_every_images", _tenth(data)),
        ge=2,
        description="At most this much work is lost with a worker",
    )
    evaluation_backlog: int | None = Field(
        4,
        ge=1,
        description="When more snapshots than this wait for their evaluation, the oldest are skipped; null: never",
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="How snapshots are judged")
    stopping: StoppingConfig = Field(StoppingConfig(), description="When to end before total_images")
    alarms: AlarmConfig = Field(AlarmConfig(), description="When a curve is no success")
    retention: RetentionConfig = Field(RetentionConfig(), description="Which generators are kept")

    def model_post_init(self, _context: Any, /) -> None:
        """What is sent without what is unset still names its family."""
        self.__pydantic_fields_set__.add("family")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        told = handler.resolve_ref_schema(schema)
        told["properties"]["family"]["description"] = f"The family of models; {DEFAULT_FAMILY} if not given"
        if cls.model_fields["family"].default != DEFAULT_FAMILY:
            told["required"] = ["family", *told.get("required", [])]
        return schema

    @property
    def shown(self) -> int:
        """Real pictures that one iteration shows to the discriminator."""
        return self.batch

    @property
    def judged_from(self) -> int:
        """Images seen before the first snapshot that tells of the generator."""
        return 0

    @property
    def uses_metadata(self) -> bool:
        """Whether the generator takes VGG-16 metadata of the training pictures."""
        return False

    @property
    def plain_share(self) -> float:
        """Share of the latents in training that get no metadata."""
        return 1.0

    @property
    def uses_perceptual(self) -> bool:
        """Whether a loss of the training needs LPIPS."""
        return False

    @property
    def mixing_sides(self) -> tuple[int, ...]:
        """Sides of the feature maps from which on another picture's style can act, ascending; empty where none can."""
        return ()

    @property
    def needs_checkpoint(self) -> bool:
        """Whether this training must begin from a checkpoint."""
        return False

    @property
    def compared(self) -> tuple[str, ...]:
        """The fields in which a checkpoint to begin from must agree."""
        return self.architecture

    @property
    def inherits(self) -> tuple[str, ...]:
        """How the names of the weights begin, by network, that are taken from a checkpoint; by default all."""
        return ("",)

    @property
    def needs_labels(self) -> bool:
        """Whether this training is by class, so that the dataset must have labels."""
        return self.labels == "needed"

    @model_validator(mode="after")
    def _ends_on_a_whole_batch(self) -> Self:
        if self.total_images < self.shown:
            what = "batch" if self.shown == self.batch else "iteration"
            raise ValueError(f"total_images {self.total_images} is below one {what} of {self.shown}")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """The augmentations of the pipeline."""
        return self.ada_kinds if self.pipeline == "ada" else self.augmentation

    @model_validator(mode="after")
    def _adapts_something(self) -> Self:
        if self.adaptive_target is not None and not self.kinds:
            raise ValueError("adaptive_target needs at least one kind of augmentation")
        if self.adaptive_target is None and self.pipeline == "ada":
            raise ValueError(
                "pipeline ada needs adaptive_target: its augmentations leak where they always come"
            )
        return self

    @model_validator(mode="after")
    def _knows_the_instances(self) -> Self:
        if self.insgen > 0 and self.apa_target is not None:
            raise ValueError(
                "insgen tells real pictures from each other, and apa_target shows generated ones in their place: "
                "choose one of the two"
            )
        return self

    @model_validator(mode="after")
    def _has_what_latents_need(self) -> Self:
        if self.evaluation.latents in {"mix", "bank"} and not self.uses_metadata:
            raise ValueError(
                f"evaluation.latents {self.evaluation.latents!r} takes training pictures' metadata, and this "
                "training has none: say plain or auto"
            )
        return self
