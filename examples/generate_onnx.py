"""A grid of pictures from an exported generator.

    python generate_onnx.py generator.onnx SEED grid.png

Needs numpy, pillow and onnxruntime, and nothing of this project.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
told = json.loads(session.get_modelmeta().custom_metadata_map["slaegan"])


def draw(seed):
    """All inputs of one picture, which is the service's picture of that seed."""
    source = np.random.Generator(np.random.Philox(key=[seed, 0]))
    kinds = {
        "normal": lambda one: source.standard_normal(one["shape"], dtype=np.float32),
        "integers": lambda one: source.integers(one["below"], size=one["shape"]),
        "uniform": lambda _: np.float32(source.random()),
        "choice": lambda one: np.int64(source.choice(len(one["shares"]), p=one["shares"])),
    }
    return [kinds[one["draw"]](one) for one in told["inputs"]]


drawn = zip(*[draw(int(sys.argv[2]) + index) for index in range(16)], strict=True)
inputs = {one["name"]: np.stack(values) for one, values in zip(told["inputs"], drawn, strict=True)}
(pictures,) = session.run(["pictures"], inputs)
pixels = np.clip(np.round((pictures + 1) * 127.5), 0, 255).astype(np.uint8)
rows = [np.concatenate(list(row.transpose(0, 2, 3, 1)), axis=1) for row in np.split(pixels, 4)]
Image.fromarray(np.concatenate(rows, axis=0)).save(sys.argv[3])
