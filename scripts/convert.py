#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "safetensors"]
# ///
"""Convert a published PixelCNN++ checkpoint to a model file: `pixelcnn.convert` from the source tree.

    uv run scripts/convert.py INPUT -o OUT.safetensors

Without uv, numpy and safetensors must be installed, and for a TensorFlow checkpoint TensorFlow too.
"""

from __future__ import annotations

import sys

import source_tree  # noqa: F401
from pixelcnn.convert import console

if __name__ == "__main__":
    console.prepare()

from pixelcnn.convert.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(console.run(main))
