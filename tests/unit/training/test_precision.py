from __future__ import annotations

import pytest
import torch

from core.errors import ConfigurationFailed
from core.training.precision import resolve, scaler

CPU = torch.device("cpu")


def test_named_types_are_taken_by_name() -> None:
    assert resolve("fp32", device=CPU) == torch.float32
    assert resolve("bf16", device=CPU) == torch.bfloat16
    assert resolve("fp16", device=torch.device("cuda")) == torch.float16


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigurationFailed, match="fp16 needs a CUDA device"):
        resolve("fp16", device=CPU)


def test_auto_on_a_cpu_is_bfloat16_where_it_is_native() -> None:
    with open("/proc/cpuinfo") as cpuinfo:  # noqa: PTH123 - read as the kernel tells it
        native = any(flag in cpuinfo.read() for flag in ("avx512_bf16", "amx_bf16"))
    assert resolve("auto", device=CPU) == (torch.bfloat16 if native else torch.float32)


def test_only_float16_is_scaled() -> None:
    assert not scaler(torch.bfloat16, device=CPU).is_enabled()
    assert not scaler(torch.float32, device=CPU).is_enabled()
    assert scaler(torch.float16, device=CPU).is_enabled()
