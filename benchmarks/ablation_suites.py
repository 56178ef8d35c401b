"""What is compared with what: each suite is a set of variants, plain dictionaries of configuration keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.schemas.training import SlaeganConfig

# Latents without metadata would belong to the variants that have it only, and blur what is compared.
BASE: dict[str, Any] = {"resolution": 64, "batch": 8, "metadata_dropout": 0.0}


@dataclass(frozen=True)
class Suite:
    """Variants of one training.

    Args:
        about: what is asked, in a sentence or two for the page of results.
        variants: name to configuration keys over BASE; the first is what the others are compared with.
        equal_images: runs have the same number of pictures, not the pictures that fit in the same time.
    """

    about: str
    variants: dict[str, dict[str, Any]]
    equal_images: bool = False


SUITES: dict[str, Suite] = {
    "table2": Suite(
        about="Table 2 of the SLAE-GAN paper: spatial attention and metadata, alone and together, at equal wall time.",
        variants={
            "base": {"attention": False, "metadata": False},
            "+ attention": {"attention": True, "metadata": False},
            "+ metadata": {"attention": False, "metadata": True},
            "+ both": {"attention": True, "metadata": True},
        },
    ),
    "precision": Suite(
        about="What bf16 costs in quality: the same seeds and the same number of pictures in both, whatever the time.",
        variants={"fp32": {"precision": "fp32"}, "bf16": {"precision": "bf16"}},
        equal_images=True,
    ),
    "stabilisers": Suite(
        about="Switches against the overfitting of the discriminator, each alone on the default, at equal wall time; "
        "what adapts does so ten times faster than by default, since these trainings are short.",
        variants={
            "default": {},
            "cutout": {"augmentation": ["color", "translation", "cutout"]},
            "adaptive augmentation": {"adaptive_target": 0.6, "adaptive_images": 2_000},
            "LeCam": {"lecam": 0.3, "lecam_start_iterations": 100},
            "APA": {"apa_target": 0.6, "apa_images": 2_000},
            "coverage": {"coverage": 1.0},
        },
    ),
}

_FOREVER = 100_000_000  # pictures: as far as total_images may go


def config_of(
    variant: dict[str, Any], *, seed: int, width: float, evaluation: dict[str, Any], images: int = _FOREVER
) -> SlaeganConfig:
    """The configuration of a run: no snapshot, evaluation or state between its beginning and its end.

    Args:
        variant: configuration keys over BASE.
        seed: of weights, order and draws.
        width: of the networks.
        evaluation: the resolved evaluation part.
        images: pictures until the end.
    """
    shared = {
        "width": width,
        "seed": seed,
        "evaluation": evaluation,
        "total_images": images,
        "evaluate_every_images": _FOREVER,
        "checkpoint_every_images": _FOREVER,
    }
    return SlaeganConfig.model_validate(BASE | shared | variant)
