"""Kills and signals at any moment of training: files are whole, and a resumed run gives the model of an undisturbed
one."""

from __future__ import annotations

import inspect
import json
import os
import signal

import numpy as np
import pytest
from conftest import PACKAGE, slow
from safetensors.numpy import load_file
from pytorch import needs_torch, run_torch
from test_train import TINY, metadata, reference_metadata, save_npz, step_of, trained
from pixelcnn.train import checkpoint

pytestmark = [needs_torch, pytest.mark.skipif(os.name != "posix", reason="needs fork and signals of Unix")]

# Children that begin where PyTorch is loaded already, so that there can be many of them.
LOADED = """
import json, os, random, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pixelcnn.train import command
from pixelcnn.convert import console, files

def begin(arguments, prepare=lambda: None):
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        sys.argv = ["train.py", *arguments]
        prepare()
        console.prepare()
        os._exit(console.run(command.main))
    return child

"""

# Moments are counted in calls of functions, so that none depends on how fast a machine is: every second one is within
# the writing of a checkpoint, which takes some 800 calls, the others are anywhere in reading (37,000) and three steps
# (25,000 each).
KILLS = """
arguments, ckpt = json.loads(sys.argv[2]), Path(sys.argv[3])
chance = random.Random(int(sys.argv[4]))

def dying(call, writing):
    def count(frame, event, of):
        nonlocal call
        call -= event in ("call", "c_call")
        if call < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def prepare():
        from pixelcnn.train import checkpoint
        write_whole = checkpoint.write_whole
        def counted(path, write):
            sys.setprofile(count)
            write_whole(path, write)
            sys.setprofile(None)
        if writing:
            checkpoint.write_whole = counted
        else:
            sys.setprofile(count)
    return prepare

for attempt in range(100):
    prepare = dying(chance.randrange(2000), True) if attempt % 2 else dying(chance.randrange(110_000), False)
    child = begin([*arguments, *(["--resume", str(ckpt)] if ckpt.exists() else [])], prepare)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, step_of(ckpt), flush=True)
    if code >= 0:
        sys.exit(code)
"""

SIGNALS = """
arguments, name, at, count = json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
write_whole = files.write_whole

class Interrupting:
    def __init__(self, file):
        self.file, self.writes = file, 0
    def __getattr__(self, name):
        return getattr(self.file, name)
    def write(self, data):
        self.writes += 1
        if self.writes == at:
            for _ in range(count):
                os.kill(os.getpid(), signal.SIGINT)
        return self.file.write(data)

def prepare():
    from pixelcnn.convert import model_file
    from pixelcnn.train import checkpoint, trainer
    def interrupted(path, write):
        is_meant = path.name == name
        write_whole(path, (lambda file: write(Interrupting(file))) if is_meant else write)
    files.write_whole = checkpoint.write_whole = interrupted

child = begin(arguments, prepare)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

RUN = ("--classes", "--epochs", 4, "--shift", 1, "--dropout", 0.1, "--checkpoint-minutes", 0)


def loaded(script: str, arguments: tuple[object, ...], *more: object):
    # PyTorch may be another interpreter's, with modules of its own.
    script = "".join(map(inspect.getsource, (step_of, reference_metadata))) + script
    words = json.dumps([str(a) for a in (*arguments, *TINY)])
    return run_torch("-c", LOADED + script, PACKAGE, words, *more)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Images, and the model trained on them without a disturbance."""
    folder = tmp_path_factory.mktemp("undisturbed")
    images = save_npz(folder / "images.npz", 1, count=40)
    trained(images, "-o", folder / "m.safetensors", *RUN)
    return images, folder / "m.safetensors"


def resumed(images, model, ckpt, *flags: object):
    trained(images, "-o", model, *RUN, "--resume", ckpt, *flags)
    return model


def same(found, expected) -> bool:
    tensors, others = load_file(found), load_file(expected)
    is_same = all(np.array_equal(tensors[name], others[name]) for name in others)
    return is_same and metadata(found) == metadata(expected)


@slow
def test_kills_at_random_moments_cost_no_more_than_what_is_done_again(undisturbed, tmp_path):
    images, expected = undisturbed
    ckpt, model = tmp_path / "m.ckpt", tmp_path / "m.safetensors"
    result = loaded(KILLS, (images, "-o", model, *RUN), ckpt, 0)
    assert result.code == 0 and "Traceback" not in result.err, result.err
    attempts = [line.split() for line in result.out.splitlines() if line[:1] in "-0"]
    assert len(attempts) > 8 and all(code == "-9" for code, _ in attempts[:-1]), result.out
    steps = [int(step) for _, step in attempts]
    assert steps == sorted(steps) and steps[-1] == step_of(ckpt)
    checkpoint.read(ckpt)
    assert same(model, expected)
    assert not list(tmp_path.glob(".*")), "what was half-written is removed by the next that writes there"

    trained(images, "-o", model, *RUN, "--epochs", 1, "--overwrite")
    assert not same(model, expected)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_while_a_checkpoint_is_written_leaves_a_whole_one(signals, undisturbed, tmp_path):
    images, expected = undisturbed
    ckpt, model = tmp_path / "m.ckpt", tmp_path / "m.safetensors"
    result = loaded(SIGNALS, (images, "-o", model, *RUN), ckpt.name, 9, signals)
    assert result.code == 128 + signal.SIGINT and "Traceback" not in result.err, result.err
    assert not list(tmp_path.glob(".*")) and not model.exists()
    if signals == 1:
        # It is finished, and so is the step that follows.
        assert f"--resume {ckpt}" in result.err and step_of(ckpt) >= 1
        assert same(resumed(images, model, ckpt), expected)
    else:
        # The second one is meant.
        assert "before there was anything to keep" in result.err and not ckpt.exists()


def test_a_signal_while_the_model_is_written_leaves_what_was_there(undisturbed, tmp_path):
    images, expected = undisturbed
    ckpt, model = tmp_path / "m.ckpt", tmp_path / "m.safetensors"
    model.write_bytes(b"old")
    result = loaded(SIGNALS, (images, "-o", model, *RUN, "--overwrite"), model.name, 9, 1)
    assert result.code == 128 + signal.SIGINT and "Traceback" not in result.err, result.err
    assert f"stopped; to go on: --resume {ckpt}" in result.err
    assert model.read_bytes() == b"old" and not list(tmp_path.glob(".*"))
    assert same(resumed(images, model, ckpt, "--overwrite"), expected)
