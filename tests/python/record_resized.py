"""Records what Pillow makes of images at other sizes, for the test of src/input/resize.rs.

    python tests/python/record_resized.py > tests/golden/resized.json
"""

from __future__ import annotations

import json

import numpy as np
from PIL import Image, __version__

from conftest import ROOT  # noqa: F401  puts the package on the path
from pixelcnn.train.folders import fitted

# Width and height before and after: halves, odd ratios, hardly smaller, one side alone, much smaller, other shapes.
SIZES = [
    ((16, 16), (8, 8)),
    ((23, 17), (8, 8)),
    ((9, 9), (8, 8)),
    ((31, 8), (8, 8)),
    ((8, 13), (8, 8)),
    ((150, 97), (7, 7)),
    ((40, 26), (12, 8)),
    ((19, 40), (4, 6)),
    ((5, 3), (1, 1)),
]


def source(width: int, height: int) -> np.ndarray:
    """Levels [H, W, 3] that the test in Rust computes too: full of edges, so that sums leave 0 to 255."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((x * x * 7 + y * 13 * (x + 1) + y * y * 3 + c * 50 + (x * y % 3) * 100) % 256).astype(np.uint8)


def main() -> None:
    cases = [
        {"from": size, "to": to, "rgb": fitted(Image.fromarray(source(*size)), to, False).tobytes().hex()}
        for size, to in SIZES
    ]
    lines = ",\n".join(json.dumps(case) for case in cases)
    print(f'{{"by": "Pillow {__version__}", "cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
