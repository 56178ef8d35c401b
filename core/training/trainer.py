"""The training loop: from a folder of pictures to snapshots and states, told in ticks.

images_seen is the only clock. The loop owns precision, averages, checkpoints and ticks; what is trained,
and with which losses, belongs to the family.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from core.errors import ConfigurationFailed, NonFinite
from core.schemas.ticks import (
    FactsTick,
    FinishedTick,
    ProgressTick,
    SnapshotTick,
    StateTick,
    Tick,
    TrainingSpec,
    WarningTick,
)
from core.training import checkpoint, precision
from core.training.classes import Classes
from core.training.ema import Ema
from core.training.facts import facts_of
from core.training.families import build_networks, family_of
from core.training.family import Setting
from core.training.guard import Guard
from core.training.initial import initialise
from core.training.memory import peak_memory_bytes
from core.training.metadata import MetadataBank, load_bank
from core.training.perceptual import Lpips
from core.training.pictures import prepare
from core.training.snapshot import deploy, write_generator, write_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.training.family import Family

_GOOD_STATE = "good.state"
# Iterations between two progress ticks, after the one of the first iteration: one or two seconds' worth, fixed so that
# the losses are the same however fast the machine is.
_PROGRESS = {"cpu": {64: 4, 128: 2}, "cuda": {64: 50, 128: 50, 256: 25, 512: 10}}


class Trainer:
    """One run of one family.

    Args:
        spec: configuration, pictures, folders, device, and a state to go on from.
        emit: takes each tick; a file named in a tick is complete.
        check_stop: called at least once an iteration; may raise to give up.

    Raises:
        ConfigurationFailed: the configuration cannot run here, or differs from the state's.
        DataFailed: the pictures or the state cannot be read.
        WeightsMissing: the VGG-16 weights are not to be had.
    """

    def __init__(
        self, spec: TrainingSpec, *, emit: Callable[[Tick], None], check_stop: Callable[[], None]
    ) -> None:
        self._spec, self._config, self._emit, self._check_stop = spec, spec.config, emit, check_stop
        self._device = torch.device(spec.device)
        self._dtype = precision.resolve(spec.config.precision, device=self._device)
        state = self._read_state()
        self._classes = None
        if self._config.needs_labels:
            if spec.labels is None:
                raise ConfigurationFailed("This configuration trains by class, and the pictures have none.")
            self._classes = Classes.of(spec.classes, spec.labels)
        networks = build_networks(self._config, classes=self._classes, device=self._device)
        sizes = [spec.micro_batch, None if state is None else state["micro_batch"], self._config.batch]
        self.micro_batch: int = min(size for size in sizes if size is not None)
        self._facts = facts_of(spec, dtype=self._dtype, networks=networks, resumed=state)
        self._facts["micro_batch"] = self.micro_batch
        if self._config.needs_checkpoint and spec.init_from is None and state is None:
            raise ConfigurationFailed("This configuration begins from a checkpoint, and there is none.")
        if spec.init_from is not None and state is None:
            self._facts["init_from"] = initialise(networks, spec.init_from, config=self._config)
        emit(FactsTick(facts=self._facts))
        self._pictures = prepare(spec, device=self._device, emit=emit, check_stop=check_stop)
        self._setting = Setting(
            dtype=self._dtype,
            device=self._device,
            micro_batch=self.micro_batch,
            bank=self._load_bank(state),
            perceptual=self._load_perceptual(),
            classes=self._classes,
            labels_M=None if self._classes is None else torch.tensor(spec.labels, device=self._device),
        )
        self._family: Family = family_of(self._config)(self._config, networks=networks, setting=self._setting)
        self._optimisers = {
            phase.name: self._family.optimiser(phase) for phase in self._family.phases if phase.shares is None
        }
        self._ema = Ema(self._family.networks[self._family.averaged])
        self._scaler = precision.scaler(self._dtype, device=self._device)
        self._guard = Guard(
            self._family.networks,
            scaler=self._scaler,
            device=self._device,
        )
        self._writer = checkpoint.StateWriter()
        self.good_state = spec.resume
        self._went_back = False
        self.images_seen = self._iteration = 0
        # The untrained generator's weights, until the first progress was told and their snapshot is written.
        self._first: dict[str, Tensor] | None = None
        self._snapshot_at = self._state_at = self._told_at = 0
        self._saved_at: int | None = None  # by this process
        self._tick_time = time.perf_counter()
        if state is None:
            self._first = {name: value.clone() for name, value in self._weights().items()}
        else:
            self._resume(state)

    def _read_state(self) -> dict[str, Any] | None:
        if self._spec.resume is None:
            return None
        state = checkpoint.load_state(self._spec.resume, device=self._device)
        checkpoint.check_same_run(state, config=self._config, dataset_hash=self._spec.dataset_hash)
        return state

    def _load_bank(self, state: dict[str, Any] | None) -> MetadataBank | None:
        if not self._config.uses_metadata:
            return None
        if state is not None:  # a resumed run keeps its very numbers, whatever the cache holds by now
            return MetadataBank.of(state["family"]["bank"]["rows"].cpu())
        return load_bank(
            self._spec.images_dir,
            fit=self._config.fit,
            cache_dir=self._spec.cache_dir,
            dataset_hash=self._spec.dataset_hash,
            weights_dir=self._spec.weights_dir,
            device=self._device,
            dtype=self._dtype,
            check_stop=self._check_stop,
        )

    def _load_perceptual(self) -> Lpips | None:
        if not self._config.uses_perceptual:
            return None
        return Lpips(self._spec.weights_dir, dtype=self._dtype, device=self._device)

    def run(self) -> None:
        """Train until total_images; snapshots come before states, so that no resume can skip one.

        Raises:
            NonFinite: the training left the finite numbers again after it had gone back to its last state.
        """
        while True:
            self._write_snapshots()
            if self._due(self._config.checkpoint_every_images, since=self._state_at):
                self.save()
            if self.images_seen >= self._config.total_images:
                break
            self._check_stop()
            try:
                self.iterate()
            except NonFinite as error:
                self._go_back(error)
        if self._state_at != self.images_seen:
            self.save()
        self.wait_until_saved()
        self._emit(FinishedTick(images_seen=self.images_seen))

    def _due(self, every: int, *, since: int) -> bool:
        return self.images_seen // every > since // every

    def _write_snapshots(self) -> None:
        """Those that are due. The first waits for the first progress, so that this can be seen within seconds."""
        at_end = self.images_seen >= self._config.total_images
        due = self._due(self._config.evaluate_every_images, since=self._snapshot_at)
        due = due or (at_end and self._snapshot_at != self.images_seen)
        if self._first is not None and (due or at_end or self._told_at > 0):
            self._snapshot(self._first, images_seen=0)
            self._first = None
        if due:
            self._snapshot(self._weights(), images_seen=self.images_seen)

    def _weights(self) -> dict[str, Tensor]:
        """The averaged network's state, with the averages in the parameters' place; not copies."""
        network = self._family.networks[self._family.averaged]
        return network.state_dict() | self._ema.average

    def iterate(self) -> None:
        """Show pictures to all phases that are due. Raises NonFinite, at a progress tick."""
        rows_N, pictures_N3HW = self._pictures.at(self.images_seen)
        self._guard.remember()
        self._family.begin(pictures_N3HW, rows_N=rows_N)
        losses: dict[str, Tensor] = {}
        for phase in self._family.phases:
            for repeat in range(phase.steps(iteration=self._iteration, images_seen=self.images_seen)):
                optimiser = self._optimisers[phase.shares or phase.name]
                optimiser.zero_grad(set_to_none=True)
                now = self._family.run(phase, repeat=repeat, backward=self._backward)
                self._guard.step(optimiser, losses=now)
                self._family.stepped(phase)
                losses |= now
        self._ema.update(decay=self._family.average_decay(self._iteration))
        self._guard.finish(losses)
        self._iteration += 1
        self.images_seen += self._config.shown
        every = _PROGRESS.get(self._device.type, {}).get(self._config.resolution, 1)
        if self._iteration % every == 0 or self._iteration == 1:
            self._progress()

    def _backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's stub

    def _progress(self) -> None:
        losses = self._guard.means()  # waits for the device, so that the time below is the work's
        now = time.perf_counter()
        rate = (self.images_seen - self._told_at) / (now - self._tick_time)
        self._tick_time, self._told_at = now, self.images_seen
        self._emit(
            ProgressTick(
                images_seen=self.images_seen,
                images_per_s=rate,
                losses=losses,
                peak_memory_bytes=peak_memory_bytes(self._device),
            )
        )

    def _snapshot(self, weights: dict[str, Tensor], *, images_seen: int) -> None:
        began = time.perf_counter()
        stem = self._spec.work_dir / f"snapshot-{images_seen:09d}"
        deployed = deploy(
            weights,
            config=self._config,
            setting=self._setting,
            check_stop=self._check_stop,
        )
        generator, grid = stem.with_suffix(".safetensors"), stem.with_suffix(".png")
        write_generator(generator, deployed, images_seen=images_seen)
        write_grid(grid, deployed, check_stop=self._check_stop)
        self._snapshot_at = images_seen
        extras = {}
        for kind, write in self._family.extras(deployed).items():
            picture = stem.with_name(f"{stem.name}-{kind}.png")
            write(picture)
            extras[kind] = picture.name
        tick = SnapshotTick(images_seen=images_seen, generator=generator.name, grid=grid.name, extras=extras)
        self._emit(tick)
        self._tick_time += time.perf_counter() - began

    def save(self) -> None:
        """Copy the complete state, and write it while training goes on; a tick tells when it is complete."""
        began = time.perf_counter()
        images_seen, path = self.images_seen, self._spec.work_dir / f"state-{self.images_seen:09d}.pt"
        healthy = self._guard.healthy()

        def complete() -> None:
            if healthy:
                # The tick's receiver takes the file away: a name of our own keeps it, at no cost, for going back.
                kept = self._spec.work_dir / _GOOD_STATE
                kept.unlink(missing_ok=True)
                kept.hardlink_to(path)
                self.good_state = kept
            self._emit(StateTick(images_seen=images_seen, state=path.name))

        self._writer.save(path, self._state(), then=complete)
        self._state_at = self._saved_at = self.images_seen
        self._tick_time += time.perf_counter() - began

    def save_rest(self) -> None:
        """Save what this process has not saved yet, and wait until it is on disk. Raises as `wait_until_saved`.

        A state of the same age is not written twice: whoever takes the first file away would take the second one with
        it, and miss that when its own tick comes.
        """
        if self._saved_at != self.images_seen:
            self.save()
        self.wait_until_saved()

    def wait_until_saved(self) -> None:
        """Return once every state is on disk and told. Raises OSError where one could not be written."""
        self._writer.wait()

    def close(self) -> None:
        """End the reading and the writing thread."""
        self._pictures.close()
        self._writer.close()

    def _go_back(self, error: NonFinite) -> None:
        """Once in a run: return to the last state, and go on from it with other random draws."""
        self.wait_until_saved()
        if self._went_back or self.good_state is None:
            raise error
        left = self.images_seen
        self._resume(checkpoint.load_state(self.good_state, device=self._device))
        self._went_back = True
        self._family.reseed(left)
        self._emit(
            WarningTick(
                code=error.code,
                message=f"{error.message} The training went back from {left} to {self.images_seen} images, and goes "
                "on with other random draws.",
                images_seen=self.images_seen,
            )
        )

    def _state(self) -> dict[str, Any]:
        return {
            "config": self._config.model_dump(mode="json"),
            "facts": self._facts,
            "images_seen": self.images_seen,
            "iteration": self._iteration,
            "snapshot_at": self._snapshot_at,
            "first": self._first,
            "micro_batch": self.micro_batch,
            "went_back": self._went_back,
            "networks": {name: network.state_dict() for name, network in self._family.networks.items()},
            "average": self._ema.average,
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "scaler": self._scaler.state_dict(),
            "guard": self._guard.state(),
            "family": self._family.state(),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        for name, network in self._family.networks.items():
            # A state from before there were switches has none on.
            network.load_state_dict(state["networks"].get(name, {}))
        self._ema.load(state["average"])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self._scaler.load_state_dict(state["scaler"])
        self._guard.load(state["guard"])
        self._family.load(state["family"])
        self.images_seen = self._state_at = self._told_at = state["images_seen"]
        self._iteration, self._snapshot_at = state["iteration"], state["snapshot_at"]
        self._first = state["first"]
        self._went_back = state["went_back"]
