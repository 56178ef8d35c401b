"""A grid of pictures from an exported generator.

    python generate_torch_export.py generator.pt2 SEED grid.png

Needs numpy, pillow and torch (2.14 or newer), and nothing of this project.
"""

import json
import sys

import numpy as np
import torch
from PIL import Image

files = {"slaegan": ""}
generator = torch.export.load(sys.argv[1], extra_files=files).module()
told = json.loads(files["slaegan"])


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
with torch.no_grad():
    pictures = generator(*[torch.from_numpy(np.stack(values)) for values in drawn]).numpy()
pixels = np.clip(np.round((pictures + 1) * 127.5), 0, 255).astype(np.uint8)
rows = [np.concatenate(list(row.transpose(0, 2, 3, 1)), axis=1) for row in np.split(pixels, 4)]
Image.fromarray(np.concatenate(rows, axis=0)).save(sys.argv[3])
