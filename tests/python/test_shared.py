"""Folders that machines share, outputs over inputs, and file systems that refuse, hang, or compare names in their own
way. The faults are those of tests/common/file_system.c."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from checkpoints import random_network
from conftest import PACKAGE, PIXELCNN, ROOT, needs_pixelcnn, run, run_convert
from pixelcnn.convert import ConversionError, files, places, temporary
from PIL import Image
from safetensors.numpy import save_file
from test_torch import needs_torch
from test_train import save_npz, train, trained

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD and processes of Linux")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Runs a script's function on a file system with faults."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("faults") / "file_system.so"
    source = ROOT / "tests" / "common" / "file_system.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def run_faulty(script: str, *arguments: object, **faults: str):
        start = "import sys; sys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\nfrom pixelcnn.convert import files, places\n"
        environment = {**os.environ, "LD_PRELOAD": str(library), **faults}
        return run(sys.executable, "-c", start + script, PACKAGE, *arguments, env=environment, timeout=60)

    return run_faulty


WRITE = "files.write_somewhere(Path(sys.argv[2]), lambda file: file.write(b'new'))"


def aged(path: Path, hours: float) -> Path:
    path.write_bytes(b"half")
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))
    return path


def test_what_nobody_makes_any_more_goes_and_nothing_else(tmp_path, capsys):
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = temporary.host()
    for name, hours, stays in (
        (f"{here}-{ended.pid}-00.tmp", 0, False),
        (f"{here}-{os.getpid()}-00.tmp", 100, True),
        (f"{here}-1-00.tmp", 100, True),
        (f"{here}0-{ended.pid}-00.tmp", 5, True),
        (f"elsewhere.1.2-{ended.pid}-00.tmp", 5, True),
        (f"elsewhere.1.2-{ended.pid}-00.tmp", 7, False),
        ("aB3dE9", 1, True),
        ("aB3dE9", 7, False),
        (f"{here}--1-00.tmp", 1, True),
    ):
        path = aged(tmp_path / f".pixelcnn-{name}", hours)
        temporary.remove_abandoned(tmp_path)
        assert path.exists() == stays, name
        assert ("removed 1 temporary files" in capsys.readouterr().err) == (not stays and hours > 0), name
        path.unlink(missing_ok=True)


def test_what_is_being_made_stays(tmp_path):
    path, file = temporary.begin(tmp_path)
    with file:
        files.write_whole(tmp_path / "new", lambda new: new.write(b"new"))
        assert set(tmp_path.iterdir()) == {path, tmp_path / "new"}
    child = os.fork()
    if child == 0:
        temporary.begin(tmp_path)
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 3
    files.write_whole(tmp_path / "new", lambda new: new.write(b"newer"))
    assert set(tmp_path.iterdir()) == {path, tmp_path / "new"}


@needs_pixelcnn
def test_the_program_and_the_scripts_know_each_others_files(tmp_path):
    Image.new("L", (512, 512)).save(tmp_path / "large.png")
    folder = tmp_path / "a"
    folder.mkdir()
    program = subprocess.Popen(
        [PIXELCNN, "eval", "large.png", "--native-size", "--class", "0", "-m", "mnist", "--device", "cpu", "--params", "a/p.npy"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    while not (found := list(folder.iterdir())):
        assert program.poll() is None
        time.sleep(0.01)
    assert found[0].name.startswith(f".pixelcnn-{temporary.host()}-{program.pid}-")
    files.write_whole(folder / "new", lambda file: file.write(b"new"))
    assert found[0].exists(), "the program is making it"
    program.send_signal(signal.SIGKILL)
    program.wait()
    assert found[0].exists()
    files.write_whole(folder / "new", lambda file: file.write(b"new"))
    assert not found[0].exists()


@pytest.mark.parametrize("how", ["enolck", "enosys", "hang", "ok"])
def test_no_locks_are_needed(how, faulty, tmp_path):
    aged(tmp_path / ".pixelcnn-killed", 1)
    result = faulty(WRITE, tmp_path / "m", FAULT_FLOCK=how)
    assert result.code == 0 and (tmp_path / "m").read_bytes() == b"new", result.err
    assert (tmp_path / ".pixelcnn-killed").exists()


def test_modes_that_cannot_be_kept_are_a_note(faulty, tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b"old")
    path.chmod(0o777)
    result = faulty(f"{WRITE}\n{WRITE}", path, FAULT_CHMOD="1")
    assert result.code == 0 and path.read_bytes() == b"new"
    assert result.err.count(f"note: the mode or owner of {path} could not be kept") == 1, result.err
    path.chmod(0o600)
    result = faulty(WRITE, path, FAULT_CHMOD="1")
    assert (result.code, result.err) == (0, "") and path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give a file to a user")
def test_root_leaves_a_users_file_to_the_user(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b"old")
    path.chmod(0o600)
    os.chown(path, 12345, 54321)
    files.write_whole(path, lambda file: file.write(b"new"))
    there = path.stat()
    assert (there.st_uid, there.st_gid, there.st_mode & 0o777) == (12345, 54321, 0o600)
    assert path.read_bytes() == b"new"


def test_what_the_last_step_refuses_is_kept_elsewhere(faulty, tmp_path):
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "m"
    result = faulty(f"{WRITE}", path, FAULT_RENAME="1", TMPDIR=str(tmp_path / "temporary"))
    kept = next((tmp_path / "temporary").glob("*/m"))
    assert f"{path}: cannot be written: Operation not permitted; it is kept as {kept}" in result.err
    assert kept.read_bytes() == b"new" and not path.exists()
    path.write_bytes(b"old")
    assert faulty(WRITE, path, FAULT_RENAME="1").code == 0 and path.read_bytes() == b"new"


def test_a_file_that_breaks_off_in_place_is_kept_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(shutil, "copyfileobj", refuse)
    for write in (files.write_whole, files.write_somewhere):
        with pytest.raises(ConversionError) as error:
            write(path, lambda file: file.write(b"new"))
        kept = next(tmp_path.glob("kept-*-m"))
        assert str(error.value) == f"{path}: cannot be written: No space left on device; it is kept as {kept}"
        assert kept.read_bytes() == b"new"
        kept.unlink()
        assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_files_are_on_the_disk_before_they_replace_others(faulty, tmp_path):
    log = tmp_path / "log"
    faulty(WRITE, tmp_path / "m", FAULT_LOG=str(log))
    entries = log.read_text().splitlines()
    assert entries[0].startswith(f"fsync {tmp_path}/.pixelcnn-"), entries
    assert entries[1:] == [f"rename {tmp_path}/m", f"fsync {tmp_path}"]


def test_the_file_of_another_process_survives_the_proof(tmp_path, monkeypatch):
    """It comes between the look and the proof."""
    path = tmp_path / "m"
    path.write_bytes(b"another's")
    monkeypatch.setattr(Path, "exists", lambda _: False)
    files.prove_writable(path)
    assert path.read_bytes() == b"another's"


def test_places_are_the_same_whatever_their_spelling(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_bytes(b"")
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "ahead").symlink_to("d/new")
    os.link(tmp_path / "d" / "old", tmp_path / "hard")

    def same(a: str, b: str) -> bool:
        return places.place_of(tmp_path / a).is_same(places.place_of(tmp_path / b))

    for a, b, expected in (
        ("d/old", "d/../d/old", True),
        ("d/old", "hard", True),
        ("d/old", "link/old", True),
        ("d/new", "link/new", True),
        ("d/new", "ahead", True),
        ("d/new", "d/NEW", False),
        ("d/new", "d/old", False),
        ("q/r", "link/../q/r", True),
    ):
        assert same(a, b) == same(b, a) == expected, (a, b)


def test_case_counts_where_the_file_system_says_so(faulty, tmp_path):
    script = """
