"""The command line: `pixelcnn`, or `python -m pixelcnn`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line `sys.argv`; return its exit code."""
    # Python would only take note of Ctrl-C, to act on it when the command has ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Alone: threads that NumPy starts would change what the command does to its environment.
    from ._pixelcnn import main as run

    return run(["pixelcnn", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
