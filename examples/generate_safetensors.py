"""A grid of pictures from a generator's weights.

    python generate_safetensors.py generator.safetensors SEED grid.png

A safetensors file holds weights, not operations, so this needs the networks of this project: run it where
`pip install slaegan[worker]` was run. The .pt2 and .onnx exports need nothing of it.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from core.training.snapshot import load_generator

seed = int(sys.argv[2])
generator = load_generator(Path(sys.argv[1]))
pictures = generator.render_seeds(range(seed, seed + 16)).numpy()
pixels = np.clip(np.round((pictures + 1) * 127.5), 0, 255).astype(np.uint8)
rows = [np.concatenate(list(row.transpose(0, 2, 3, 1)), axis=1) for row in np.split(pixels, 4)]
Image.fromarray(np.concatenate(rows, axis=0)).save(sys.argv[3])
