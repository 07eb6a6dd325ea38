"""Train a model on your own images: a PixelCNN++, or a gated or masked PixelCNN.

    python -m pixelcnn train DATA -o MODEL.safetensors --minutes 60
    pixelcnn sample -m MODEL.safetensors

In the source tree, `uv run scripts/train.py` is the same, and brings what it needs.

DATA is a folder of images, an .npz with x and, for classes, y, or a folder with the files of MNIST
(IDX) or CIFAR-10 (python batches). A checkpoint is kept beside the model: after a stop, even by a kill,
--resume MODEL.ckpt continues. The model file holds moving averages of the weights.

With --epochs, the same --seed and --threads give the same model on one machine's CPU; --minutes depends on its speed.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from ..convert import ConversionError, console

try:
    from ..convert.model_file import LIMITS, NONLINEARITIES
    from . import TrainingError
    from .outputs import checkpoint_path
    from .settings import FAMILIES
    from .trainer import STOP, Trainer
except ModuleNotFoundError as missing:
    sys.exit(
        f"error: {missing.name} is not installed for {sys.executable}: pip install 'pixelcnn[train]', or uv run "
        f"scripts/train.py in the source tree, which brings it"
    )


def parse_flags(program: str | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="MODEL", required=True, help="model file to write (.safetensors)"
    )

    group = parser.add_argument_group("data").add_argument
    group(
        "--size",
        type=at_least(1),
        metavar="N",
        help="side length of an image in pixels, to which the middle square of larger images is resized [default: that of "
        "the data; 32 for a folder]",
    )
    group("--grey", action="store_true", default=None, help="convert images to grey")
    group("--classes", action="store_true", default=None, help="learn classes, from subfolders or y")
    group("--leave-out", metavar="NAME", help="leave out images of an .npz whose entry in the array NAME is not 0")
    group(
        "--held-out",
        type=at_least(1),
        metavar="N",
        help="number of held-out images [default: the test set, or 5 %%]",
    )
    group("--held-out-to", type=Path, metavar="DIR", help="write the held-out images as PNG files, for pixelcnn eval")
    group("--strict", action="store_true", help="stop at an unusable image instead of skipping it")
    group(
        "--flip",
        nargs="?",
        const="all",
        metavar="CLASSES",
        help="mirror images at random: all, or those of these classes (comma-separated)",
    )
    group("--shift", type=at_least(0), metavar="N", help="shift images at random by up to N pixels")

    group = parser.add_argument_group("network").add_argument
    group(
        "--family",
        choices=FAMILIES,
        help="pixelcnn++; gated: two stacks of gated convolutions; masked: residual blocks of masked convolutions "
        "[default: pixelcnn++]",
    )
    group("--filters", type=at_least(1), metavar="N", help="filters of a layer [default: 32]")
    group(
        "--blocks",
        type=at_least(1),
        metavar="N",
        help="blocks: per resolution for pixelcnn++ [default: 2], in all for other families [default: 6]",
    )
    group(
        "--dilations",
        type=integers,
        metavar="LIST",
        help="dilation of each block; pixelcnn++ takes blocks + 1 of them [default: 1,1,…]",
    )
    group(
        "--mixtures",
        type=at_least(1),
        metavar="N",
        help=f"mixture components [default: 10, or with --palette up to {LIMITS['mixtures']}]",
    )
    group = parser.add_argument_group("network: pixelcnn++").add_argument
    group("--resolutions", type=at_least(1), metavar="N", help="number of resolutions, each half the one before [default: 3]")
    group("--nonlinearity", choices=NONLINEARITIES, help="[default: concat_elu]")
    group(
        "--palette",
        action="store_true",
        default=None,
        help="use the colours of the images as fixed mixture components, for few flat colours",
    )
    group = parser.add_argument_group("network: gated and masked").add_argument
    group(
        "--levels",
        type=at_least(2, 65536),
        metavar="L",
        help="levels of a channel, to which images are rounded [default: 256; for codes, the largest + 1]",
    )
    group(
        "--codes",
        action="store_true",
        default=None,
        help="train a prior: x of the .npz holds integer codes, such as those of a VQ-VAE",
    )
    group(
        "--head",
        choices=("softmax", "bernoulli", "logistic"),
        help="distribution of a channel: a softmax over its levels, the probability of one of 2 levels, or a mixture "
        "of logistics [default: softmax]",
    )

    group = parser.add_argument_group("training").add_argument
    group(
        "--minutes", type=non_negative, metavar="N", help="time limit in minutes [default: 60, if no --epochs]"
    )
    group("--epochs", type=non_negative, metavar="N", help="number of epochs")
    group("--batch", type=at_least(1), metavar="N", help="batch size [default: 16]")
    group(
        "--rate",
        type=positive,
        metavar="X",
        help="initial learning rate; it decays to 0 by a cosine [default: 0.002]",
    )
    group(
        "--average",
        type=fraction,
        metavar="X",
        help="decay of the moving average of the weights [default: 0.999]",
    )
    group("--dropout", type=fraction, metavar="X", help="dropout rate in blocks [default: 0]")
    group("--seed", type=at_least(0, 2**64 - 1), metavar="N", help="random seed [default: 0]")
    group(
        "--bf16",
        action="store_true",
        default=None,
        help="compute convolutions in bfloat16, which is faster on hardware that has it",
    )
    group("--device", default="auto", help="device of PyTorch: cuda, cpu, … [default: cuda if available]")
    group("--threads", type=at_least(1, 1024), metavar="N", help="CPU threads [default: all]")

    group = parser.add_argument_group("continue").add_argument
    group("--resume", type=Path, metavar="CKPT", help="continue from a checkpoint, with its settings")
    group(
        "--init",
        type=Path,
        metavar="MODEL",
        help="start from a model's weights, with a new optimizer; further --filters are added to the model's, "
        "other --dilations start from its weights",
    )
    group("--overwrite", action="store_true", help="replace files of another run")
    group("--checkpoint-minutes", type=non_negative, default=3.0, metavar="N", help="minutes between checkpoints [default: 3]")

    group = parser.add_argument_group("monitoring, renewed with every checkpoint").add_argument
    group("--plot", action="store_true", help="plot bits/dim over the steps as MODEL-training.png")
    group("--samples", type=Path, metavar="DIR", help="write a grid of samples; needs the program pixelcnn")

    group = parser.add_argument_group("model file").add_argument
    group("--dtype", choices=("f32", "f16"), default="f32", help="precision of the weights [default: f32]")
    group(
        "--about-data",
        metavar="TEXT",
        help="description of the images, for the model file [default: the name of DATA]",
    )
    group("--license", metavar="TEXT", help="license of the model, for the model file")
    return parser.parse_args()


def at_least(least: int, most: int = 10**9) -> Any:
    def integer(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {least} to {most}")
        return value

    return integer


def number(text: str, good: Any, expected: str) -> float:
    value = float(text)
    if not good(value):
        raise argparse.ArgumentTypeError(f"{text}: expected {expected}")
    return value


def positive(text: str) -> float:
    return number(text, lambda x: 0 < x <= 1e9, "a positive number")


def non_negative(text: str) -> float:
    return number(text, lambda x: 0 <= x <= 1e9, "a number from 0 to a billion")


def fraction(text: str) -> float:
    return number(text, lambda x: 0 <= x < 1, "a number of at least 0 and below 1")


def integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def stop_after_step(number: int, _: Any) -> None:
    """Handles the first signal; a second one stops at once."""
    STOP.append(number)
    signal.signal(number, console.stop)


def main(program: str | None = None) -> int:
    """Train as the command line `sys.argv` says; return the exit code. `program` is its name in the help."""
    flags = parse_flags(program)
    if flags.minutes is None and flags.epochs is None:
        flags.minutes = 60.0
    trainer = None
    try:
        trainer = Trainer(flags)
        console.on_signals(stop_after_step)
        trainer.train()
        console.on_signals(console.stop)
        trainer.export()
    except console.Stopped as stopped:
        path = checkpoint_path(flags)
        if trainer and path.exists():
            print(f"stopped; to go on: --resume {shlex.quote(str(path))}", file=sys.stderr)
        else:
            print("stopped before there was anything to keep", file=sys.stderr)
        return stopped.code
    except (TrainingError, ConversionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise MemoryError(
            f"{str(error).splitlines()[0]} (a smaller --batch, or a smaller network, takes less)"
        ) from None
    return 0
