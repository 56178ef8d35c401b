from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from core.schemas.slaegan import SlaeganConfig
from core.schemas.ticks import StateTick, Tick, TrainingSpec
from core.training.checkpoint import load_state
from core.training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core.schemas.families import Config


T = TypeVar("T", bound=Tick)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks of these tests are so small that a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def images_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn pictures of different sizes and formats."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for index in range(6):
        width, height = (int(side) for side in random.integers(70, 130, size=2))
        background, ink = (tuple(int(c) for c in random.integers(0, 256, size=3)) for _ in range(2))
        picture = Image.new("RGB", (width, height), background)
        ImageDraw.Draw(picture).ellipse((width // 4, height // 4, width // 2, 3 * height // 4), fill=ink)
        picture.save(folder / f"{index}.{'png' if index % 2 else 'jpg'}")
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def hasty_statistics() -> Iterator[None]:
    """Two batches of latents for each snapshot's BN statistics; that 2,048 are right is another file's matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.training.snapshot._BN_LATENTS", 128)
        yield


class MakeSpec(Protocol):
    def __call__(self, work_dir: Path, *, resume: Path | None = None, **config: Any) -> TrainingSpec: ...


@pytest.fixture(scope="session")
def make_spec(images_dir: Path, cache_dir: Path, weights_dir: Path) -> MakeSpec:
    """A training of two pictures an iteration on the smallest networks."""

    def make(work_dir: Path, *, resume: Path | None = None, **config: Any) -> TrainingSpec:
        work_dir.mkdir(exist_ok=True)
        small = {"resolution": 64, "width": 0.125, "batch": 2, "total_images": 8, "precision": "fp32"}
        return TrainingSpec(
            config=SlaeganConfig.model_validate(small | config),
            images_dir=images_dir,
            dataset_hash="six-drawn-pictures",
            work_dir=work_dir,
            cache_dir=cache_dir,
            weights_dir=weights_dir,
            device="cpu",
            resume=resume,
        )

    return make


def collect(spec: TrainingSpec, *, should_stop: Callable[[], bool] = lambda: False) -> list[Tick]:
    """All ticks of a training in this process."""
    ticks: list[Tick] = []
    train(spec, emit=ticks.append, should_stop=should_stop)
    return ticks


def check_resume(spec_of: Callable[..., TrainingSpec], config: Config, *, iterations: int) -> None:
    """So many iterations are half of them, a resume and the other half, to the bit.

    Args:
        spec_of: makes a spec from a name and a configuration.
        config: of the training; its length and its states are set here.
        iterations: of the whole, even.
    """
    total = iterations * config.shown
    length = {"total_images": total, "evaluate_every_images": total, "checkpoint_every_images": total // 2}
    config = config.model_copy(update=length)
    whole = spec_of("whole", config)
    first, last = of(StateTick, collect(whole))
    assert (first.images_seen, last.images_seen) == (total // 2, total)
    again = spec_of("again", config, resume=whole.work_dir / first.state)
    (resumed,) = of(StateTick, collect(again))
    assert_same_state(whole.work_dir / last.state, again.work_dir / resumed.state)


def of(kind: type[T], ticks: list[Tick]) -> list[T]:
    """The ticks of one kind, in their order."""
    return [tick for tick in ticks if isinstance(tick, kind)]


def flat(value: Any, *, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a state with their paths."""
    match value:
        case dict():
            for key, inner in value.items():
                yield from flat(inner, name=f"{name}/{key}")
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from flat(inner, name=f"{name}/{index}")
        case _:
            yield name, value


def assert_same_state(mine: Path, theirs: Path) -> None:
    """Every tensor and every number of two states, to the bit; facts tell where the second began."""
    first, second = (dict(flat(load_state(path, device=torch.device("cpu")))) for path in (mine, theirs))
    for state in (first, second):
        for name in [name for name in state if name.startswith(("/facts/resumed", "/config"))]:
            del state[name]
    assert first.keys() == second.keys()
    assert len(first) > 150
    for name, value in first.items():
        same = torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        assert same, name
