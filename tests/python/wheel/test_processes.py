"""Signals, threads, forks, and the command line as a program."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pixelcnn
import pytest

on_unix = pytest.mark.skipif(os.name != "posix", reason="needs signals of Unix")

# A minute of work at least.
ENDLESS = """
import sys, pixelcnn
model = pixelcnn.load("cifar10")
print("begun", flush=True)
try:
    model.sample(4000, batch=8, device="cpu")
except KeyboardInterrupt:
    # The engine is as it was.
    assert (model.sample(1, device="cpu", batch=1) == pixelcnn.load("cifar10").sample(1, device="cpu")).all()
    sys.exit(77)
"""


@on_unix
def test_ctrl_c_stops_within_a_row():
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    time.sleep(1)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=180) == 77
    # With its draws; alone it takes some tenths of a second.
    assert time.monotonic() - start < 120


@on_unix
def test_ctrl_c_ends_the_command_line(tmp_path):
    command = [sys.executable, "-m", "pixelcnn", "sample", "-m", "cifar10", "-n", "4000", "-o", "x.png"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == -signal.SIGINT
    assert list(tmp_path.iterdir()) == []


def test_other_threads_run_while_images_are_drawn(avatars):
    done = threading.Event()
    thread = threading.Thread(target=lambda: (avatars.sample(64, threads=1), done.set()))
    ticks = 0
    thread.start()
    while not done.is_set():
        ticks += 1
        time.sleep(0.001)
    thread.join()
    # Had the lock been held all the time, there would be one or two.
    assert ticks > 10


def test_threads_share_a_model(avatars):
    expected = [avatars.sample(3, labels=k) for k in range(4)]
    drawn: list[np.ndarray | None] = [None] * 4

    def draw(k: int) -> None:
        drawn[k] = avatars.sample(3, labels=k)

    threads = [threading.Thread(target=draw, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(expected, drawn))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_workers_draw(avatars):
    expected = avatars.sample(2)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for images in pool.map(avatars.sample, [2] * 4):
            assert np.array_equal(images, expected)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_gpus_are_refused_after_a_fork():
    code = """
import os, pixelcnn
model = pixelcnn.load("avatars")
images = model.sample(1, device="auto")
child = os.fork()
if child == 0:
    try:
        model.sample(1, device="gpu")
    except pixelcnn.DeviceError as error:
        assert "forked" in str(error)
        assert (model.sample(1, device="auto") == model.sample(1, device="cpu")).all()
        os._exit(7)
    os._exit(1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 7


def test_the_command_line(command_line, tmp_path):
    assert command_line("--version").stdout == f"pixelcnn {pixelcnn.__version__}\n"
    done = command_line("sample", "-n", "2", "--each", "out", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert command_line("sample", "-m", "of-no-such-name").returncode == 1
    assert command_line("of-no-such-name").returncode == 2
    module = subprocess.run([sys.executable, "-m", "pixelcnn", "--version"], capture_output=True, text=True)
    assert module.stdout == f"pixelcnn {pixelcnn.__version__}\n"
    # Output without a final line break is kept too.
    assert command_line("completions", "bash").stdout.count("\n") > 10
