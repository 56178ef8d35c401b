"""The child that generates and exports: it stays, with torch imported and its last generators loaded.

    python -P -m worker.render_process --ticks-fd N --parent-pid P --idle-s S [--threads T]

A line on stdin is the path of a file with a RenderSpec, its answer one tick: a RenderedTick, or an ErrorTick. It ends
when nothing was asked for `idle-s` seconds, so that its memory goes back, and when stdin does.
"""

from __future__ import annotations

import argparse
import os
import selectors
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.parent import bind_to_parent
from core.schemas.ticks import RenderSpec
from worker.child import emitter, run_guarded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.generation.generators import Generators
    from core.schemas.ticks import Tick

_READ_BYTES = 65_536


class Arguments(argparse.Namespace):
    """The command line."""

    ticks_fd: int
    parent_pid: int
    idle_s: float
    threads: int


def main() -> int:
    """Answer until there is nothing to do; the exit code is 1 after a failure that nobody understood, else 0."""
    arguments = _parse()
    bind_to_parent(arguments.parent_pid)
    emit = emitter(arguments.ticks_fd)
    # Threads that spin while they wait would take the cores from a training; OpenMP reads this once,
    # when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch  # noqa: PLC0415  # seconds of imports, only once bound to the parent

    from core.generation.generators import Generators  # noqa: PLC0415  # likewise

    # On CUDA, float32 is to be float32, and the same at every run.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    generators = Generators()
    for path in _asked(sys.stdin.fileno(), idle_s=arguments.idle_s):
        tick = _answer(path, generators)
        if tick is None:
            return 1
        emit(tick)
    return 0


def _parse(words: Sequence[str] | None = None) -> Arguments:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticks-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--idle-s", type=float, required=True)
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args(words, namespace=Arguments())


def _asked(descriptor: int, *, idle_s: float) -> Iterator[Path]:
    """The paths that come in, a line each, until the pipe ends or is silent for too long."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while selector.select(idle_s):
            chunk = os.read(descriptor, _READ_BYTES)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (Path(os.fsdecode(line)) for line in lines)


def _answer(path: Path, generators: Generators) -> Tick | None:
    """What becomes of one request; None where nobody understands it, and the traceback is on stderr."""
    from core.generation.render import render  # noqa: PLC0415  # it imports torch

    said: list[Tick] = []

    def work() -> None:
        said.append(render(RenderSpec.model_validate_json(path.read_bytes()), generators=generators))

    run_guarded(work, emit=said.append)
    return said[0] if said else None


if __name__ == "__main__":
    sys.exit(main())