for path in sys.argv[2:]:
    print(places.ignores_case(Path(path)), places.place_of(Path(path) / "A").is_same(places.place_of(Path(path) / "a")))
"""
    for name in ("ignoring", "other"):
        (tmp_path / name).mkdir()
    result = faulty(script, tmp_path / "ignoring", tmp_path / "other", FAULT_CASE="ignoring")
    assert result.out == "True True\nFalse False\n", result.err


def test_convert_replaces_no_file_that_it_reads(tmp_path):
    save_file(random_network(filters=4, blocks=1, mixtures=2), tmp_path / "params.safetensors")
    before = (tmp_path / "params.safetensors").read_bytes()
    (tmp_path / "link").symlink_to("params.safetensors")
    os.link(tmp_path / "params.safetensors", tmp_path / "hard")
    for output in ("params.safetensors", "link", "hard"):
        result = run_convert(tmp_path / "params.safetensors", "-o", tmp_path / output)
        assert result.code == 1 and "is the same file as INPUT" in result.err, result.err
    for part in ("index", "data-00000-of-00001"):
        (tmp_path / f"m.ckpt.{part}").write_bytes(b"a checkpoint")
        result = run_convert(tmp_path / "m.ckpt", "-o", tmp_path / f"m.ckpt.{part}")
        assert result.code == 1 and "is the same file as INPUT" in result.err, result.err
        assert (tmp_path / f"m.ckpt.{part}").read_bytes() == b"a checkpoint"
    assert (tmp_path / "params.safetensors").read_bytes() == before


@needs_torch
def test_training_replaces_no_file_that_it_reads(tmp_path):
    images = save_npz(tmp_path / "images.npz", 1, count=40)
    model = tmp_path / "m.safetensors"
    trained(images, "-o", model, "--epochs", 1)
    shutil.copy(tmp_path / "m.ckpt", tmp_path / "other.ckpt")
    (tmp_path / "again.safetensors").symlink_to("m.safetensors")
    (tmp_path / "data.safetensors").symlink_to("images.npz")
    (tmp_path / "resumed.safetensors").symlink_to("other.ckpt")
    (tmp_path / "twice.safetensors").symlink_to("twice.csv")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for flags, said in (
        (("-o", model, "--init", model), "is the same file as --init"),
        (("-o", tmp_path / "again.safetensors", "--init", model), "is the same file as --init"),
        (("-o", tmp_path / "data.safetensors"), "is the same file as DATA"),
        (("-o", tmp_path / "resumed.safetensors", "--resume", tmp_path / "other.ckpt"), "is the same file as --resume"),
        (("-o", tmp_path / "twice.safetensors"), "is the same file as -o"),
        (("-o", tmp_path / "n.safetensors", "--held-out-to", tmp_path / "q", "--samples", tmp_path / "q"), "is the same file as --held-out-to"),
    ):  # fmt: skip
        result = train(images, "--epochs", 1, "--overwrite", *flags)
        assert result.code == 1 and said in result.err and "Traceback" not in result.err, (flags, result.err)
        assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before, flags


@needs_torch
def test_nothing_is_mixed_with_the_images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(np.full((8, 8), 10 * i, np.uint8)).save(folder / f"{i:05}.png")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "link").symlink_to("images")
    output = ("-o", tmp_path / "m.safetensors", "--size", 8, "--grey", "--epochs", 1, "--overwrite")
    for flags in (
        ("--held-out-to", folder),
        ("--held-out-to", tmp_path / "link"),
        ("--held-out-to", folder / "new"),
        ("--held-out-to", tmp_path / "link" / "new" / "deep"),
    ):
        result = train(folder, *output, *flags)
        assert result.code == 1 and "lies among the images of" in result.err, result.err
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
