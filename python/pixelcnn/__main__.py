"""The command line: `pixelcnn`, or `python -m pixelcnn`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line `sys.argv`; return its exit code."""
    if sys.argv[1:2] == ["convert"]:
        return convert()
    # Python would only take note of Ctrl-C, to act on it when the command has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Alone: threads that NumPy starts would change what the command does to its environment.
    from ._pixelcnn import main as run

    return run(["pixelcnn", *sys.argv[1:]])


def convert() -> int:
    """`pixelcnn convert …`, which needs nothing compiled."""
    from .convert import console

    console.prepare()
    del sys.argv[1]
    from .convert import command

    return console.run(lambda: command.main("pixelcnn convert"))


if __name__ == "__main__":
    sys.exit(main())
