"""Record anew the output of the digits model for the images of its golden case, after the model has changed:

    python tests/python/record_digits.py

The numbers are the reference network's, in 64 bits, and independent of the engines.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import GOLDEN, ROOT
from reference import Network, bits_per_dim
from safetensors.numpy import load_file, save_file


def main(golden: Path) -> None:
    case = load_file(golden)
    params = Network(ROOT / "weights" / "mnist.safetensors").params(case["image"], case["label"])
    bits = bits_per_dim(params, case["image"])
    save_file(case | {"params": params.astype(np.float32), "bits_per_dim": bits}, golden)
    print(*bits.round(4))


if __name__ == "__main__":
    main(GOLDEN / "mnist" / "golden.safetensors")
