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
    from collections.abc import Iterable, Mapping

_PATIENCE = 20


class Guard:
    """Watches losses and gradients, and sums the losses for the progress ticks.

    Args:
        networks: whose BN statistics and spectral vectors are put back after a skipped step.
        scaler: of float16 gradients; passes the others through.
        device: of the networks.
        statistics: other float tensors that are put back likewise, updated in place.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        *,
        scaler: torch.amp.GradScaler,
        device: torch.device,
        statistics: Iterable[Tensor] = (),
    ) -> None:
        # The vectors of power iteration and running statistics; counters of batches are not used.
        self._buffers = [
            buffer
            for network in networks.values()
            for name, buffer in network.state_dict(keep_vars=True).items()
            if not isinstance(buffer, nn.Parameter) and buffer.is_floating_point()
        ] + list(statistics)
        self._saved = [buffer.clone() for buffer in self._buffers]
        self._scaler, self._device = scaler, device
        self._bad = torch.zeros((), device=device)
        self._streak, self._longest = torch.zeros((), device=device), torch.zeros((), device=device)
        self._sums: dict[str, Tensor] = {}
        self._good = torch.zeros((), device=device)

    def remember(self) -> None:
        """Begin an iteration: keep what its forwards will overwrite."""
        torch._foreach_copy_(self._saved, self._buffers)
        self._bad = torch.zeros((), device=self._device)

    def step(self, optimiser: torch.optim.Optimizer, *, losses: dict[str, Tensor]) -> None:
        """Step where the losses and all gradients are finite, and no earlier step of the iteration was skipped."""
        self._scaler.unscale_(optimiser)
        grads = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        finite = torch.isfinite(torch.stack([norm, *losses.values()])).all()
        self._bad = torch.maximum(self._bad, (~finite).float())
        if self._scaler.is_enabled():
            self._scaler.step(optimiser)
        else:
            optimiser.grad_scale, optimiser.found_inf = None, self._bad  # type: ignore[attr-defined]  # what GradScaler sets
            optimiser.step()

    @torch.no_grad()
    def finish(self, losses: dict[str, Tensor]) -> None:
        """End an iteration: put buffers back where a step was skipped, and count."""
        if self._scaler.is_enabled():
            self._scaler.update()
        bad = self._bad > 0
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            torch.where(bad, saved, buffer, out=buffer)
        self._streak = torch.where(bad, self._streak + 1, 0)
        self._longest = torch.maximum(self._longest, self._streak)
        self._good = self._good + (1 - self._bad)
        for name, loss in losses.items():
            kept = torch.where(bad, 0, loss.float())
            self._sums[name] = self._sums[name] + kept if name in self._sums else kept

    def healthy(self) -> bool:
        """Whether the last iteration's steps were taken; waits for the device."""
        return int(self._streak) == 0

    def means(self) -> dict[str, float]:
        """Mean losses of the good iterations since the last call; empty where there was none.

        Raises:
            NonFinite: too many iterations in a row were skipped.
        """
        if int(self._longest) >= _PATIENCE:
            raise NonFinite(
                f"Losses or gradients were not finite in {int(self._longest)} iterations in a row. "
                "Lower learning_rate, or choose precision fp32.",
                iterations=int(self._longest),
            )
        good = float(self._good)
        means = {name: float(total) / good for name, total in self._sums.items()} if good else {}
        self._sums, self._good = {}, torch.zeros((), device=self._device)
        self._longest = self._streak.clone()
        return means

    def state(self) -> dict[str, Any]:
        """Counters and sums, for a checkpoint between two progress ticks."""
        return {
            "streak": self._streak,
            "longest": self._longest,
            "good": self._good,
            "sums": dict(self._sums),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over saved counters and sums."""
        self._streak, self._longest, self._good = state["streak"], state["longest"], state["good"]
        self._sums = dict(state["sums"])
