"""What a user may configure of how snapshots are judged, and what becomes of a run then."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from core.schemas.sent import Frozen, Sent

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


class EvaluationConfig(Frozen, Sent):
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
    seed: int = Field(0, ge=0, lt=2**31, description="Of the latents that are judged")


class StoppingConfig(Frozen, Sent):
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


class AlarmConfig(Frozen, Sent):
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


class RetentionConfig(Frozen, Sent):
    """Which generators of a run are kept, beside those that are pinned; the curve and the grids always are."""

    best: int = Field(
        3, ge=1, description="So many of the best: near the lowest KID, few copies, high recall"
    )
    last: int = Field(2, ge=1, description="So many of the newest")
