from __future__ import annotations

import pytest
import torch

from core.training.data import EpochOrder
from core.training.pictures import Pictures, budget_bytes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def test_mapped_and_resident_pictures_come_to_the_device_alike_and_without_a_wait() -> None:
    device = torch.device("cuda:0")
    pictures_M3HW = torch.randint(0, 256, (50, 3, 64, 64), dtype=torch.uint8)
    resident, mapped = (
        Pictures(pictures_M3HW, order=EpochOrder(50, seed=1), batch=8, device=device, budget=budget)
        for budget in (None, 0)
    )
    assert (resident.resident, mapped.resident) == (True, False)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = [(resident.at(position), mapped.at(position)) for position in [0, 8, 16, 400, 408, 3]]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for (rows, expected), (mapped_rows, found) in batches:
        assert found.device == rows.device == device
        assert torch.equal(mapped_rows, rows)
        assert torch.equal(found, expected)
        assert torch.equal(found.cpu(), pictures_M3HW[rows.cpu()])
    mapped.close()


def test_a_quarter_of_the_free_memory_is_for_pictures() -> None:
    device = torch.device("cuda:0")
    free, total = torch.cuda.mem_get_info(device)
    assert 0 < budget_bytes(device) <= total // 4
    assert budget_bytes(device) == pytest.approx(free / 4, rel=0.1)
