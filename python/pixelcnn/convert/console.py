"""What a script says, to whatever terminal, pipe or file; and how it is stopped."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

STREAMS = ("stdin", "stdout", "stderr")
# Names of files and classes are not to steer a terminal.
CONTROL = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\r\t"}


class Stopped(KeyboardInterrupt):
    """By Ctrl-C, a terminal that was closed, or a polite kill. No `except Exception` holds it up."""

    def __init__(self, number: int):
        self.code = 128 + number


class Speech:
    """A stream that takes any text: what it cannot show is escaped, and what it cannot write is lost,
    for a full disk or a reader that has gone is no reason to lose work."""

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
    """To be called first: an import takes seconds, and is to be stopped without a traceback."""
    for number, name in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # Closed by the caller. The next file to be opened would get its number, and with it whatever
            # a library writes to stderr.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))
    sys.stdout, sys.stderr = Speech(sys.stdout), Speech(sys.stderr)
    on_signals(signal.SIG_DFL)


def on_signals(handler: Any) -> None:
    """Of the signals that ask a program to end, those that the caller does not want ignored (nohup)."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def stop(number: int, _: Any) -> None:
    raise Stopped(number)


def run(main: Callable[[], int]) -> int:
    """The exit code of a script. What flags and files can cause is a line, not a traceback."""
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
    """The file, if there is one, and what the system says of it."""
    reason = error.strerror or str(error) or type(error).__name__
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


def escaped(text: str) -> str:
    """The text as UTF-8 can hold it: a byte of a file's name that is none of a character becomes \\xff."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
