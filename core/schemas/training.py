"""What a user may configure, per model family; stored whole, with its version, on the job."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fit = Literal["crop", "pad", "squash"]
Extractor = Literal[
    "inception_v3",
    "vgg16",
    "alexnet",
    "clip_vit_b_32",
    "clip_vit_b_16",
    "clip_vit_l_14",
    "dinov2_vits14",
    "dinov2_vitb14",
    "dinov2_vitl14",
]
RESOLUTIONS = (64, 128, 256, 512, 1024)
MAX_IMAGES = 100_000_000
_WIDTH = {64: 0.5, 128: 0.5}
_TOTAL_IMAGES = {64: 24_000, 128: 80_000}


MAX_IMAGES = 100_000_000


class Frozen(BaseModel):
    """Immutable, and an unknown key is an error rather than a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EvaluationConfig(Frozen):
    """How each snapshot is judged; every field belongs to the metric's protocol."""

    extractor: Literal["auto", Extractor] = Field(
        "auto",
        description="auto: Inception v3 where its weights are in the weights folder, else VGG-16; "
        "resolved when the job is submitted. CLIP and DINOv2 need their weights in that folder",
    )
    weights_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="Of the extractor's weights; no others are used. null: those of DINOv2 that are in the weights "
        "folder when the job is submitted, and the published ones of the others",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="In which VGG-16 and AlexNet compute; auto: bf16 where the CPU computes it natively, else fp32; "
        "resolved when the job is submitted. All other extractors always compute in fp32",
    )
    generated: int = Field(2_000, ge=16, le=50_000, description="Pictures generated for FID and KID")
    generator_mode: Literal["deployed", "batch_statistics"] = Field(
        "deployed",
        description="deployed: as it is served, a picture by itself; batch_statistics: batch normalisation by the "
        "pictures that are made together, as in the papers' evaluations",
    )
    latents: Literal["auto", "mix", "bank", "plain"] = Field(
        "auto",
        description="Where the generator's metadata comes from: mixes of two training pictures', one's, or none. "
        "auto: mix, without metadata plain",
    )
    lpips_pairs: int = Field(
        200,
        ge=8,
        le=20_000,
        description="Pairs of generated pictures for LPIPS diversity, at most half of them",
    )
    copies: int = Field(
        500,
        ge=0,
        le=50_000,
        description="Generated pictures searched for copies of training pictures, at most; 0 leaves the search out",
    )
    seed: int = Field(0, ge=0, lt=2**31)


class StoppingConfig(Frozen):
    """When a training ends before its total; the margins are wide, so that noise in the curve does not end it."""

    plateau_evaluations: int | None = Field(
        8, ge=2, description="Stop when so many evaluations brought no better KID; null: never"
    )
    plateau_gain: float = Field(
        0.02, ge=0, lt=1, description="By which share a KID must be lower to be better"
    )
    collapse_share: float | None = Field(
        0.25,
        gt=0,
        lt=1,
        description="Stop when the pictures' LPIPS diversity is below this share of its highest; null: never",
    )
    collapse_evaluations: int = Field(3, ge=1, description="In so many evaluations in a row")


class AlarmConfig(Frozen):
    """When a curve is no success, whatever its FID says; the training goes on, and the job says so."""

    copy_rate: float | None = Field(
        0.2,
        gt=0,
        lt=1,
        description="Alarm above this rate of copies; it is also the limit by which the best snapshot is chosen. "
        "Unseen pictures of the same kind would have about 0.05. null: never",
    )
    kid_deviations: float | None = Field(
        2.0,
        gt=0,
        description="Alarm when KID is so many of its standard deviations below zero: nearer to the training set than "
        "the training set's own source is. null: never",
    )
    collapse_share: float | None = Field(
        0.25,
        gt=0,
        lt=1,
        description="Alarm when recall, or LPIPS within clusters, is below this share of its highest; null: never",
    )
    collapse_evaluations: int = Field(3, ge=1, description="In so many evaluations in a row")


class RetentionConfig(Frozen):
    """Which generators of a run are kept, beside those that are pinned; the curve and the grids always are."""

    best: int = Field(
        3, ge=1, description="So many of the best: near the lowest KID, few copies, high recall"
    )
    last: int = Field(2, ge=1, description="So many of the newest")


def _by_resolution(table: dict[int, Any], other: Any) -> Any:
    return lambda data: table.get(data.get("resolution", 256), other)


