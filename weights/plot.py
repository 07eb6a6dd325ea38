#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["matplotlib"]
# ///
"""Plot the log of a training: uv run weights/plot.py weights/NAME.csv, which writes weights/NAME-training.png."""

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402


def main(log: Path) -> None:
    with log.open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    steps = [row["step"] for row in rows]
    figure, axes = pyplot.subplots(figsize=(5, 3), dpi=80, layout="constrained")
    axes.plot(steps, [row["bits_per_dim"] for row in rows], label="training, weights of the moment")
    axes.plot(steps, [row["held_out_bits_per_dim"] for row in rows], label="held-out, averaged weights")
    axes.set(xlabel="step", ylabel="bits/dim", title=log.stem)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(log.with_name(f"{log.stem}-training.png"), metadata={"Software": None})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
