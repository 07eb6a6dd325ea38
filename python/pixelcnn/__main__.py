"""The command line: `pixelcnn`, or `python -m pixelcnn`."""

from __future__ import annotations

import importlib
import signal
import sys


def main() -> int:
    """Run the command line `sys.argv`; return its exit code."""
    if sys.argv[1:2] in (["convert"], ["train"]):
        return in_python(sys.argv.pop(1))
    # Python would act on Ctrl-C only after the command has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Imported alone: threads that NumPy starts would change the effect of the command on its environment.
    from ._pixelcnn import main as run

    return run(["pixelcnn", *sys.argv[1:]])


def in_python(name: str) -> int:
    """Run `pixelcnn convert …` or `pixelcnn train …`, which need no compiled code."""
    from .convert import console

    console.prepare()
    command = importlib.import_module(f".{name}.command", __package__)
    return console.run(lambda: command.main(f"pixelcnn {name}"))


if __name__ == "__main__":
    sys.exit(main())
