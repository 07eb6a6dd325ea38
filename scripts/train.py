#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=1.13", "numpy", "pillow", "matplotlib"]
# ///
"""Train a network on images of your own: `pixelcnn.train` from the source tree.

    uv run scripts/train.py DATA -o MODEL.safetensors --minutes 60

Without uv, torch, numpy and pillow must be installed, and matplotlib for --plot.
"""

from __future__ import annotations

import sys

import source_tree  # noqa: F401
from pixelcnn.convert import console

if __name__ == "__main__":
    console.prepare()

from pixelcnn.train.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(console.run(main))
