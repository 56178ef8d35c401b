"""How much memory a training takes."""

from __future__ import annotations

import resource
import sys

import torch

# getrusage tells kibibytes, except on macOS.
_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_memory_bytes(device: torch.device) -> int:
    """The most that this process has held so far: of the device's memory, or on the CPU of the machine's.

    On CUDA it is what PyTorch has reserved, which is what other processes cannot have; the driver takes some more.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
