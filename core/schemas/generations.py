"""What the API takes of generations and exports: pictures made with a trained generator, and the generator itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BeforeValidator, Field, StrictBool, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from core.schemas.sent import Frozen

SEEDS = 2**63  # so many there are, from 0
MAX_PICTURES = 1_000
MAX_GRID = 64
MAX_FRAMES = 600
MAX_PICTURE_BYTES = 12 * 2**20  # of a picture that is sent along


def _is_a_number(value: Any) -> Any:
    if isinstance(value, bool | str | bytes):
        raise PydanticCustomError("number_type", "Input should be a number, neither text nor true or false")
    return value


# As in what is `Sent`, whose check of all fields a discriminated union does not allow.
Whole = Annotated[int, BeforeValidator(_is_a_number)]
Share = Annotated[float, BeforeValidator(_is_a_number)]
Seed = Annotated[Whole, Field(ge=0, lt=SEEDS)]
ClassName = Annotated[str, Field(min_length=1, max_length=200)]
ExportFormat = Literal["safetensors", "torch_export", "onnx"]
AnimationForm = Literal["gif", "webp", "mp4"]


class _OfGenerator(Frozen):
    checkpoint_id: UUID | None = Field(
        None,
        description="A generator of the job; its best one by default, or its newest while none is evaluated",
    )


class _Drawing(_OfGenerator):
    truncation: Share = Field(
        1.0,
        gt=0,
        le=1,
        description="Below 1 pictures are nearer to the mean picture, and to each other; 1: none. Of families with "
        "styles (stylegan2) the style is drawn towards the mean style by this factor, of all others the latent is "
        "multiplied by it, and so drawn towards zero",
        examples=[0.8],
    )


class PicturesIn(_Drawing):
    """So many pictures, each of a seed of its own: seed, seed + 1, and so on."""

    kind: Literal["pictures"] = "pictures"
    seed: Seed = Field(0, description="Of the first picture; the next ones have the next seeds", examples=[1])
    count: Whole = Field(16, ge=1, le=MAX_PICTURES, description="Pictures to make", examples=[16])
    classes: tuple[ClassName, ...] | None = Field(
        None,
        min_length=1,
        max_length=1_000,
        description="Names of classes, for a generator trained by class: the picture of seed s is of number s modulo "
        "their count, so that consecutive seeds take turns. null: each seed draws one by the training set's shares",
        examples=[["cat", "dog"]],
    )
    form: Literal["zip", "grid", "both"] = Field(
        "both",
        description="zip: an archive of all pictures as PNG, named by their seeds; grid: one PNG of them side by side, "
        "64 at most; both: the archive as the main file, and a grid of the first 64 as its preview",
        examples=["both"],
    )
    nearest: StrictBool = Field(
        False,
        description="Say of each picture which training pictures are nearest to it, by the distance of the copy alarm",
        examples=[False],
    )

    @model_validator(mode="after")
    def _fits_a_grid(self) -> Self:
        if self.form == "grid" and self.count > MAX_GRID:
            raise ValueError(f"a grid holds {MAX_GRID} pictures at most, not {self.count}: say zip or both")
        return self

    @model_validator(mode="after")
    def _has_seeds_for_all(self) -> Self:
        if self.seed + self.count > SEEDS:
            raise ValueError(
                f"seed {self.seed} leaves none for some of {self.count} pictures: the last seed is {SEEDS - 1}"
            )
        return self


class InterpolationIn(_Drawing):
    """A film on the way from seed to seed: spherical between latents, linear between styles where there are some."""

    kind: Literal["interpolation"] = "interpolation"
    seeds: tuple[Seed, ...] = Field(
        min_length=2, max_length=16, description="In their order", examples=[[1, 2, 3]]
    )
    frames: Whole = Field(
        24,
        ge=1,
        le=120,
        description="Frames from one seed to the next, that of the first among them",
        examples=[24],
    )
    closed: StrictBool = Field(
        True, description="Whether the film goes back to the first seed, so that it repeats without a jump"
    )
    fps: Whole = Field(24, ge=1, le=50, description="Frames a second", examples=[24])
    form: AnimationForm = Field("mp4", description="Of the file", examples=["mp4"])
    class_name: ClassName | None = Field(
        None,
        description="The class of all frames, for a generator trained by class. null: that of the first seed",
        examples=["cat"],
    )

    @property
    def total_frames(self) -> int:
        """Of the whole film."""
        ways = len(self.seeds) if self.closed else len(self.seeds) - 1
        return ways * self.frames + (0 if self.closed else 1)

    @model_validator(mode="after")
    def _is_bearable(self) -> Self:
        if self.total_frames > MAX_FRAMES:
            raise ValueError(
                f"{len(self.seeds)} seeds with {self.frames} frames from one to the next are {self.total_frames} "
                f"frames; at most {MAX_FRAMES} are made at once: ask for fewer of either"
            )
        return self


class StyleMixIn(_Drawing):
    """A table of pictures that have their shapes from the rows' seeds and their styles from the columns'."""

    kind: Literal["style_mix"] = "style_mix"
    rows: tuple[Seed, ...] = Field(
        min_length=1, max_length=8, description="Seeds that give the layout", examples=[[1, 2]]
    )
    columns: tuple[Seed, ...] = Field(
        min_length=1, max_length=8, description="Seeds that give the style", examples=[[3, 4, 5]]
    )
    from_side: Whole | None = Field(
        None,
        ge=4,
        le=1_024,
        description="Side of the feature maps, in pixels, from which on the columns' style acts; one of the sides that "
        "the family mixes at, the smallest of them by default",
        examples=[16],
    )
    class_name: ClassName | None = Field(
        None,
        description="The class of all pictures, for a generator trained by class. null: that of the first row's seed",
        examples=["cat"],
    )

    @model_validator(mode="after")
    def _names_each_seed_once(self) -> Self:
        for name, seeds in (("rows", self.rows), ("columns", self.columns)):
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"{name} hold a seed twice: {list(seeds)}")
        return self


class Projection(_OfGenerator):
    """The nearest picture that a generator can make to a given one, as it is computed."""

    kind: Literal["projection"] = "projection"
    steps: Whole = Field(200, ge=1, le=2_000, description="Of Adam, on the latent", examples=[200])
    seed: Whole = Field(0, ge=0, lt=2**31, description="Of the latent that it begins from", examples=[0])
    class_name: ClassName | None = Field(
        None,
        description="The class to make it of, for a generator trained by class. null: the one that comes nearest "
        "before the first step",
        examples=["cat"],
    )


class ProjectionIn(Projection):
    """The nearest picture that a generator can make to a given one, which is sent along or lies in a dataset."""

    picture: str | None = Field(
        None,
        min_length=1,
        max_length=-(-MAX_PICTURE_BYTES // 3) * 4,
        description="A picture file (PNG, JPEG, WebP, …) in base64, 12 MiB at most before it is encoded",
        examples=["iVBORw0KGgo..."],
    )
    dataset_id: UUID | None = Field(
        None, description="The dataset that holds the picture, in place of `picture`"
    )
    image_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Which of its pictures, as its list of images names it"
    )

    @model_validator(mode="after")
    def _names_one_picture(self) -> Self:
        sent, named = self.picture is not None, self.dataset_id is not None and self.image_sha256 is not None
        if sent == named or (sent and (self.dataset_id or self.image_sha256)):
            raise ValueError("say one of picture, or dataset_id with image_sha256")
        return self

    def without_picture(self) -> Projection:
        """What is computed; the picture lies beside it."""
        return Projection.model_validate(self.model_dump(include=set(Projection.model_fields)))


class ExportIn(_OfGenerator):
    """The deployed generator as one file, checked against the original before it is told as done."""

    kind: Literal["export"] = "export"
    format: ExportFormat = Field(
        description="safetensors: weights and their configuration, for this project's networks; torch_export: a "
        "program (.pt2) that torch loads by itself; onnx: for ONNX Runtime and others",
        examples=["onnx"],
    )


GenerationIn = Annotated[
    PicturesIn | InterpolationIn | StyleMixIn | ProjectionIn, Field(discriminator="kind")
]
GENERATION: TypeAdapter[GenerationIn] = TypeAdapter(GenerationIn)
# What a rendering process is asked for: a projection's picture is a file by then.
Rendering = Annotated[
    PicturesIn | InterpolationIn | StyleMixIn | Projection | ExportIn, Field(discriminator="kind")
]
