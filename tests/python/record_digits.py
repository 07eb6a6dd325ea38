"""Record anew what the digits model gives for the images of its golden case, after the model has changed:

    python tests/python/record_digits.py

The numbers are the reference network's, in 64 bits, and owe nothing to the engines.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from conftest import GOLDEN, ROOT
from reference import Network
from safetensors.numpy import load_file, save_file

from training.likelihood import bits_per_dim


def main(golden: Path) -> None:
    case = load_file(golden)
    params = Network(ROOT / "weights" / "mnist.safetensors").params(case["image"], case["label"])
    image, nchw = (case["image"] - 127.5) / 127.5, (0, 3, 1, 2)
    bits = bits_per_dim(*(torch.from_numpy(x.transpose(nchw)) for x in (params, image)), True)
    case |= {"params": params.astype(np.float32), "bits_per_dim": bits.numpy()}
    save_file(case, golden)
    print(*bits.numpy().round(4))


if __name__ == "__main__":
    main(GOLDEN / "mnist" / "golden.safetensors")
