"""Output of a script to any terminal, pipe or file, and its reaction to signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

STREAMS = ("stdin", "stdout", "stderr")
# Names of files and classes must not control a terminal.
CONTROL = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\r\t"}


class Stopped(KeyboardInterrupt):
    """Stopped by Ctrl-C, a closed terminal, or a polite kill. No `except Exception` catches it."""

    def __init__(self, number: int):
        self.code = 128 + number


class TolerantStream:
    """A stream that takes any text: characters that it cannot show are escaped, and text that it cannot write is lost,
    because a full disk or a closed pipe is no reason to lose work."""

    def __init__(self, stream: Any):
        self.stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            self.stream.write(text.translate(CONTROL))
            self.stream.flush()
        except (OSError, ValueError):
            pass
        return len(text)

    def flush(self) -> None:
        self.write("")


def prepare() -> None:
    """Prepares streams and signals. Called first, because an import takes seconds and must stop without a traceback."""
    for number, name in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # Closed by the caller. The next file to be opened would get its number, and with it whatever
            # a library writes to stderr.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))
    sys.stdout, sys.stderr = TolerantStream(sys.stdout), TolerantStream(sys.stderr)
    on_signals(signal.SIG_DFL)


def on_signals(handler: Any) -> None:
    """Handles the signals that ask a program to end, except those that the caller ignores (nohup)."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def stop(number: int, _: Any) -> None:
    raise Stopped(number)


def run(main: Callable[[], int]) -> int:
    """The exit code of a script. An error that flags and files can cause is a line, not a traceback."""
    on_signals(stop)
    try:
        return main()
    except Stopped as stopped:
        print("stopped", file=sys.stderr)
        return stopped.code
    except OSError as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
    except MemoryError as error:
        print(f"error: there is not enough memory{f': {error}' if str(error) else ''}", file=sys.stderr)
    return 1


def error_text(error: OSError) -> str:
    """The file, if there is one, and the system's message."""
    reason = error.strerror or str(error) or type(error).__name__
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


def escaped(text: str) -> str:
    """The text as UTF-8 can hold it: a byte of a file's name that is none of a character becomes \\xff."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
