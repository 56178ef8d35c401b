"""Render what was claimed: fetch what it needs, have the warm child make it, store the files, post them once."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

from core import tracing
from core.garbage.names import clear
from core.jobs import filenames, lease
from core.jobs.workers import drain_of
from core.renderings import service
from core.renderings.service import NewFile
from core.settings import settings
from worker.artifacts import put
from worker.holding import holding
from worker.ingredients import specify
from worker.supervisor import LeaseKeeper, write
from worker.training import scratch
from worker.warm import WarmChild

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from core.renderings.service import Claim
    from core.schemas.ticks import RenderedTick
    from worker.stopping import Flag

PUTS_AT_ONCE = 8
# Of this process, which takes one request after the other.
_WARM = WarmChild()


def render(claim: Claim, *, worker: str, stop: Flag) -> None:
    """Hold one generation or export from its claim to its end.

    Args:
        claim: committed.
        worker: this worker's name.
        stop: set when the worker should end.
    """

    def beat(session: Session, due: bool) -> lease.Wish:  # noqa: FBT001  # a callback's two positions
        if due:
            service.heartbeat(session, claim, lease_s=settings().lease_s)
        else:
            service.check_held(session, claim)
        return lease.Wish.HAND_BACK if drain_of(session, worker) == "hand_back" else lease.Wish.GO_ON

    work_dir = scratch(worker) / "request"
    with holding(
        f"The {claim.what} {claim.rendering_id}",
        lose=lambda error, most, pause_s: write(
            service.lose, claim, error, max_attempts=most, pause_s=pause_s
        ),
        give_up=lambda error: write(service.give_up, claim, error),
    ):
        try:
            with LeaseKeeper(beat) as keeper:
                _render(claim, keeper=keeper, work_dir=work_dir, stop=stop)
        finally:
            shutil.rmtree(work_dir, ignore_errors=True)
            if stop.is_set:
                _WARM.close()


def _render(claim: Claim, *, keeper: LeaseKeeper, work_dir: Path, stop: Flag) -> None:
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    with tracing.span("prepare"):
        spec = specify(claim, work_dir=work_dir)
    spec_path = work_dir / "spec.json"
    spec_path.write_text(spec.model_dump_json())
    with tracing.span("render"):
        rendered = _WARM.answer(spec_path, home=work_dir.parent, keeper=keeper, stop=stop)
    if rendered is None:
        write(service.hand_back, claim)
    else:
        with tracing.span("store"):
            _post(claim, rendered, files_dir=spec.work_dir)


def _post(claim: Claim, rendered: RenderedTick, *, files_dir: Path) -> None:
    """Store the files, then write the rows that name them; a file without a row is removed again."""
    folder = f"jobs/{claim.job_id}/renderings/{claim.rendering_id}-{claim.attempt}-{uuid4().hex[:8]}"
    keys = {file.name: f"{folder}/{file.name}" for file in rendered.files}

    def stored(name: str) -> None:
        filename = filenames.rendered(claim.job_id, images_seen=claim.images_seen, name=name)
        put(files_dir / name, key=keys[name], filename=filename)

    try:
        # The threads wait for the disk to sync, or for the network.
        with ThreadPoolExecutor(max_workers=PUTS_AT_ONCE) as pool:
            list(pool.map(stored, keys))
        files = [NewFile(storage_key=keys[file.name], **file.model_dump()) for file in rendered.files]
        write(service.post, claim, files=files, facts=rendered.facts)
    finally:
        clear(list(keys.values()))
