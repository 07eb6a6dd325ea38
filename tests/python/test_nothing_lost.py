"""The result of hours of work is neither replaced, nor lost, nor refused at the end. Each test stands for a kind of
fault."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoints import random_network
from conftest import PACKAGE, PIXELCNN, ROOT, SCRIPTS, needs_pixelcnn, run, run_convert, run_pixelcnn
from pixelcnn.convert import ConversionError, console, files
from pixelcnn.convert.model_file import LIMITS, beyond_limits, write_model
from PIL import Image
from safetensors.numpy import save_file
from pytorch import TORCH, needs_torch, run_torch
from test_train import SCRIPT, TINY, begin, metadata, save_npz, step_of, train, trained, wait_for_step
from pixelcnn.train import TrainingError, checkpoint
from pixelcnn.train.settings import flipped_classes

on_unix = pytest.mark.skipif(os.name != "posix", reason="needs signals and file modes of Unix")


@pytest.fixture
def images(tmp_path):
    return save_npz(tmp_path / "images.npz", 1, count=40)


# Work of another run


@needs_torch
def test_another_runs_files_are_replaced_only_if_asked(images, tmp_path):
    model, ckpt, csv = (tmp_path / f"run.{suffix}" for suffix in ("safetensors", "ckpt", "csv"))
    trained(images, "-o", model, "--epochs", 3)
    before = {path: path.read_bytes() for path in (model, ckpt, csv)}

    def refused(*flags: object) -> str:
        result = train(images, "-o", model, "--epochs", 1, *flags)
        assert result.code == 1 and "--overwrite" in result.err, result.err
        assert {path: path.read_bytes() for path in before} == before
        return result.err

    assert f"at step {step_of(ckpt)} (to go on from it: --resume {ckpt})" in refused()
    refused("--init", model)
    other = ckpt.rename(tmp_path / "other.ckpt")
    del before[ckpt]
    assert f"{model}: a file of that name is there" in refused("--resume", other)

    resumed = trained(images, "-o", model, "--epochs", 4, "--resume", other.rename(ckpt))
    assert "going on at step" in resumed.err
    trained(images, "-o", model, "--epochs", 1, "--overwrite")
    assert step_of(ckpt) == 4


@needs_torch
def test_held_out_images_do_not_mix_with_what_is_there(images, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "holiday.png").write_bytes(b"mine")
    output = ("-o", tmp_path / "m.safetensors", "--minutes", 0)
    assert "holds files already" in train(images, *output, "--held-out-to", tmp_path / "folder").err
    result = train(images, *output, "--held-out-to", images)
    assert result.code == 1 and f"{images}: is a file" in result.err and "Traceback" not in result.err
    assert not list(tmp_path.glob("m.*"))


def test_convert_replaces_nothing_but_model_files(tmp_path):
    save_file(random_network(filters=4, blocks=1, mixtures=2), tmp_path / "params.safetensors")
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    result = run_convert(tmp_path / "params.safetensors", "-o", tmp_path / "photo.jpg")
    assert result.code == 1 and "no model file" in result.err
    assert (tmp_path / "photo.jpg").read_bytes() == b"a photo"
    for _ in range(2):
        assert run_convert(tmp_path / "params.safetensors", "-o", tmp_path / "m.safetensors").code == 0


# Signals


def stopped(process: subprocess.Popen, number: int) -> str:
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in message, message
    return message


@needs_torch
@on_unix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_every_polite_signal_leaves_a_checkpoint(number, images, tmp_path):
    ckpt = tmp_path / "m.ckpt"
    process = begin(images, "-o", tmp_path / "m.safetensors", "--epochs", 100000, "--checkpoint-minutes", 0)
    wait_for_step(process, ckpt, 3)
    assert f"--resume {ckpt}" in stopped(process, number)
    assert step_of(ckpt) >= 3 and not list(tmp_path.glob(".*"))


@needs_torch
@on_unix
def test_a_stop_while_images_load_is_at_once_and_writes_nothing(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    # A pipe that is never written to holds it up.
    os.mkfifo(folder / "images.npz")
    process = begin(folder / "images.npz", "-o", tmp_path / "m.safetensors")
    opened = os.open(folder / "images.npz", os.O_WRONLY)
    assert "before there was anything to keep" in stopped(process, signal.SIGINT)
    os.close(opened)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


@needs_torch
@on_unix
def test_nohup_is_respected(images, tmp_path):
    ckpt = tmp_path / "m.ckpt"
    arguments = (images, "-o", tmp_path / "m.safetensors", "--epochs", 100000, "--checkpoint-minutes", 0)
    process = subprocess.Popen(
        [str(a) for a in ("nohup", TORCH, SCRIPT, *arguments, *TINY)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_for_step(process, ckpt, 2)
    process.send_signal(signal.SIGHUP)
    wait_for_step(process, ckpt, step_of(ckpt) + 5)
    stopped(process, signal.SIGTERM)


@on_unix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_stopped_write_leaves_the_old_file_and_nothing_else(number, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")
    script = """
