"""A training as its process runs it: to the end, until asked to stop, and in the memory that there is."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch

from core.errors import OutOfMemory, lacks_memory
from core.schemas.ticks import StoppedTick, Tick, TrainingSpec, WarningTick
from core.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

# Below two pictures batch normalisation has little to average over.
_SMALLEST = 2


class _Stopped(Exception):
    """The caller asked to stop."""


def train(spec: TrainingSpec, *, emit: Callable[[Tick], None], should_stop: Callable[[], bool]) -> None:
    """Train to the end, or until asked to stop; where memory is short, in ever smaller micro-batches.

    Args:
        spec: configuration, pictures, folders, device, and a state to go on from.
        emit: takes each tick; a file named in a tick is complete.
        should_stop: asked at least once an iteration; when true the state is saved and the training ends.

    Raises:
        ConfigurationFailed: the configuration cannot run here, or differs from the state's.
        DataFailed: the pictures or the state cannot be read.
        WeightsMissing: the VGG-16 weights are not to be had.
        NonFinite: twenty steps in a row left the finite numbers.
        OutOfMemory: not even micro-batches of two pictures fit.
    """
    remaining: TrainingSpec | None = spec
    while remaining is not None:
        remaining = _train(remaining, emit=emit, should_stop=should_stop)
        # What did not fit is in reference cycles of the error's frames, and in torch's cache.
        gc.collect()
        torch.cuda.empty_cache()


def _train(
    spec: TrainingSpec, *, emit: Callable[[Tick], None], should_stop: Callable[[], bool]
) -> TrainingSpec | None:
    """Train; where the memory did not suffice, return how to go on: from the last state, or from the beginning."""
    trainer = None

    def check_stop() -> None:
        if should_stop():
            raise _Stopped

    try:
        trainer = Trainer(spec, emit=emit, check_stop=check_stop)
        trainer.run()
    except _Stopped:
        if trainer is not None:
            trainer.save_rest()
        emit(StoppedTick(images_seen=0 if trainer is None else trainer.images_seen))
    except Exception as error:
        if trainer is None or not lacks_memory(error):
            raise
        return _smaller(spec, trainer, error, emit=emit)
    finally:
        if trainer is not None:
            trainer.close()
    return None


def _smaller(
    spec: TrainingSpec, trainer: Trainer, error: Exception, *, emit: Callable[[Tick], None]
) -> TrainingSpec:
    micro_batch = -(-trainer.micro_batch // 2)
    if micro_batch < _SMALLEST or micro_batch == trainer.micro_batch:
        raise OutOfMemory(
            f"{error}. Not even {trainer.micro_batch} pictures fit: choose a smaller width or resolution, or a "
            "larger device.",
            micro_batch=trainer.micro_batch,
        ) from error
    trainer.wait_until_saved()
    emit(
        WarningTick(
            code=OutOfMemory.code,
            message=f"{trainer.micro_batch} pictures did not fit into memory. The training goes on in micro-batches of "
            f"{micro_batch}, from {'its last state' if trainer.good_state else 'the beginning'}. ({error})",
            images_seen=trainer.images_seen,
        )
    )
    return spec.model_copy(update={"micro_batch": micro_batch, "resume": trainer.good_state})
