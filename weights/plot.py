#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["matplotlib"]
# ///
"""Plot the log of a training: uv run weights/plot.py weights/NAME.csv, which writes weights/NAME-training.png."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from pixelcnn.train.pictures import plot  # noqa: E402

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    plot(Path(sys.argv[1]))