import sys, time; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pixelcnn.convert import console, files
console.prepare()
def write(file):
    file.write(b"half of the new")
    print("writing")
    time.sleep(60)
sys.exit(console.run(lambda: files.write_whole(Path(sys.argv[2]), write)))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(PACKAGE), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n" and len(list(tmp_path.iterdir())) == 2
    assert stopped(process, number) == "stopped\n"
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


# Places that take no file


def refusal(path: Path) -> str:
    with pytest.raises(ConversionError) as error:
        files.prove_writable(path)
    return str(error.value)


@on_unix
def test_outputs_are_proved_by_writing_there(tmp_path):
    files.prove_writable(tmp_path / "new.safetensors")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "old").write_bytes(b"old")
    files.prove_writable(tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"old"
    (tmp_path / "old").chmod(0o444)
    (tmp_path / "dangling").symlink_to(tmp_path / "no" / "such")
    for name, reason in {
        "folder": "is a folder",
        "pipe": "no ordinary file",
        "old": "read-only",
        "no/folder": "there is no folder",
        "dangling": "there is no folder",
        "x" * 300: "name too long",
        "folder/../../" + "y" * 256: "name too long",
    }.items():
        assert reason in refusal(tmp_path / name).lower(), name


@needs_torch
def test_no_room_is_known_before_training(images, tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # noqa: E731
    result = train(images, "-o", tmp_path / "m.safetensors", "--epochs", 100000, preexec_fn=limit)
    assert result.code == 1 and "two checkpoints and the model" in result.err, result.err
    assert "step" not in result.err and not list(tmp_path.glob("m.*")) and not list(tmp_path.glob(".*"))


@on_unix
def test_a_result_that_finds_no_place_at_the_end_is_kept_elsewhere(tmp_path, monkeypatch):
    """The folder goes away while the work is done."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    path = tmp_path / "gone" / "m.safetensors"
    tensors = {"w": np.ones(3, np.float32)}
    with pytest.raises(ConversionError) as error:
        write_model(path, {"format": "pixelcnn-1"}, tensors, files.write_somewhere)
    kept = next((tmp_path / "temporary").glob("*/m.safetensors"))
    assert f"{path}: cannot be written: No such file or directory; it is kept as {kept}" == str(error.value)
    write_model(tmp_path / "m.safetensors", {"format": "pixelcnn-1"}, tensors)
    assert kept.read_bytes() == (tmp_path / "m.safetensors").read_bytes()

    # Without such a place, too, the error is the first one.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(ConversionError, match="No such file or directory$"):
        write_model(path, {"format": "pixelcnn-1"}, tensors, files.write_somewhere)


@needs_torch
@on_unix
def test_a_stopped_run_whose_folder_is_gone_keeps_its_checkpoint_elsewhere(images, tmp_path):
    output, temporary = tmp_path / "output", tmp_path / "temporary"
    output.mkdir()
    temporary.mkdir()
    process = subprocess.Popen(
        [str(a) for a in (TORCH, SCRIPT, images, "-o", output / "m.safetensors", "--epochs", 100000, *TINY)]
        + ["--checkpoint-minutes", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    wait_for_step(process, output / "m.ckpt", 2)
    output.rename(tmp_path / "gone")
    message = ""
    while "warning: no checkpoint" not in message:
        assert process.poll() is None, message
        message += process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    message += process.communicate(timeout=60)[1]
    kept = next(temporary.glob("*/m.ckpt"))
    assert process.returncode == 1
    assert f"cannot be written: No such file or directory; it is kept as {kept}" in message
    trained(images, "-o", tmp_path / "m.safetensors", "--minutes", 0, "--resume", kept)


@on_unix
def test_links_stay_and_what_they_lead_to_keeps_its_mode(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o600)
    link.symlink_to("real")
    files.write_whole(link, lambda file: file.write(b"new"))
    assert link.is_symlink() and real.read_bytes() == b"new" and real.stat().st_mode & 0o777 == 0o600
    (tmp_path / "ahead").symlink_to("made by it")
    files.prove_writable(tmp_path / "ahead")
    files.write_whole(tmp_path / "ahead", lambda file: file.write(b"new"))
    assert (tmp_path / "ahead").is_symlink() and (tmp_path / "made by it").read_bytes() == b"new"


@on_unix
def test_a_file_that_cannot_be_renamed_over_is_written_in_place(tmp_path, monkeypatch):
    """Fails like a mount point."""
    path = tmp_path / "mounted"
    path.write_bytes(b"the old one, which is longer")
    number = path.stat().st_ino

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    files.write_whole(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and path.stat().st_ino == number
    with pytest.raises(ConversionError, match="busy"):
        files.write_whole(tmp_path / "new", lambda file: file.write(b"new"))
    assert [file.name for file in tmp_path.iterdir()] == ["mounted"]


def test_a_disk_that_is_full_at_any_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")
    tensors = {str(i): np.full(3, i, np.float32) for i in range(5)}
    begin_file = files.begin

    class Full:
        """A file on a disk with room for a number of writes."""

        def __init__(self, file, room: int):
            self.file, self.room = file, room

        def __getattr__(self, name: str):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data) -> int:
            self.room -= 1
            if self.room < 0:
                self.file.write(bytes(data)[:2])
                raise OSError(28, "No space left on device")
            return self.file.write(data)

    for room in range(6):

        def begin_full(*arguments, room=room):
            temporary, file = begin_file(*arguments)
            return temporary, Full(file, room)

        monkeypatch.setattr(files, "begin", begin_full)
        with pytest.raises(ConversionError, match="No space left on device"):
            write_model(path, {}, tensors)
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"], room
    monkeypatch.setattr(files, "begin", lambda *a: (lambda t, f: (t, Full(f, 6)))(*begin_file(*a)))
    write_model(path, {}, tensors)
    assert len(path.read_bytes()) > 60 and len(list(tmp_path.iterdir())) == 1


# Text that a terminal or a file cannot hold


@needs_torch
@on_unix
def test_names_that_are_no_text_are_escaped_in_the_model(tmp_path):
    folder = os.fsencode(tmp_path / "caf") + b"\xe9"
    for name, level in ((b"x\xff", 10), (b"line\nfeed", 250)):
        os.makedirs(folder + b"/" + name)
        for i in range(4):
            image = Image.new("L", (8, 8), level + i)
            image.save(os.fsdecode(folder + b"/" + name + b"/%d.png" % i))
    result = subprocess.run(
        [str(TORCH).encode(), str(SCRIPT).encode(), folder, b"-o", os.fsencode(tmp_path / "m.safetensors")]
        + [str(a).encode() for a in (*TINY, "--grey", "--size", 8, "--classes", "--epochs", 1, "--flip")]
        + [b"x\xff"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert result.returncode == 0, result.stderr
    found = metadata(tmp_path / "m.safetensors")
    assert json.loads(found["classes"]) == ["line\nfeed", "x\\xff"] and found["data"] == "caf\\xe9"


@needs_pixelcnn
def test_an_escaped_class_is_drawn(tmp_path):
    names = ["x\udcff", "b\x1b[31m"]
    save_file(random_network(4, 1, 2, classes=2), tmp_path / "params.safetensors")
    result = run_convert(tmp_path / "params.safetensors", "-o", tmp_path / "m", "--classes", ",".join(names))
    assert result.code == 0, result.err
    run_pixelcnn("sample", "-m", tmp_path / "m", "-n", 1, "--class", "x\\xff", "-o", tmp_path / "x.png")


def test_classes_to_flip_go_by_either_spelling_of_accents():
    classes = ["cre\u0300me", "caf\xe9", "tea"]
    assert list(flipped_classes("cr\xe8me,cafe\u0301", classes)) == [True, True, False]
    with pytest.raises(TrainingError, match="--flip creme: is not a class"):
        flipped_classes("creme", classes)


SPEAK = """
import sys; sys.path.insert(0, sys.argv[1])
from pixelcnn.convert import console
console.prepare()
def main():
    print("Größe x\\udcff \\x1b[31m →")
    print("Größe x\\udcff \\x1b[31m →", file=sys.stderr)
    open(sys.argv[2], "w").write("done")
    return 0
sys.exit(console.run(main))
"""


@on_unix
@pytest.mark.parametrize(
    "streams", [">/dev/full 2>/dev/full", ">&- 2>&-", "2>&1 | true", ">/dev/null 2>&-", "<&- >&- 2>&-"]
)
def test_streams_that_take_no_text_end_no_run(streams, tmp_path):
    command = f'"$0" -c "$1" "$2" "$3" {streams}; echo "${{PIPESTATUS[0]}}" > "$3.code"'
    done = tmp_path / "done"
    result = run("bash", "-c", command, sys.executable, SPEAK, PACKAGE, done)
    assert (done.read_text(), Path(f"{done}.code").read_text(), result.err) == ("done", "0\n", "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_text_that_a_terminal_does_not_know_is_escaped(encoding, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", SPEAK, str(PACKAGE), str(tmp_path / "done")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    shown = "Größe x\\udcff \\x1b[31m →\n".encode(encoding, "backslashreplace")
    assert (result.returncode, result.stdout, result.stderr) == (0, shown, shown)


# Limits, flags, inputs


def test_what_the_program_would_refuse_is_refused_at_the_start(tmp_path):
    network = random_network(filters=4, blocks=1, mixtures=LIMITS["mixtures"] + 1)
    save_file(network, tmp_path / "params.safetensors")
    output = tmp_path / "m.safetensors"
    assert f"mixtures {LIMITS['mixtures'] + 1}" in run_convert(tmp_path / "params.safetensors", "-o", output).err
    save_file(random_network(filters=4, blocks=1, mixtures=2), tmp_path / "params.safetensors")
    for flags, problem in ((["--height", 40000], "height 40000"), (["--dilations", "1,1025"], "dilations 1,1025")):
        result = run_convert(tmp_path / "params.safetensors", "-o", output, *flags)
        assert result.code == 1 and problem in result.err and not output.exists()


@needs_pixelcnn
@pytest.mark.parametrize("key", LIMITS)
def test_limits_are_those_of_the_program(key, tmp_path):
    """The program reads the same file; here, that it does: it takes the limit, and not one more."""
    data = (ROOT / "weights" / "mnist.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])

    def said(value: int) -> str:
        about = header["__metadata__"]
        blocks = int(about["blocks"])
        changed = {**about, key: json.dumps([value] * (blocks + 1)) if key == "dilations" else str(value)}
        text = json.dumps({**header, "__metadata__": changed}).encode()
        (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        return run(PIXELCNN, "inspect", "-m", tmp_path / "m.safetensors").err

    refused = f'metadata "{key}": expected'
    assert f"to {LIMITS[key]}" in said(LIMITS[key] + 1) and refused in said(LIMITS[key] + 1)
    # Other things may not fit then: tensors, or the number of dilations.
    assert refused not in said(LIMITS[key])
    assert beyond_limits({key: LIMITS[key]}) is None and beyond_limits({key: LIMITS[key] + 1})


@needs_torch
def test_flags_that_make_no_sense_are_a_line(images, tmp_path):
    for flags, said in {
        ("--seed", "99999999999999999999"): "argument --seed",
        ("--epochs", "1e308"): "argument --epochs",
        ("--mixtures", 513): "--mixtures 513: the program takes whole numbers from 1 to 512",
        ("--blocks", 65): "--blocks 65",
        ("--dilations", "1,1025"): "--dilations 1,1025",
        ("--shift", 8): "--shift 8: the images are 8x8",
        ("--device", "meta"): "--device meta",
    }.items():
        # --mixtures and --blocks of TINY come before.
        result = run_torch(SCRIPT, images, "-o", tmp_path / "m.safetensors", *TINY, *flags)
        assert result.code in (1, 2) and said in result.err and "Traceback" not in result.err, result.err
        assert not list(tmp_path.glob("m.*"))


def test_damaged_checkpoints_of_training_are_refused(tmp_path):
    good = {"run": {}, "data": {"images": "12"}, "step": 3, "steps_before": 0, "elapsed": 1.5, "log": []}
    path = tmp_path / "m.ckpt"

    def refused(text: str, reason: str) -> None:
        write_model(path, {"format": checkpoint.FORMAT, "state": text}, {})
        with pytest.raises(TrainingError) as error:
            checkpoint.read(path)
        assert reason in str(error.value)

    write_model(path, {"format": checkpoint.FORMAT, "state": json.dumps(good)}, {})
    assert checkpoint.read(path)[0] == good
    refused("{", "damaged")
    refused("[" * 100_000, "damaged")
    refused("[]", "damaged")
    for key in good:
        refused(json.dumps({k: v for k, v in good.items() if k != key}), key)
        refused(json.dumps({**good, key: "three"}), f"{key} is 'three'")


STAND_INS = {
    "pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "a web page": b"\n<!DOCTYPE html><html><body>404</body></html>",
}


@pytest.mark.parametrize("what", STAND_INS)
def test_stand_ins_for_a_file_are_named(what, tmp_path):
    (tmp_path / "params.ckpt").write_bytes(STAND_INS[what])
    result = run_convert(tmp_path / "params.ckpt", "-o", tmp_path / "m.safetensors")
    assert result.code == 1 and f"params.ckpt: is a {what.removeprefix('a ')}" in result.err, result.err
    with pytest.raises(TrainingError, match=what):
        checkpoint.read(tmp_path / "params.ckpt")


@on_unix
def test_a_pipe_is_no_checkpoint(tmp_path):
    command = f"cat /dev/null | '{sys.executable}' '{SCRIPTS}/convert.py' /dev/stdin -o '{tmp_path}/m'"
    result = run("bash", "-o", "pipefail", "-c", command)
    assert result.code == 1 and "/dev/stdin: is a pipe or a device; name a file" in result.err


@needs_torch
def test_init_of_a_model_with_classes_says_why_labels_are_needed(tmp_path):
    images = save_npz(tmp_path / "images.npz", 1, count=40)
    trained(images, "-o", tmp_path / "m.safetensors", "--epochs", 0, "--classes")
    np.savez(tmp_path / "plain.npz", x=np.load(images)["x"])
    result = train(tmp_path / "plain.npz", "-o", tmp_path / "n.safetensors", "--init", tmp_path / "m.safetensors")
    assert result.code == 1 and "m.safetensors has classes, so what goes on from it needs" in result.err


@pytest.mark.parametrize("error, said", [
    (OSError(13, "Permission denied", "data/secret"), "error: data/secret: Permission denied"),
    (OSError("no medium"), "error: no medium"),
    (MemoryError(), "error: there is not enough memory"),
])  # fmt: skip
def test_what_the_system_refuses_is_a_line(error, said, capsys):
    def main() -> int:
        raise error

    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert console.run(main) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err == said + "\n"
