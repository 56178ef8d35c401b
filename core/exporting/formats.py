"""The files of an exported generator: how each is written, and how it is loaded again by its own runtime.

Shapes: N pictures, H height, W width.
"""

from __future__ import annotations

import io
import json
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from core.exporting.standalone import Standalone, as_inputs, inputs_of
from core.files import atomic_path
from core.training.snapshot import load_generator, write_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor
    from torch.export import ExportedProgram

    from core.schemas.generations import ExportFormat
    from core.training.deployed import DeployedGenerator

OPSET = 20
DESCRIPTION = "slaegan"  # the key of what is told of the inputs, within a file
_TRACED = 2  # pictures; one would be taken for a size that never changes
_MOST_AT_ONCE = 4_096


class Format(NamedTuple):
    """One format.

    Args:
        suffix: of its files.
        write: writes a generator's file.
        load: reads one, and gives what makes the pictures of some seeds with it, N3HW in [-1, 1].
    """

    suffix: str
    write: Callable[[Path, DeployedGenerator], None]
    load: Callable[[Path, DeployedGenerator], Callable[[Sequence[int]], Tensor]]


def described(generator: DeployedGenerator) -> str:
    """What a standalone file tells of itself, as JSON: family, resolution, age, and its inputs."""
    told: dict[str, Any] = {
        "family": generator.config.family,
        "resolution": generator.config.resolution,
        "images_seen": generator.images_seen,
        "inputs": inputs_of(generator),
        "output": "pictures, N x 3 x H x W, RGB in [-1, 1]",
    }
    return json.dumps(told)


def drawn(generator: DeployedGenerator, seeds: Sequence[int]) -> tuple[Tensor, ...]:
    """The inputs of the pictures of some seeds."""
    return as_inputs(generator.numbers([(seed, 0) for seed in seeds]))


def _program(generator: DeployedGenerator) -> ExportedProgram:
    """The generator's operations, for batches of 1 to 4,096 pictures."""
    batch = torch.export.Dim("N", min=1, max=_MOST_AT_ONCE)
    inputs = drawn(generator, range(_TRACED))
    with torch.no_grad():
        return torch.export.export(
            Standalone(generator).eval(), inputs, dynamic_shapes=(tuple({0: batch} for _ in inputs),)
        )


def _write_program(path: Path, generator: DeployedGenerator) -> None:
    buffer = io.BytesIO()
    torch.export.save(_program(generator), buffer, extra_files={DESCRIPTION: described(generator)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _load_program(path: Path, generator: DeployedGenerator) -> Callable[[Sequence[int]], Tensor]:
    module = torch.export.load(path).module()

    @torch.no_grad()
    def compute(seeds: Sequence[int]) -> Tensor:
        pictures_N3HW: Tensor = module(*drawn(generator, seeds))
        return pictures_N3HW

    return compute


def _write_onnx(path: Path, generator: DeployedGenerator) -> None:
    names = [one["name"] for one in inputs_of(generator)]
    with warnings.catch_warnings():
        # The exporter speaks of its own internals: of copies, and of names of dimensions that it unifies.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _program(generator),
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=["pictures"],
            verbose=False,
        )
    assert program is not None, "the exporter by dynamo returns it"
    program.model.metadata_props[DESCRIPTION] = described(generator)
    with atomic_path(path) as temporary:
        temporary.write_bytes(program.model_proto.SerializeToString())


def _load_onnx(path: Path, generator: DeployedGenerator) -> Callable[[Sequence[int]], Tensor]:
    import onnxruntime  # noqa: PLC0415 - for this format alone

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def compute(seeds: Sequence[int]) -> Tensor:
        inputs = (one.numpy() for one in drawn(generator, seeds))
        (pictures_N3HW,) = session.run(["pictures"], dict(zip(names, inputs, strict=True)))
        return torch.from_numpy(pictures_N3HW)

    return compute


def _write_safetensors(path: Path, generator: DeployedGenerator) -> None:
    write_generator(path, generator, images_seen=generator.images_seen)


def _load_safetensors(path: Path, _generator: DeployedGenerator) -> Callable[[Sequence[int]], Tensor]:
    return load_generator(path).render_seeds


FORMATS: Mapping[ExportFormat, Format] = {
    "safetensors": Format("safetensors", _write_safetensors, _load_safetensors),
    "torch_export": Format("pt2", _write_program, _load_program),
    "onnx": Format("onnx", _write_onnx, _load_onnx),
}
