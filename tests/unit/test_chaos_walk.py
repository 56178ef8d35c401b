from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.chaos.trainer import CHEAP_FROM, train
from benchmarks.chaos.walk import evaluate
from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import ProgressTick, SnapshotTick, StateTick, StoppedTick, Tick, TrainingSpec

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = SlaeganConfig(
    resolution=64,
    batch=4,
    total_images=48,
    seed=CHEAP_FROM,
    evaluate_every_images=16,
    checkpoint_every_images=8,
)


def run(folder: Path, *, resume: Path | None = None, stop_at: int | None = None) -> list[Tick]:
    folder.mkdir(exist_ok=True)
    spec = TrainingSpec(
        config=CONFIG, images_dir=folder, dataset_hash="", work_dir=folder, cache_dir=folder,
        weights_dir=folder, device="cpu", resume=resume,
    )  # fmt: skip
    ticks: list[Tick] = []

    def should_stop() -> bool:
        return any(isinstance(tick, ProgressTick) and tick.images_seen == stop_at for tick in ticks)

    train(spec, emit=ticks.append, should_stop=should_stop, step_s=0)
    return ticks


def losses(ticks: list[Tick]) -> dict[int, dict[str, float]]:
    return {tick.images_seen: tick.losses for tick in ticks if isinstance(tick, ProgressTick)}


def results(ticks: list[Tick], folder: Path) -> dict[int, bytes]:
    found = [tick for tick in ticks if isinstance(tick, SnapshotTick)]
    return {tick.images_seen: (folder / tick.generator).read_bytes() for tick in found}


def test_a_resumed_walk_is_the_undisturbed_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    first = run(tmp_path / "first", stop_at=20)
    assert isinstance(first[-1], StoppedTick)
    state = [tick for tick in first if isinstance(tick, StateTick)][-1]
    assert state.images_seen == 20
    second = run(tmp_path / "second", resume=tmp_path / "first" / state.state)
    assert losses(first) | losses(second) == losses(whole)
    assert min(losses(second)) == 24
    made = results(first, tmp_path / "first") | results(second, tmp_path / "second")
    assert made == results(whole, tmp_path / "whole")
    assert sorted(made) == [0, 16, 32, 48]


def test_metrics_are_a_function_of_generator_and_protocol() -> None:
    one, other = b'{"weights": [0.5, 0.5]}', b'{"weights": [0.5, 0.6]}'
    protocol: dict[str, Any] = {"seed": 1}
    assert evaluate(one, protocol=protocol) == evaluate(one, protocol=dict(protocol))
    assert evaluate(one, protocol=protocol) != evaluate(other, protocol=protocol)
    assert evaluate(one, protocol=protocol) != evaluate(one, protocol={"seed": 2})
