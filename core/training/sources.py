"""The random sources of a training: where they begin, and what a resumed run needs of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class Sources:
    """One source on the device, and one on the host for what decides the course of a step.

    Args:
        seed: of the configuration.
        device: of the networks; on `meta` nothing is drawn, and the first source is None.
    """

    def __init__(self, seed: int, *, device: torch.device) -> None:
        self._seed = seed
        self.device = None if device.type == "meta" else torch.Generator(device)
        self.host = torch.Generator()
        self.reseed(0)

    def reseed(self, salt: int) -> None:
        """Begin anew, otherwise than with another salt."""
        # Seeds below 2**31 made the weights; the draws begin elsewhere. Torch's source on the CPU keeps 32 bits.
        seed = self._seed + 2**31
        if salt:
            seed = int(np.random.SeedSequence([self._seed, salt]).generate_state(1)[0])
        for source in (self.device, self.host):
            if source is not None:
                source.manual_seed(seed)

    def state(self) -> dict[str, Any]:
        """Both states."""
        assert self.device is not None, "only a test's step runs on the meta device"
        return {"draws": self.device.get_state(), "host_draws": self.host.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        assert self.device is not None, "only a test's step runs on the meta device"
        self.device.set_state(state["draws"].cpu())
        self.host.set_state(state["host_draws"].cpu())
