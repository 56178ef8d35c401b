"""In which floating-point type a device computes, and the loss scaling that float16 needs."""

from __future__ import annotations

from typing import Literal

import torch

from core.errors import ConfigurationFailed

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# float16's largest number is 65504: torch's own start of 65536 would always waste the first steps.
_FIRST_SCALE = 4096.0


def resolve(kind: Literal["auto", "fp32", "bf16", "fp16"], *, device: torch.device) -> torch.dtype:
    """The type of activations for a device; parameters and optimiser states are always float32.

    Args:
        kind: auto takes bfloat16 where the device computes it natively, else float16 on CUDA and float32
            on a CPU.
        device: cpu or cuda.

    Raises:
        ConfigurationFailed: float16 was asked of a CPU, which has no fast float16 convolutions.
    """
    if kind == "fp16" and device.type == "cpu":
        raise ConfigurationFailed(
            "Precision fp16 needs a CUDA device; on a CPU choose fp32, bf16 or auto.",
            precision=kind,
            device=str(device),
        )
    if kind != "auto":
        return _TYPES[kind]
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _cpu_has_bfloat16() -> bool:
    """Whether the instruction set multiplies bfloat16 (AVX512-BF16 or AMX); elsewhere it is emulated slowly."""
    cpu = torch.cpu
    return cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()  # noqa: SLF001 - torch has no public query


def computing(dtype: torch.dtype, *, device: torch.device, on: bool = True) -> torch.autocast:
    """Within it plain layers compute in a type, while their parameters stay float32.

    Args:
        dtype: from `resolve`.
        device: of the networks.
        on: False for networks that follow the type of their input by themselves.
    """
    kind = "cpu" if device.type == "meta" else device.type
    return torch.autocast(kind, dtype, enabled=on and dtype != torch.float32)


def scaler(dtype: torch.dtype, *, device: torch.device) -> torch.amp.GradScaler:
    """A gradient scaler that scales float16 on CUDA and passes everything else through."""
    return torch.amp.GradScaler(device.type, init_scale=_FIRST_SCALE, enabled=dtype == torch.float16)
