from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from core.training.data import EpochOrder, load_pictures, packed_path
from core.training.pictures import AHEAD, CPU_BUDGET_BYTES, Pictures, budget_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
COUNT, SIDE = 20_000, 64


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """20,000 pictures of noise, as if they had been decoded before; 246 MB."""
    cache = tmp_path_factory.mktemp("many")
    noise = np.random.default_rng(0).bytes(COUNT * 3 * SIDE * SIDE)
    pixels = np.frombuffer(noise, dtype=np.uint8).reshape(COUNT, 3, SIDE, SIDE)
    np.save(packed_path(cache, dataset_hash="many", resolution=SIDE, fit="crop"), pixels)
    return load_pictures(
        cache / "none",
        resolution=SIDE,
        fit="crop",
        cache_dir=cache,
        dataset_hash="many",
        check_stop=lambda: None,
    )


def feed(
    pictures_M3HW: torch.Tensor, *, resident: bool, batch: int = 8, count: int | None = None
) -> Pictures:
    return Pictures(
        pictures_M3HW,
        order=EpochOrder(count or pictures_M3HW.shape[0], seed=5),
        batch=batch,
        device=CPU,
        budget=None if resident else 0,
    )


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pictures")]


def test_both_ways_give_the_same_batches_from_any_position(many: torch.Tensor) -> None:
    few = many[:30]
    resident, mapped = feed(few, resident=True), feed(few, resident=False)
    assert (resident.resident, mapped.resident) == (True, False)
    assert resident.count == mapped.count == 30
    # On and on over the epoch's end; a resume elsewhere; back to an earlier state; and once more the same.
    for position in [0, 8, 16, 24, 32, 1_000, 1_008, 24, 32, 32, 3, 11]:
        (rows, expected), (mapped_rows, found) = resident.at(position), mapped.at(position)
        assert torch.equal(rows, EpochOrder(30, seed=5).rows(position, batch=8))
        assert torch.equal(mapped_rows, rows)
        assert torch.equal(expected, few[rows])
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()
    some = torch.tensor([29, 0, 0])
    assert torch.equal(mapped.batch(some), resident.batch(some))
    mapped.close()
    resident.close()


def test_a_batch_may_be_larger_than_the_set(many: torch.Tensor) -> None:
    mapped = feed(many[:5], resident=False, batch=12)
    rows, found = mapped.at(36)
    assert torch.equal(found, many[:5][rows])
    mapped.close()


def test_a_set_lies_on_the_device_if_it_fits_the_budget(many: torch.Tensor) -> None:
    few = many[:10]
    for budget, resident in [(10 * 3 * 64 * 64, True), (10 * 3 * 64 * 64 - 1, False)]:
        order = EpochOrder(10, seed=0)
        assert Pictures(few, order=order, batch=2, device=CPU, budget=budget).resident is resident
    assert budget_bytes(CPU) == CPU_BUDGET_BYTES == 2_147_483_648


def test_no_batch_shares_memory_with_the_set_or_with_another(many: torch.Tensor) -> None:
    for resident in (True, False):
        pictures = feed(many[:10], resident=resident, batch=10)
        _, first = pictures.at(0)
        kept = first.clone()
        _, second = pictures.at(10)
        second.zero_()
        assert torch.equal(first, kept)
        assert torch.equal(pictures.at(0)[1], kept)
        pictures.close()


def test_the_reading_thread_ends_when_closed(many: torch.Tensor) -> None:
    assert readers() == []
    mapped = feed(many, resident=False)
    mapped.at(0)
    assert len(readers()) == 1
    mapped.close()
    assert readers() == []


def test_what_the_thread_meets_comes_out_where_the_batch_is_asked_for(many: torch.Tensor) -> None:
    mapped = feed(many[:10], resident=False, batch=11, count=11)  # an order with a row that is not there
    with pytest.raises(IndexError, match="out of bounds"):
        mapped.at(0)
    mapped.close()
    assert readers() == []


def test_the_next_batches_are_read_before_they_are_asked_for(many: torch.Tensor) -> None:
    mapped = feed(many, resident=False)
    mapped.at(160)
    ahead = [reading for _, reading in mapped._ahead.values()]
    assert list(mapped._ahead) == [160 + 8 * n for n in range(1, 1 + AHEAD)]
    assert wait(ahead, timeout=20).not_done == set()
    first = ahead[0].result()
    assert mapped.at(168)[1] is first
    mapped.at(40)  # elsewhere: what was read for nothing is forgotten
    assert list(mapped._ahead) == [40 + 8 * n for n in range(1, 1 + AHEAD)]
    mapped.close()


STEP_S = 0.02


def fixed_work(seconds: float) -> Callable[[], object]:
    """A step's kind of work, always the same amount, which takes one core about so long."""
    weight, x = torch.eye(512), torch.rand(256, 512)

    def products(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            torch.mm(x, weight)
        return time.perf_counter() - began

    count = max(1, round(seconds / min(products(1) for _ in range(20))))
    return lambda: products(count)


def slowdown(resident: Pictures, mapped: Pictures, *, since: int, work: Callable[[], object]) -> float:
    """Median step of the mapped set over that of the resident one; the two take turns, step by step."""
    times: dict[Pictures, list[float]] = {resident: [], mapped: []}
    for position in range(since, since + 40 * 8, 8):
        for pictures, spent in times.items():
            began = time.perf_counter()
            _, batch = pictures.at(position)
            batch.float()
            work()
            spent.append(time.perf_counter() - began)
    return statistics.median(times[mapped]) / statistics.median(times[resident])


def test_twenty_thousand_mapped_pictures_are_as_fast_as_resident_ones(many: torch.Tensor) -> None:
    resident, mapped = feed(many, resident=True), feed(many, resident=False)
    work, ratios = fixed_work(STEP_S), []
    # The machine may be busy with something else for a while; a set that is too slow is so every time.
    for attempt in range(8):
        ratios.append(slowdown(resident, mapped, since=10_000 * attempt, work=work))
        if ratios[-1] < 1.05:
            break
    mapped.close()
    resident.close()
    assert ratios[-1] < 1.05, ratios
