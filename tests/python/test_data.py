"""Training reads data as people have it: classes, parts, labels, misleading files."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
import pytest
from PIL import Image
from pytorch import needs_torch, run_torch
from test_train import SCRIPT, TINY, data_options, idx, pictures, refusal
from pixelcnn.train import data


def fill(folder, count: int = 3, size: int = 8) -> None:
    """With images, none like another."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng([i, *os.fsencode(folder.name)]).integers(
            0, 256, (size, size, 3), np.uint8
        )
        Image.fromarray(pixels).save(folder / f"{i}.png")


def load(folder, **changed) -> data.Data:
    return data.load(folder, data_options(**{"size": 8, **changed}))


def counts(read: data.Data) -> dict[str, int]:
    every = np.concatenate([read.train.y, read.held_out.y])
    return {name: int((every == k).sum()) for k, name in enumerate(read.classes)}


def test_hidden_and_empty_folders_are_no_classes(tmp_path, capsys):
    fill(tmp_path / "cat"), fill(tmp_path / "dog", 4)
    for hidden in (".git", ".ipynb_checkpoints", ".thumbnails", "__MACOSX", "@eaDir", "#recycle", "cat/.cache"):
        fill(tmp_path / hidden)
    (tmp_path / "cat" / "._0.png").write_bytes(b"of macOS")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read me.txt").write_text("no image")
    read = load(tmp_path, classes=True)
    assert counts(read) == {"cat": 3, "dog": 4}
    said = capsys.readouterr().err
    assert "no classes, for they hold no images that can be used: empty, notes\n" in said
    assert "left out in folders: 8 hidden, 1 of other kinds\n" in said
    assert "2 classes, with images to train on + held out: cat 2 + 1, dog 4 + 0\n" in said


def test_classes_are_printed_also_where_they_are_many(tmp_path, capsys):
    x, _ = pictures(120, 8, 1)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(120) // 2, classes=[f"c{k}" for k in range(60)])
    read = load(tmp_path / "a.npz", classes=True)
    said = capsys.readouterr().err
    assert len(read.classes) == 60
    assert "60 classes, with images to train on + held out: c0 " in said and ", and 10 more\n" in said


def test_every_class_keeps_an_image_to_train_on(tmp_path, capsys):
    x, _ = pictures(40, 8, 1)
    y = np.arange(40)
    y[20:] = 0
    np.savez(tmp_path / "a.npz", x=x, y=y)
    read = load(tmp_path / "a.npz", classes=True, held_out=15)
    assert len(read.held_out) == 15 and set(read.train.y) == set(range(20))
    every = np.concatenate([read.train.x, read.held_out.x])
    assert {image.tobytes() for image in every} == {image.tobytes() for image in x.transpose(0, 3, 1, 2)}
    # Other images than without classes only where a class would be left without any.
    plain = load(tmp_path / "a.npz", held_out=15)
    said = capsys.readouterr().err
    order = np.random.default_rng(0).permutation(40)[:15]
    singles = sorted(k for k in order if 0 < k < 20)
    assert f"to train on: one image of {', '.join(map(str, singles))}\n" in said and len(singles) > 3
    assert len(plain.held_out) == 15
    assert "each of the 20 needs one" in refusal(tmp_path / "a.npz", size=8, classes=True, held_out=21)


@pytest.mark.parametrize("other", ["test", "Test", "val", "valid", "validation", "VALIDATION"])
def test_parts_are_no_classes(tmp_path, capsys, other):
    for name, count in (("a", 3), ("b", 4)):
        fill(tmp_path / "Train" / name, count)
        fill(tmp_path / other / name, count - 1)
    fill(tmp_path / "extra")
    read = load(tmp_path, classes=True)
    assert read.classes == ["a", "b"]
    assert (len(read.train), len(read.held_out)) == (7, 5)
    said = capsys.readouterr().err
    assert f"Train is to train on, {other} is held out; left out: extra\n" in said
    assert "a 3 + 2, b 4 + 3\n" in said
    assert len(load(tmp_path).train) == 7, "without classes too"
    fill(tmp_path / other / "c")
    assert f"{other}: its c are no classes in" in refusal(tmp_path, size=8, classes=True)


def test_a_folder_called_train_alone_is_no_part(tmp_path):
    fill(tmp_path / "train"), fill(tmp_path / "plane")
    assert load(tmp_path, classes=True).classes == ["plane", "train"]


def test_linked_folders_are_read_and_loops_said(tmp_path, capsys):
    fill(tmp_path / "elsewhere" / "dog")
    fill(tmp_path / "set" / "cat")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (tmp_path / "set" / "cat" / "again").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "cat" / "lost.png").symlink_to("nowhere")
    assert counts(load(tmp_path / "set", classes=True)) == {"cat": 3, "dog": 3}
    said = capsys.readouterr().err
    assert f"again: is a link back to {tmp_path / 'set'}, in which it lies\n" in said
    assert "lost.png: is a link to nowhere, which is not there\n" in said
    assert "2 of 8 images were skipped" in said
    assert "is a link back to" in refusal(tmp_path / "set", size=8, strict=True)


def test_names_that_are_no_utf8(tmp_path, capsys):
    for name in (b"x\xff", b'caf\xe9, "1"\n'):
        fill(tmp_path / os.fsdecode(name))
    (tmp_path / os.fsdecode(b"x\xff") / os.fsdecode(b"\xfe.png")).write_bytes(b"no image")
    read = load(tmp_path, classes=True)
    assert read.classes == ['caf\\xe9, "1"\n', "x\\xff"]
    said = capsys.readouterr().err
    assert "x\\xff/\\xfe.png: is no image of a kind" in said
    assert 'held out: caf\\xe9, "1"\\n ' in said


