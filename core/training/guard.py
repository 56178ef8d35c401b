"""Skipping of steps that left the finite numbers, without waiting for the device.

Every decision stays a tensor on the device: the fused optimiser takes `found_inf` and leaves parameters and
moments alone where it is 1; buffers are put back by `torch.where`. The host looks once a progress tick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from core.errors import NonFinite

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATIENCE = 20


class Guard:
    """Watches losses and gradients, and sums the losses for the progress ticks.

    Args:
        networks: whose BN statistics, spectral vectors and other buffers are put back after a skipped step.
        scaler: of float16 gradients; passes the others through.
        device: of the networks.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        *,
        scaler: torch.amp.GradScaler,
        device: torch.device,
    ) -> None:
        # The vectors of power iteration and running statistics; counters of batches are not used.
        self._buffers = [
            buffer
            for network in networks.values()
            for name, buffer in network.state_dict(keep_vars=True).items()
            if not isinstance(buffer, nn.Parameter) and buffer.is_floating_point()
        ]
        self._saved = [buffer.clone() for buffer in self._buffers]
        self._scaler, self._device = scaler, device
        self._bad = torch.zeros((), device=device)
        self._streak, self._longest = torch.zeros((), device=device), torch.zeros((), device=device)
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def remember(self) -> None:
        """Begin an iteration: keep what its forwards will overwrite."""
        if self._buffers:  # networks without any are rare
            torch._foreach_copy_(self._saved, self._buffers)
        self._bad = torch.zeros((), device=self._device)

    def step(self, optimiser: torch.optim.Optimizer, *, losses: dict[str, Tensor]) -> None:
        """Step where the losses and all gradients are finite, and no earlier step of the iteration was skipped."""
        self._scaler.unscale_(optimiser)
        grads = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        finite = torch.isfinite(torch.stack([norm, *losses.values()])).all()
        self._bad = torch.maximum(self._bad, (~finite).float())
        # What GradScaler would set, which knows of one step an iteration only; the gradients are unscaled already.
        optimiser.grad_scale, optimiser.found_inf = None, self._bad  # type: ignore[attr-defined]
        optimiser.step()
        if self._scaler.is_enabled():
            self._scaler.update()

    @torch.no_grad()
    def finish(self, losses: dict[str, Tensor]) -> None:
        """End an iteration: put buffers back where a step was skipped, and count."""
        bad = self._bad > 0
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            torch.where(bad, saved, buffer, out=buffer)
        self._streak = torch.where(bad, self._streak + 1, 0)
        self._longest = torch.maximum(self._longest, self._streak)
        for name, loss in losses.items():
            kept, good = torch.where(bad, 0, loss.float()), 1 - self._bad
            self._sums[name] = self._sums[name] + kept if name in self._sums else kept
            self._counts[name] = self._counts[name] + good if name in self._counts else good

    def healthy(self) -> bool:
        """Whether the last iteration's steps were taken; waits for the device."""
        return int(self._streak) == 0

    def means(self) -> dict[str, float]:
        """Mean losses of the good iterations since the last call, each over those that had it.

        Raises:
            NonFinite: too many iterations in a row were skipped.
        """
        if int(self._longest) >= _PATIENCE:
            raise NonFinite(
                f"Losses or gradients were not finite in {int(self._longest)} iterations in a row. "
                "Lower learning_rate, or choose precision fp32.",
                iterations=int(self._longest),
            )
        counts = {name: float(count) for name, count in self._counts.items()}
        means = {name: float(total) / counts[name] for name, total in self._sums.items() if counts[name]}
        self._sums, self._counts = {}, {}
        self._longest = self._streak.clone()
        return means

    def state(self) -> dict[str, Any]:
        """Counters and sums, for a checkpoint between two progress ticks."""
        return {
            "streak": self._streak,
            "longest": self._longest,
            "counts": dict(self._counts),
            "sums": dict(self._sums),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over saved counters and sums."""
        self._streak, self._longest = state["streak"], state["longest"]
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
