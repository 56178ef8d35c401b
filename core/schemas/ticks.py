"""What a training or evaluating child process tells its supervisor: one JSON object a line.

Paths are relative to the child's work folder. A file named in a tick is complete and fsynced
before the tick is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from core.schemas.families import Config
from core.schemas.generations import Rendering
from core.schemas.sent import Frozen

# What a picture of a snapshot shows: the grid, which all families have, or what one alone has.
SampleKind = Annotated[str, Field(pattern="^[a-z][a-z_]{0,39}$", examples=["grid", "attention"])]


class TrainingSpec(Frozen):
    """All a training child needs; a JSON file in its work folder.

    `resume` is a complete training state of an earlier attempt, `cache_dir` a folder shared by jobs where
    results that depend on the dataset alone are kept by content hash.
    """

    config: Config
    images_dir: Path
    dataset_hash: str
    work_dir: Path
    cache_dir: Path
    weights_dir: Path
    device: str = Field(description="cpu or cuda:0")
    resume: Path | None = None
    init_from: Path | None = Field(
        None, description="A checkpoint whose weights to begin from; not with resume"
    )
    micro_batch: int | None = Field(
        None, description="Pictures in memory at a time; the whole batch, or as the state, where none"
    )
    commit: str | None = Field(None, description="Of the code, for the facts")
    classes: tuple[str, ...] = Field(
        (), description="Names of the classes of the pictures, where they have labels"
    )
    labels: tuple[int, ...] | None = Field(
        None, description="The class of each picture, in the order of their rows; null: they have none"
    )

    @model_validator(mode="after")
    def _labels_are_of_classes(self) -> Self:
        wrong = [label for label in self.labels or () if not 0 <= label < len(self.classes)]
        if wrong:
            raise ValueError(f"label {wrong[0]} is of none of the {len(self.classes)} classes")
        return self


class EvaluationSpec(Frozen):
    """All an evaluating child needs; a JSON file in its work folder.

    `protocol` is what was planned with the snapshot: a result under any other is refused.
    """

    generator: Path = Field(description="A snapshot's generator file")
    images_dir: Path
    dataset_hash: str
    config: Config
    protocol: dict[str, Any]
    cache_dir: Path = Field(description="Shared by jobs: features of the real pictures, by content hash")
    weights_dir: Path
    device: str = Field(description="cpu or cuda:0")
    held_out_dir: Path | None = Field(None, description="Pictures that were kept from the training")
    classes: tuple[str, ...] = Field(
        (), description="Names of the classes of the pictures, where the training is by class"
    )
    labels: tuple[int, ...] | None = Field(
        None, description="The class of each training picture; null where the training is not by class"
    )
    held_out_labels: tuple[int, ...] | None = Field(
        None, description="The class of each picture that was kept from it"
    )
    work_dir: Path | None = Field(None, description="Where to leave the sheet of nearest neighbours")


class RenderSpec(Frozen):
    """All that one generation or export needs; the child that renders reads one a line."""

    generator: Path = Field(description="A snapshot's generator file")
    config: Config
    request: Rendering
    work_dir: Path = Field(description="Where the files go; made if missing, to be empty")
    cache_dir: Path = Field(description="Shared by jobs: the packed training pictures, by content hash")
    weights_dir: Path
    device: str = Field(description="cpu or cuda:0")
    images_dir: Path | None = Field(
        None, description="Of the training pictures, where nearest ones are wanted"
    )
    dataset_hash: str | None = Field(None, description="Names their content; with images_dir")
    positions: tuple[int, ...] | None = Field(
        None,
        description="Of each of them in the dataset, where the training had a part of it; else their order",
    )
    picture: Path | None = Field(None, description="What a projection is to come near: a normalised picture")
    classes: tuple[str, ...] = Field((), description="Names of the classes, where the training was by class")


class RenderedFile(Frozen):
    """A file that a rendering left in its work folder, complete and fsynced."""

    name: str = Field(description="In the work folder; lower-case letters, digits, '-', '.' alone")
    media_type: str
    size_bytes: int
    sha256: str
    role: Literal["main", "preview", "picture", "latent"] = Field(
        description="main: the answer, one in each; preview: a PNG to show of it; picture: one PNG of many; latent: "
        "where a projection arrived"
    )


class RenderedTick(Frozen):
    """What a rendering made, and what is to be told of it."""

    tick: Literal["rendered"] = "rendered"
    files: tuple[RenderedFile, ...] = Field(min_length=1)
    facts: dict[str, Any] = Field(default_factory=dict)


class FactsTick(Frozen):
    """Once, before the first step: versions, device, threads, commit, hashes of weights, parameter counts."""

    tick: Literal["facts"] = "facts"
    facts: dict[str, Any]


class PreparingTick(Frozen):
    """Every few seconds while the pictures are decoded for the first time, and once when all are."""

    tick: Literal["preparing"] = "preparing"
    done: int
    total: int


class ProgressTick(Frozen):
    """Every few iterations; losses are means since the last tick, NaN-free."""

    tick: Literal["progress"] = "progress"
    images_seen: int
    images_per_s: float
    losses: dict[str, float]
    peak_memory_bytes: int | None = Field(
        None, description="The most that the process has held of its device's memory"
    )


class StateTick(Frozen):
    """A complete training state to resume from."""

    tick: Literal["state"] = "state"
    images_seen: int
    state: str


class SnapshotTick(Frozen):
    """A deployable generator, to be evaluated, the fixed-noise grid, and what else its family shows of it."""

    tick: Literal["snapshot"] = "snapshot"
    images_seen: int
    generator: str
    grid: str
    extras: dict[SampleKind, str] = Field(
        default_factory=dict, description="Further pictures, PNGs, by kind; `grid` is none of them"
    )


class WarningTick(Frozen):
    """Something went wrong that the training could mend itself; `code` is one of core.errors."""

    tick: Literal["warning"] = "warning"
    code: str
    message: str
    images_seen: int


class MetricsTick(Frozen):
    """The result of one evaluation."""

    tick: Literal["metrics"] = "metrics"
    metrics: dict[str, float | list[float]]
    protocol: dict[str, Any]
    picture: str | None = Field(
        None, description="A PNG: generated pictures beside their nearest training pictures"
    )


class FinishedTick(Frozen):
    tick: Literal["finished"] = "finished"
    images_seen: int = 0


class StoppedTick(Frozen):
    """The child was asked to stop (SIGTERM), and has saved its state first."""

    tick: Literal["stopped"] = "stopped"
    images_seen: int


class ErrorTick(Frozen):
    """A failure the child understood; `code` is one of core.errors."""

    tick: Literal["error"] = "error"
    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)


Tick = Annotated[
    FactsTick
    | PreparingTick
    | ProgressTick
    | StateTick
    | SnapshotTick
    | WarningTick
    | MetricsTick
    | RenderedTick
    | FinishedTick
    | StoppedTick
    | ErrorTick,
    Field(discriminator="tick"),
]
TICK: TypeAdapter[Tick] = TypeAdapter(Tick)
