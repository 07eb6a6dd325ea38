"""check_reference.py against features from the independent forward pass, and with one corrupted."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import GOLDEN, PIXELCNN, SCRIPTS, needs_pixelcnn, run
from reference import Network

sys.path.insert(0, str(SCRIPTS))
from check_reference import reference_images  # noqa: E402

MODEL = GOLDEN / "rgb_r1_f8_m10" / "model.safetensors"


@pytest.fixture(scope="module")
def features():
    return Network(MODEL).params(reference_images()).astype(np.float32)


def check(path, *more):
    return run(sys.executable, SCRIPTS / "check_reference.py", MODEL, path, "--device", "cpu", *more)


def test_images_are_those_of_the_reference():
    """Drawn as its test draws them, with numpy's global generator."""
    np.random.seed(2702)
    np.testing.assert_array_equal(reference_images(), np.random.randint(0, 256, (10, 32, 32, 3)))


@needs_pixelcnn
def test_agreement(features, tmp_path):
    np.save(tmp_path / "truth.npy", features)
    result = check(tmp_path / "truth.npy", "--pixelcnn", PIXELCNN)
    assert result.code == 0, result.out + result.err
    assert result.out.startswith("agree: 1,024,000 features, largest error ")


@needs_pixelcnn
@pytest.mark.parametrize("wrong", [2e-3, np.nan])
def test_one_corrupted_value_is_found(wrong, features, tmp_path):
    corrupted = features.copy()
    corrupted[7, 20, 31, 99] += wrong
    np.save(tmp_path / "truth.npy", corrupted)
    result = check(tmp_path / "truth.npy", "--pixelcnn", PIXELCNN)
    assert result.code == 1, result.out + result.err
    assert "DISAGREE" in result.out and "1 features are beyond" in result.out
    assert "at image 7, y 20, x 31, feature 99" in result.out


@needs_pixelcnn
def test_features_of_another_network(features, tmp_path):
    np.save(tmp_path / "truth.npy", features[..., :50])
    result = check(tmp_path / "truth.npy", "--pixelcnn", PIXELCNN)
    assert result.code == 1 and "they are of different networks" in result.err


def test_bad_input(features, tmp_path):
    result = check(tmp_path / "nowhere.npy", "--pixelcnn", "pixelcnn")
    assert result.code == 1 and "nowhere.npy: not an .npy file" in result.err
    np.save(tmp_path / "few.npy", features[:3])
    result = check(tmp_path / "few.npy", "--pixelcnn", "pixelcnn")
    assert result.code == 1 and "shape [3, 32, 32, 100], expected [10, 32, 32, …]" in result.err
    np.save(tmp_path / "truth.npy", features)
    result = check(tmp_path / "truth.npy", "--pixelcnn", "/no/such/program")
    assert result.code == 1 and "name the program with --pixelcnn" in result.err