def _tenth(data: dict[str, Any]) -> int:
    """A tenth of the run, in whole batches."""
    batch: int = data.get("batch", 8)
    total: int = data.get("total_images", 400_000)
    return max(batch, -(-total // 10 // batch) * batch)


class SlaeganConfig(Frozen):
    """SLAE-GAN: FastGAN with spatial attention in its excitation, and VGG-16 metadata added to the noise."""

    family: Literal["slaegan"] = "slaegan"
    version: Literal[1] = 1
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
    width: float = Field(
        default_factory=_by_resolution(_WIDTH, 1.0),
        ge=0.125,
        le=1.0,
        description="Scales every channel count; 0.5 by default at 64 and 128, else 1",
    )
    batch: int = Field(8, ge=2, le=256, description="Pictures an iteration")
    total_images: int = Field(
        default_factory=_by_resolution(_TOTAL_IMAGES, 400_000),
        ge=2,
        le=MAX_IMAGES,
        description="Training ends when this many real pictures were seen",
    )
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device computes it natively, else fp16 on CUDA, fp32 on CPU"
    )
    compile: Literal["off", "default", "reduce-overhead"] = Field(
        "off",
        description="torch.compile of both networks, with torch's mode of this name; reduce-overhead uses CUDA graphs. "
        "For CUDA: the first iterations take minutes, and on the CPU it has been slower",
    )
    learning_rate: float = Field(2e-4, gt=0, le=1e-1)
    attention: bool = Field(True, description="Spatial attention in the generator's excitation (SLAE)")
    metadata: bool = Field(
        True, description="VGG-16 relu5_3 features of the training pictures added to the noise"
    )
    metadata_dropout: float = Field(0.1, ge=0, le=1, description="Share of latents that get plain noise only")
    metadata_rate: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Learning rate of the metadata's projection as a share of learning_rate; 1: as all other weights",
    )
    freeze_discriminator: int = Field(
        0,
        ge=0,
        le=6,
        description="For a training that begins from a checkpoint: so many of the discriminator's first parts, stem "
        "and blocks, do not learn (FreezeD, Mo et al. 2020)",
    )
    excitation: bool = Field(True, description="Skip-layer excitation in the generator")
    decoders: bool = Field(True, description="Self-supervised decoders on the discriminator")
    output_tanh: bool = Field(
        True,
        description="tanh on the generator's pictures; false: at 1024 only, as in FastGAN's published code",
    )
    flips: bool = Field(True, description="Random horizontal flips of the training pictures")
    augmentation: tuple[Literal["color", "translation", "cutout"], ...] = Field(
        ("color", "translation"), description="Differentiable augmentations (DiffAugment)"
    )
    adaptive_target: float | None = Field(
        None,
        gt=-1,
        lt=1,
        description="Adaptive augmentation: each kind is applied with a probability that rises while the mean sign "
        "of D's logits on real pictures is above this; 0.6 is usual. null: every kind always",
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
        1_000, ge=0, description="Iterations in which LeCam's averages only watch"
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
    coverage: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Weight of the coverage term: every real picture pulls at the generated picture nearest to it "
        "(RS-IMLE). 0: off",
    )
    coverage_pool: int = Field(
        4, ge=1, le=64, description="Generated pictures to choose from, in batches; they cost a forward each"
    )
    coverage_radius: float = Field(
        0.1,
        ge=0,
        le=2,
        description="A generated picture nearer than this to a real one is not pulled any closer: root mean "
        "square difference of their 16x16 means, in which black and white differ by 2",
    )
    hinge_margin: Literal["random", "one"] = Field(
        "random", description="random: U[0.8, 1] per logit (FastGAN); one: 1"
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
    evaluation: EvaluationConfig = EvaluationConfig()
    stopping: StoppingConfig = StoppingConfig()
    alarms: AlarmConfig = AlarmConfig()
    retention: RetentionConfig = RetentionConfig()

    @model_validator(mode="after")
    def _ends_on_a_whole_batch(self) -> Self:
        if self.total_images < self.batch:
            raise ValueError(f"total_images {self.total_images} is below one batch of {self.batch}")
        return self

    @model_validator(mode="after")
    def _adapts_something(self) -> Self:
        if self.adaptive_target is not None and not self.augmentation:
            raise ValueError("adaptive_target needs at least one kind of augmentation")
        return self

    @model_validator(mode="after")
    def _has_what_latents_need(self) -> Self:
        if self.evaluation.latents in {"mix", "bank"} and not self.metadata:
            raise ValueError(
                f"evaluation.latents {self.evaluation.latents!r} takes training pictures' metadata, and metadata is "
                "off: say plain or auto"
            )
        return self


FAMILIES: dict[str, type[SlaeganConfig]] = {"slaegan": SlaeganConfig}

# What decides the shapes and the meaning of weights.
ARCHITECTURE = (
    *("family", "resolution", "width", "attention", "metadata", "excitation", "decoders", "output_tanh"),
)


def architecture_differences(then: SlaeganConfig, now: SlaeganConfig) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configurations describe different networks, with both values; empty where none."""
    pairs = {name: (getattr(then, name), getattr(now, name)) for name in ARCHITECTURE}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
