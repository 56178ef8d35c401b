"""RMSprop that a guard can bid to stand still, as torch's fused Adam can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class RMSprop(torch.optim.RMSprop):
    """torch's RMSprop; where `found_inf` is 1, a step moves neither parameters nor averages.

    Source: Tieleman and Hinton 2012, lecture 6e. torch's own waits for the device to learn whether a gradient is
    finite; this one decides on the device, by the attribute that torch.amp.GradScaler sets on fused optimisers too.
    """

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # a closure returns a loss
        """Move the parameters.

        Raises:
            ValueError: a closure was given, which would compute the gradients after they were judged.
        """
        if closure is not None:
            raise ValueError("a step that may be skipped takes no closure")
        if self.found_inf is None:
            super().step()
            return
        moving = self._moving()
        before = [tensor.clone() for tensor in moving]
        super().step()
        bad = self.found_inf > 0
        for tensor, old in zip(moving, before, strict=True):
            torch.where(bad, old, tensor, out=tensor)

    def _moving(self) -> list[Tensor]:
        """Parameters that have gradients, and their averages, which begin here as torch begins them."""
        moving: list[Tensor] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state: dict[str, Any] = self.state[parameter]
                    if not state:
                        state["step"] = torch.zeros((), dtype=torch.float32)
                        state["square_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                    moving += [parameter, state["square_avg"]]
        return moving
