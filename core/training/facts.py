"""What a run stands on: everything that must be the same for it to repeat bit for bit."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from core.weights import VGG16_SHA256

if TYPE_CHECKING:
    from core.schemas.ticks import TrainingSpec

# A resumed run is bit-exact where these agree; elsewhere it goes on just as well, but on other last bits.
_EXACT = ("torch", "device", "threads", "instruction_set", "precision", "vgg16_sha256", "numpy")


def facts_of(
    spec: TrainingSpec, *, dtype: torch.dtype, networks: dict[str, nn.Module], resumed: dict[str, Any] | None
) -> dict[str, Any]:
    """Versions, device, threads, instruction set, hashes and parameter counts of a run.

    Args:
        spec: of the run.
        dtype: in which it computes.
        networks: by name.
        resumed: the state it goes on from; what differs from the state's facts is listed.
    """
    device = torch.device(spec.device)
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "commit": spec.commit,
        "torch": str(torch.__version__),  # a subclass of str that weights-only loading refuses
        **{name: version(name) for name in ("numpy", "pillow", "safetensors")},
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "precision": str(dtype).removeprefix("torch."),
        "dataset_hash": spec.dataset_hash,
        "vgg16_sha256": VGG16_SHA256,
        "parameters": {
            name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()
        },
    }
    if resumed is not None:
        before = resumed["facts"]
        facts["resumed_at"] = resumed["images_seen"]
        facts["resumed_differs"] = [name for name in _EXACT if before.get(name) != facts[name]]
    return facts
