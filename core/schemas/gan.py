"""What a user may configure of a pair of networks on whole pictures, and how two configurations compare."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from core.schemas.training import TrainingConfig


class GanConfig(TrainingConfig):
    """Of a family with one generator and one discriminator of whole pictures (core.training.gan)."""

    discriminator_steps: int = Field(
        1,
        ge=1,
        le=20,
        description="Steps of the discriminator, each on new pictures, to one of the generator",
    )

    @property
    def shown(self) -> int:
        return self.batch * self.discriminator_steps

    def _refuse_signs(self, why: str) -> None:
        """Refuse what is steered by the sign of D's logits, for a family whose logits have no zero that tells.

        Raises:
            ValueError: naming what is on.
        """
        if self.pipeline == "ada":
            raise ValueError(f"pipeline ada is steered by the signs of D's logits: {why}")
        for name in ("adaptive_target", "apa_target"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is a mean sign of D's logits: {why}")


def architecture_differences(
    then: TrainingConfig, now: TrainingConfig, *, generator_only: bool = False
) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configurations describe different networks, with both values; empty where none."""
    if then.family != now.family:
        return {"family": (then.family, now.family)}
    names = [n for n in now.compared if not (generator_only and n in now.discriminator_only)]
    pairs = {name: (getattr(then, name), getattr(now, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