def test_images_are_turned_as_exif_says(tmp_path):
    pixels = pictures(1, 8, 3)[0][0]
    for number, expected in ((3, pixels[::-1, ::-1]), (6, np.rot90(pixels, -1)), (8, np.rot90(pixels))):
        exif = Image.Exif()
        exif[0x0112] = number
        for i in range(2):
            Image.fromarray(pixels).save(tmp_path / f"{i}.png", exif=exif)
        np.testing.assert_array_equal(load(tmp_path).train.x[0].transpose(1, 2, 0), expected)
        assert not np.array_equal(expected, pixels)


# Labels


def test_labels_count_from_0_without_gaps(tmp_path, capsys):
    x, y = pictures(12, 8, 1)
    path = tmp_path / "a.npz"
    for labels, found in (
        (y + 1, "found 2 labels from 1 to 2: 1 (6 images), 2 (6 images) "),
        (y * 1_000_000, "found 2 labels from 0 to 1000000: 0 (6 images), 1000000 (6 images) "),
        (y.astype(np.uint64) * 2**63, "y is uint64 [12], expected [12] class numbers"),
        (y * 2**40, f"from 0 to {2**40}"),
        (
            np.arange(12) * 2,
            "from 0 to 22: 0 (1 images), 2 (1 images), 4 (1 images), 6 (1 images), 8 (1 images), … ",
        ),
    ):
        np.savez(path, x=x, y=labels)
        assert found in refusal(path, classes=True), labels

    # Named, a class without images is left out.
    np.savez(path, x=x, y=y * 2, classes=["zero", "one", "two", "three"])
    read = load(path, classes=True)
    assert counts(read) == {"zero": 6, "two": 6}
    assert "no classes, for they have no images: one, three\n" in capsys.readouterr().err
    np.savez(path, x=x, y=y + 1, classes=["zero", "one"])
    assert "there are 3 classes, and names for 2" in refusal(path, classes=True)
    np.savez(path, x=x, y=y, classes=np.arange(2))
    assert "classes is int64 [2], expected a list of texts" in refusal(path)
    assert len(np.savez(path, x=x, y=y + 1) or load(path).train) == 11, "without --classes they do not matter"


def test_test_sets_have_labels_of_the_same_classes(tmp_path):
    x, y = pictures(12, 8, 1)
    path = tmp_path / "a.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x)
    assert "its test set has no labels" in refusal(path, classes=True)
    assert len(load(path).held_out) == 12
    np.savez(path, x_train=x, y_train=y, x_test=x[:2], y_test=[0, 2])
    assert "its test set has the label 2" in refusal(path, classes=True)
    np.savez(path, x_train=x, x_test=x, y_test=y)
    assert "--classes needs labels" in refusal(path, classes=True)

    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, array in (
        ("train-images-idx3", x[..., 0]),
        ("t10k-images-idx3", x[..., 0]),
        ("train-labels-idx1", y),
    ):
        (folder / f"{name}-ubyte").write_bytes(idx(array.astype(np.uint8)))
    assert "its test set has no labels" in refusal(folder, classes=True)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(y.astype(np.uint8) + 1))
    assert "its test set has the label 2" in refusal(folder, classes=True)


# Misleading files


def test_an_npy_is_images_whatever_its_name(tmp_path):
    x, _ = pictures(12, 8, 3)
    np.save(tmp_path / "a.npy", x)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npy").read_bytes())
    for name in ("a.npy", "a.npz"):
        assert len(load(tmp_path / name).train) == 11
        assert "--classes needs labels" in refusal(tmp_path / name, classes=True)


def test_damaged_files_are_named(tmp_path):
    x, y = pictures(6, 8, 1)
    packed = bytearray(gzip.compress(idx(x[..., 0])))
    packed[len(packed) // 2] ^= 0xFF
    for broken in (bytes(packed), packed[:4], b"\x1f\x8b\x08\0", b""):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(broken)
        assert f"{tmp_path / 'train-images-idx3-ubyte.gz'}: " in refusal(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps([1, 2]))
    assert "expected uint8 data" in refusal(tmp_path)
    whole = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
    for labels in (None, 3, ["a", "b"], [[0], [1, 2]]):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps({**whole, b"labels": labels}, protocol=2))
        assert "expected a list of whole numbers" in refusal(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(whole, protocol=2))
    for meta in ([], {}, {b"label_names": ["text"]}):
        (tmp_path / "batches.meta").write_bytes(pickle.dumps(meta))
        assert "expected a list label_names" in refusal(tmp_path)


@needs_torch
@pytest.mark.parametrize(
    "case", ["empty.npz", "cut.npz", "no y_test", "damaged.gz", "lost link", "loop", "pipe"]
)
def test_each_is_one_line_of_the_script(tmp_path, case):
    x, y = pictures(12, 8, 1)
    np.savez(tmp_path / "whole.npz", x_train=x, y_train=y, x_test=x)
    whole = (tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "data" if case == "damaged.gz" else tmp_path / f"{case}.npz".replace(".npz.npz", ".npz")
    if case == "damaged.gz":
        path.mkdir()
        (path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x[..., 0]))[:30] + b"damage")
    elif case == "lost link":
        path.symlink_to("nowhere.npz")
    elif case == "loop":
        path.symlink_to(path)
    elif case == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    else:
        path.write_bytes({"empty.npz": b"", "cut.npz": whole[:-30], "no y_test": whole}[case])
    result = run_torch(SCRIPT, path, "-o", tmp_path / "m.safetensors", *TINY, "--classes", timeout=60)
    assert result.code == 1 and result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
