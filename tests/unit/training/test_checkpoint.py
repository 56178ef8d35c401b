from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import ConfigurationFailed, DataFailed
from core.schemas.slaegan import SlaeganConfig
from core.training.checkpoint import check_same_run, load_state, save_state

CPU = torch.device("cpu")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "state.pt"
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    save_state(path, {"weight": weight, "sum": weight.sum().item(), "names": ["a", "b"], "none": None})
    return path


def test_a_state_comes_back_whole_with_its_layout(saved: Path) -> None:
    state = load_state(saved, device=CPU)
    assert state["weight"].sum().item() == state["sum"]
    assert state["weight"].is_contiguous(memory_format=torch.channels_last)
    assert state["names"] == ["a", "b"]
    assert [path.name for path in saved.parent.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("kept", [0, 10, 60, 81, 500, -1])
def test_a_torn_state_is_told(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(DataFailed, match=r"state\.pt"):
        load_state(saved, device=CPU)


@pytest.mark.parametrize("place", [20, 81, 300, -30])
def test_one_flipped_bit_is_told(saved: Path, place: int) -> None:
    content = bytearray(saved.read_bytes())
    content[place] ^= 4
    saved.write_bytes(content)
    with pytest.raises(DataFailed, match="damaged"):
        load_state(saved, device=CPU)


def test_a_missing_state_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataFailed, match="cannot be read"):
        load_state(tmp_path / "nothing.pt", device=CPU)


def test_a_state_that_would_run_something_is_refused(tmp_path: Path) -> None:
    """Of one with a right hash, too: whoever writes to the store can make that."""
    ran = tmp_path / "ran"
    state = tmp_path / "state.pt"
    save_state(state, {"weight": Touches(ran)})
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_state(state, device=CPU)
    assert not ran.exists()


class Touches:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def state_of(config: SlaeganConfig) -> dict[str, object]:
    return {"config": config.model_dump(mode="json"), "facts": {"dataset_hash": "h"}}


def test_another_configuration_is_refused_by_name() -> None:
    then = SlaeganConfig(resolution=64)
    now = SlaeganConfig(resolution=64, learning_rate=1e-3, attention=False)
    with pytest.raises(
        ConfigurationFailed, match=r"attention was True, is False; learning_rate was 0\.0002"
    ) as refused:
        check_same_run(state_of(then), config=now, dataset_hash="h")
    assert refused.value.details["changed"] == ["attention", "learning_rate"]
    with pytest.raises(ConfigurationFailed, match="dataset_hash was 'h', is 'other'"):
        check_same_run(state_of(then), config=then, dataset_hash="other")


def test_how_long_and_how_often_may_change() -> None:
    then = SlaeganConfig(resolution=64)
    now = SlaeganConfig.model_validate(
        {
            "resolution": 64,
            "total_images": 99_999,
            "evaluate_every_images": 16,
            "checkpoint_every_images": 24,
            "evaluation": {"generated": 100},
        }
    )
    check_same_run(state_of(then), config=now, dataset_hash="h")


def test_a_switch_that_came_after_the_state_was_off_in_it() -> None:
    then = state_of(SlaeganConfig(resolution=64))
    assert isinstance(then["config"], dict)
    for name in ("lecam", "coverage", "adaptive_target"):
        del then["config"][name]
    check_same_run(then, config=SlaeganConfig(resolution=64), dataset_hash="h")
    with pytest.raises(ConfigurationFailed, match=r"lecam was 0\.0, is 0\.3"):
        check_same_run(then, config=SlaeganConfig(resolution=64, lecam=0.3), dataset_hash="h")
