"""PyTorch, which is in another interpreter than the tests: commands with it, and a process that forks them.

An import of PyTorch takes seconds, most commands here less than one. So a server imports it once, and a fork of it
runs each command: `python pytorch.py` is the server.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path


def find_torch() -> str | None:
    """An interpreter that has PyTorch: one that is named, or this one."""
    if named := os.environ.get("PIXELCNN_TORCH"):
        return named
    return sys.executable if importlib.util.find_spec("torch") else None


@cache
def server() -> subprocess.Popen[str]:
    return subprocess.Popen([TORCH, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_torch(*arguments: object, timeout: int = 0, **options: object):
    """Runs `python ARGUMENTS…`, and returns its exit code and what it printed. SIGALRM ends it after `timeout` seconds,
    unless that is 0. With options of subprocess.run, it is a process of its own from the start."""
    from conftest import Result, run

    if options:
        return run(TORCH, *arguments, **options)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        job = {
            "argv": [str(a) for a in arguments],
            "cwd": os.getcwd(),
            "environ": dict(os.environ),
            "out": str(out),
            "err": str(err),
            "timeout": timeout,
        }
        print(json.dumps(job), file=server().stdin, flush=True)
        code = int(server().stdout.readline())
        return Result(code, out.read_text(), err.read_text())


def serve() -> None:
    """Reads a job a line from standard input, and prints its exit code, negative for a signal."""
    # For the forks. The first step of an optimizer imports torch._dynamo, which takes as long as PyTorch itself.
    import torch._dynamo  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            return run_job(job)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run_job(job: dict) -> None:
    """As the interpreter runs `python FILE ARGUMENTS…` or `python -c CODE ARGUMENTS…`, and ends after it."""
    signal.alarm(job["timeout"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for path, stream in ((job["out"], 1), (job["err"], 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), stream)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environ"])
    first, *rest = job["argv"]
    if first == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = [first, *rest], os.path.dirname(first)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    serve()
else:
    import pytest

    TORCH = find_torch()
    needs_torch = pytest.mark.skipif(TORCH is None, reason="needs PyTorch: scripts/test_python, or PIXELCNN_TORCH=PYTHON")
