"""What is compared with what: each suite is a set of variants, plain dictionaries of configuration keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.schemas.families import FAMILIES, Config, parse_config

if TYPE_CHECKING:
    from collections.abc import Sequence

# Latents without metadata would belong to the variants that have it only, and blur what is compared.
BASE: dict[str, Any] = {"resolution": 64, "batch": 8, "metadata_dropout": 0.0}
# How much of a run's time the encoder and the decoder of latent codes get.
_AUTOENCODER_SHARE = 0.4


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

# Every family at its own defaults; benchmarks/families.py has the page of their results.
FAMILY_SUITE = Suite(
    about="Every family at its defaults at 64 pixels, at equal wall time.",
    variants={family: {"family": family, "resolution": 64} for family in FAMILIES},
)

ALL_SUITES = SUITES | {"families": FAMILY_SUITE}

_FOREVER = 100_000_000  # pictures: as far as total_images may go


def config_of(
    variant: dict[str, Any], *, seed: int, width: float, evaluation: dict[str, Any], images: int = _FOREVER
) -> Config:
    """The configuration of a run: no snapshot, evaluation or state between its beginning and its end.

    Args:
        variant: configuration keys, over BASE where they name no family.
        seed: of weights, order and draws.
        width: of the networks.
        evaluation: the resolved evaluation part.
        images: pictures until the end.
    """
    base = {} if "family" in variant else BASE | {"width": width}
    shared = {
        "seed": seed,
        "evaluation": evaluation,
        "total_images": images,
        "evaluate_every_images": _FOREVER,
        "checkpoint_every_images": _FOREVER,
    }
    return parse_config(base | shared | variant)


def stages_of(config: Config) -> list[tuple[Config, float]]:
    """The stages of a training, each as a training that has no other, with its share of the time."""
    if config.family != "codes":
        return [(config, 1.0)]
    first = config.model_copy(update={"autoencoder_images": _FOREVER // 2})
    second = config.model_copy(update={"autoencoder_images": config.batch})
    return [(first, _AUTOENCODER_SHARE), (second, 1 - _AUTOENCODER_SHARE)]


def of_length(config: Config, images: Sequence[int]) -> Config:
    """A training that shows so many pictures in each of its stages."""
    total = {"total_images": sum(images)}
    staged = {"autoencoder_images": images[0]} if len(images) > 1 else {}
    return parse_config(config.model_dump(mode="json") | total | staged)
