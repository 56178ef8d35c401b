"""What goes wrong: each fault strikes at once, and says how it is mended later.

A fault gives whether it found anything to strike. Services that end are started again by the cycle's own watch.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import psutil
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from benchmarks.chaos.rig import LEASE_S, RESERVE_BYTES, STOP_S, STORE_BYTES, SWEEP_S, resize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.chaos.cycle import Cycle
    from benchmarks.chaos.look import View
    from benchmarks.stack import Server

_END_WITHIN_S = 5.0
_WAKE_WITHIN_S = 8.0
_AGAIN_S = 0.2


def strike(cycle: Cycle, fault: str, target: View) -> bool:
    """Carry out one fault.

    Args:
        cycle: in which it happens.
        fault: its kind, as in benchmarks.chaos.plan.
        target: the job whose moment it is.
    """
    if fault.removeprefix("kill_") in ("api", "beat", "control", "chores"):
        return _kill(cycle, fault.removeprefix("kill_"))
    if fault in _ON_WORKERS:
        strike_worker, kind = _ON_WORKERS[fault]
        held_by = target.worker if target.status == "running" else None
        name = held_by if kind == "train" else next(iter(target.evaluators), None)
        return strike_worker(cycle, _holder(cycle, name, kind=kind))
    if fault in ("tear_state", "flip_state"):
        return _damage_state(cycle, target, torn=fault == "tear_state")
    return _ON_SERVERS[fault](cycle)


def _holder(cycle: Cycle, worker: str | None, *, kind: str) -> str | None:
    """The process that has claimed under a worker's name, or else any of its kind that lives."""
    names = [name for name in cycle.rig.names if name.startswith(kind) and cycle.rig.services.is_alive(name)]
    holding = [name for name in names if worker is not None and worker.startswith(f"{name}-")]
    return next(iter(holding), None) or (cycle.rng.choice(names) if names else None)


def _kill(cycle: Cycle, name: str | None) -> bool:
    services = cycle.rig.services
    if name is None or not services.is_alive(name):
        return False
    supervisor = services.supervisor(name) if name.startswith(("train", "metrics")) else None
    child = services.child(name)
    services.kill(name)
    # A supervisor whose parent dies saves first, as after a SIGTERM.
    for process in (supervisor, child):
        cycle.expect_gone(process, within_s=STOP_S + _END_WITHIN_S, why=f"{name} was killed")
    return True


def _kill_supervisor(cycle: Cycle, name: str | None) -> bool:
    supervisor = cycle.rig.services.supervisor(name) if name else None
    if supervisor is None or name is None:
        return False
    child = cycle.rig.services.child(name)
    with suppress(psutil.NoSuchProcess):
        supervisor.kill()
    cycle.expect_gone(child, within_s=_END_WITHIN_S, why=f"the supervisor of {name} was killed")
    return True


def _kill_child(cycle: Cycle, name: str | None) -> bool:
    child = cycle.rig.services.child(name) if name else None
    if child is None:
        return False
    with suppress(psutil.NoSuchProcess):
        child.kill()
    return True


def _terminate(
    cycle: Cycle, name: str | None, *, deliver: Callable[[int, signal.Signals], None] = os.kill
) -> bool:
    if name is None or not cycle.rig.services.is_alive(name):
        return False
    pid = cycle.rig.services.processes[name].pid
    worker, child = psutil.Process(pid), cycle.rig.services.child(name)
    deliver(pid, signal.SIGTERM)
    for process in (worker, child):
        cycle.expect_gone(process, within_s=25, why=f"{name} got SIGTERM")
    return True


def _freeze(cycle: Cycle, name: str | None, *, whole: bool = True) -> bool:
    """SIGSTOP for longer than a lease; then it wakes, and finds that another has its work."""
    services = cycle.rig.services
    supervisor = services.supervisor(name) if name else None
    if supervisor is None or name is None:
        return False
    child = services.child(name)
    worker = psutil.Process(services.processes[name].pid)
    chosen = [worker, supervisor, child] if whole else [supervisor]
    frozen = [process for process in chosen if process is not None]
    held = cycle.leases_of(name)
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.suspend()

    latest = time.monotonic() + LEASE_S + 2 * SWEEP_S + _WAKE_WITHIN_S

    def wake() -> None:
        # It is to meet the next attempt, which a busy machine may begin late.
        if whole and cycle.waits_again() and time.monotonic() < latest:
            cycle.mend_later(_AGAIN_S, wake)
            return
        for process in reversed(frozen):
            with suppress(psutil.NoSuchProcess):
                process.resume()
        # Without its lease it stops its child, and writes nothing (the events show that). The lease may still be its
        # own, where nothing swept meanwhile.
        still = cycle.leases_of(name)
        if held and still is not None and not held & still:
            cycle.expect_gone(child, within_s=_END_WITHIN_S, why=f"{name} woke without its lease")

    cycle.mend_later(LEASE_S + 2 * SWEEP_S + cycle.rng.uniform(0, 1.5), wake)
    return True


