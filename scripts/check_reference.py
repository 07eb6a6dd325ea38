#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "pillow"]
# ///
"""Check a converted model against features that the reference code computed.

    uv run scripts/check_reference.py MODEL ground_truth_output.npy

ground_truth_output.npy is the network's output for ten random 32x32 images, as the tests of
PrajitR/fast-pixel-cnn keep it for OpenAI's CIFAR-10 model. The same images are made here, pixelcnn
evaluates them, and every feature must agree.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import source_tree  # noqa: F401
from pixelcnn.convert import console

if __name__ == "__main__":
    console.prepare()

try:
    import numpy as np
    from PIL import Image
except ModuleNotFoundError:
    sys.exit(
        f"error: numpy and pillow are not both installed for {sys.executable}: "
        f"pip install numpy pillow, or run this script with uv run, which brings them"
    )

BUILT = Path(__file__).resolve().parent.parent / "target" / "release" / "pixelcnn"
# Two float32 implementations of the published network differ by some 1e-5.
TOLERANCE = 1e-4


def reference_images() -> np.ndarray:
    """The images behind the published features, [10, 32, 32, 3]."""
    return np.random.RandomState(2702).randint(0, 256, (10, 32, 32, 3)).astype(np.uint8)


def load_features(path: Path) -> np.ndarray:
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        sys.exit(f"error: {path}: not an .npy file of numbers: {error}")
    if features.ndim != 4 or features.shape[:3] != (10, 32, 32):
        sys.exit(f"error: {path}: features of shape {list(features.shape)}, expected [10, 32, 32, …]")
    return features


def evaluate(binary: str, model: Path, device: str | None) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        # Named so that their sorted order, which pixelcnn evaluates them in, is their order here.
        for i, image in enumerate(reference_images()):
            Image.fromarray(image).save(Path(folder) / f"{i:02}.png")
        output = Path(folder) / "params.npy"
        command = [binary, "eval", "-m", str(model), folder, "--params", str(output)]
        if device:
            command += ["--device", device]
        try:
            # The likelihood of noise is of no interest here.
            status = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
        except OSError as error:
            sys.exit(f"error: {binary} does not run: {error.strerror}; name the program with --pixelcnn")
        if status != 0:
            sys.exit(f"error: {shlex.join(command)}: exit code {status}")
        return np.load(output)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="the converted model file")
    parser.add_argument("features", type=Path, metavar="FEATURES", help="ground_truth_output.npy")
    parser.add_argument(
        "--pixelcnn", metavar="PATH", help="the program [default: the built one, or the installed]"
    )
    parser.add_argument("--device", help="as in pixelcnn eval")
    flags = parser.parse_args()

    binary = flags.pixelcnn or (str(BUILT) if BUILT.exists() else shutil.which("pixelcnn"))
    if binary is None:
        sys.exit(
            "error: no pixelcnn found; build it with cargo build --release, or name it with --pixelcnn"
        )
    expected = load_features(flags.features)
    found = evaluate(binary, flags.model, flags.device)
    if found.shape != expected.shape:
        sys.exit(
            f"error: {flags.model} gives features of shape {list(found.shape)}, "
            f"{flags.features} holds {list(expected.shape)}; they are of different networks"
        )
    error = np.abs(found.astype(np.float64) - expected)
    error[~np.isfinite(error)] = np.inf
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))
    agree = error[worst] <= TOLERANCE
    print(
        f"{'agree' if agree else 'DISAGREE'}: {error.size:,} features, largest error {error[worst]:.2e} "
        f"(allowed: {TOLERANCE:.0e})"
    )
    if not agree:
        image, y, x, feature = worst
        print(
            f"  at image {image}, y {y}, x {x}, feature {feature}: "
            f"{found[worst]:.6f}, expected {expected[worst]:.6f}; "
            f"{np.count_nonzero(error > TOLERANCE):,} features are beyond the allowed error"
        )
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(console.run(main))
