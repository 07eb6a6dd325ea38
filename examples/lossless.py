#!/usr/bin/env python3
"""Code images without loss by the distributions of a model, decode them, and compare with PNG and WebP.

    pip install . constriction pillow
    python examples/lossless.py                                     # 16 images that the model itself draws
    python examples/lossless.py -m mnist --images digits.npz        # x [N, H, W, C], and y, their classes

Each level costs about the negative logarithm of its probability, so that a model that knows the images well codes them
short. The coder is a range coder, constriction's. Decoding needs the same wheel, C library and kind of processor.
"""

from __future__ import annotations

import argparse
import io
import math
import time

import constriction
import numpy as np
import pixelcnn
from PIL import Image

# A distribution whose probabilities are told with each level. Fixed-point, so that even the least likely can be coded.
FAMILY = constriction.stream.model.Categorical(perfect=False)


def encode(model: pixelcnn.Model, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """The code of all images together: words of 32 bits."""
    coder = constriction.stream.queue.RangeEncoder()
    for step in model.steps(images=images, labels=labels):
        coder.encode(step.levels.astype(np.int32), FAMILY, step.probs.astype(np.float32))
    return coder.get_compressed()


def decode(model: pixelcnn.Model, code: np.ndarray, n: int, labels: np.ndarray | None) -> np.ndarray:
    """The n images of a code."""
    coder = constriction.stream.queue.RangeDecoder(code)
    steps = model.steps(n, labels=labels)
    for step in steps:
        step.give(coder.decode(FAMILY, step.probs.astype(np.float32)))
    return steps.images


def size(images: np.ndarray, levels: int, form: str, **options: object) -> int:
    """Bytes of a file of each image in a format of Pillow's."""
    total = 0
    for image in images.astype(np.uint8):
        pixels = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
        # Few levels make fewer bits a pixel, as PNG has them.
        pixels = pixels.convert("1") if levels == 2 and form == "PNG" else pixels
        file = io.BytesIO()
        pixels.save(file, form, **options)
        total += file.getbuffer().nbytes
    return total


def one_picture(images: np.ndarray) -> np.ndarray:
    """The images below each other as one, [1, N·H, W, C], whose format's header is there once."""
    return images.reshape(1, -1, *images.shape[2:])


def main() -> None:
    """Code, decode, compare, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="avatars", help="a built-in model, or a model file [default: avatars]")
    parser.add_argument("--images", metavar="FILE", help=".npz with x, and y for models with classes")
    parser.add_argument("-n", type=int, default=16, help="images at most [default: 16]")
    flags = parser.parse_args()

    model = pixelcnn.load(flags.model)
    labels = np.arange(flags.n) % len(model.classes) if model.classes else None
    if flags.images:
        with np.load(flags.images) as arrays:
            images = arrays["x"][: flags.n]
            labels = arrays["y"][: flags.n] if model.classes else None
        images = images.reshape(len(images), *model.shape)
    else:
        images = model.sample(flags.n, labels=labels, seed=1)

    start = time.perf_counter()
    code = encode(model, images, labels)
    middle = time.perf_counter()
    decoded = decode(model, code, len(images), labels)
    end = time.perf_counter()
    if not np.array_equal(decoded, images):
        raise SystemExit("error: the decoded images are others")

    values = images.size
    bits = -model.log_prob(images, labels).sum() / math.log(2)
    print(f"{len(images)} images of {'×'.join(map(str, model.shape))}, model {model.name}: coded and decoded, all equal")
    print(f"{'':28}{'bytes':>10}{'bits a value':>14}")
    rows = [("coded", 4 * code.size), ("log_prob says", bits / 8)]
    for name, form, options in (("PNG", "PNG", {"optimize": True}), ("WebP", "WEBP", {"lossless": True, "method": 6})):
        if model.levels <= 256 and model.shape[2] in (1, 3):
            rows.append((f"{name}, a file an image", size(images, model.levels, form, **options)))
            rows.append((f"{name}, one file of all", size(one_picture(images), model.levels, form, **options)))
    for what, found in rows:
        print(f"{what:28}{found:10.0f}{8 * found / values:14.3f}")
    print(f"encoded in {middle - start:.1f} s, decoded in {end - middle:.1f} s")


if __name__ == "__main__":
    main()