def _flush_broker(cycle: Cycle) -> bool:
    try:
        with redis.Redis.from_url(cycle.rig.servers.broker_url, socket_timeout=5) as broker:
            broker.flushall()
    except redis.RedisError:
        return False
    return True


def _double_hints(cycle: Cycle) -> bool:
    url = cycle.rig.servers.broker_url.replace("unix://", "redis+socket://")
    try:
        with Celery("chaos", broker=url) as app:
            for kind in ("train", "metrics") * 3:
                app.send_task(f"worker.tasks.{kind}", queue=kind, retry=False, ignore_result=True)
    except (redis.RedisError, OperationalError):
        return False
    return True


def _restart(cycle: Cycle, server: Server, *, end: Callable[[], None]) -> bool:
    if server.process is None or server.process.poll() is not None:
        return False
    end()
    cycle.mend_later(cycle.rng.uniform(0.1, LEASE_S / 2), server.start)
    return True


def _restart_broker(cycle: Cycle) -> bool:
    broker = cycle.rig.servers.broker
    return _restart(cycle, broker, end=broker.kill)


def _restart_database(cycle: Cycle) -> bool:
    database = cycle.rig.servers.database
    return _restart(cycle, database, end=database.stop)


def _kill_database(cycle: Cycle) -> bool:
    database = cycle.rig.servers.database
    return _restart(cycle, database, end=database.kill)


def _fill_store(cycle: Cycle) -> bool:
    if not cycle.rig.store_is_small:
        return False
    # The disk shrinks to what lies on it: filling gigabytes would take the time and the memory.
    if not resize(cycle.rig.store, shutil.disk_usage(cycle.rig.store).used + RESERVE_BYTES // 2):
        return False

    def enlarge() -> None:
        assert resize(cycle.rig.store, STORE_BYTES), "the disk stays small"

    cycle.explained.add("store_full")
    cycle.mend_later(cycle.rng.uniform(0.3, 1.5), enlarge)
    return True


def _damage_state(cycle: Cycle, target: View, *, torn: bool) -> bool:
    """Damage the newest state of a job, and kill its trainer, so that it is read again."""
    states = sorted(cycle.rig.store.glob(f"jobs/{target.id}/*/state-*"), key=lambda path: path.name)
    if not states or target.status != "running":
        return False
    damaged = damage(states[-1], torn=torn)
    if damaged:
        cycle.damaged.add(states[-1].relative_to(cycle.rig.store).as_posix())
        _kill_child(cycle, _holder(cycle, target.worker, kind="train"))
    return damaged


def damage(path: Path, *, torn: bool) -> bool:
    """Cut a file in half, or turn one of its bits; False where it was deleted meanwhile."""
    try:
        whole = bytearray(path.read_bytes())
        with path.open("r+b") as file:
            if torn:
                file.truncate(len(whole) // 2)
            else:
                file.seek(len(whole) // 2)
                file.write(bytes([whole[len(whole) // 2] ^ 1]))
    except FileNotFoundError:
        return False
    return True


_ON_WORKERS: dict[str, tuple[Callable[[Cycle, str | None], bool], str]] = {
    "kill_worker": (_kill, "train"),
    "kill_supervisor": (_kill_supervisor, "train"),
    "kill_trainer": (_kill_child, "train"),
    "term_worker": (_terminate, "train"),
    "term_group": (partial(_terminate, deliver=os.killpg), "train"),
    "freeze_worker": (_freeze, "train"),
    "freeze_supervisor": (partial(_freeze, whole=False), "train"),
    "kill_metrics_worker": (_kill, "metrics"),
    "kill_metrics_supervisor": (_kill_supervisor, "metrics"),
    "kill_evaluator": (_kill_child, "metrics"),
    "term_metrics_worker": (_terminate, "metrics"),
    "freeze_metrics": (_freeze, "metrics"),
}
_ON_SERVERS: dict[str, Callable[[Cycle], bool]] = {
    "flush_broker": _flush_broker,
    "double_hints": _double_hints,
    "restart_broker": _restart_broker,
    "restart_database": _restart_database,
    "kill_database": _kill_database,
    "fill_store": _fill_store,
}
