"""Write anew the golden cases of class tensors, after the converter or the model file has changed:

    python tests/python/record_classes.py

Each is a random checkpoint with its classes in one place or several, converted, and the reference network's output in
64 bits for three images, none of class 1.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from checkpoints import Tensors, block_names, random_torch_network
from conftest import GOLDEN, run_convert
from reference import Network, bits_per_dim
from safetensors.numpy import save_file

CLASSES, LABELS = 3, [2, 0, 2]


class Case(NamedTuple):
    name: str
    height: int
    width: int
    shape: dict[str, int]  # of random_torch_network
    tensors: dict[str, tuple[int, ...]]  # the class tensors' shapes
    places: dict[str, str] = {}
    blocks: dict[str, tuple[int, ...]] = {}  # those in each block
    flags: tuple[str, ...] = ()


SMALL = {"filters": 4, "blocks": 1, "mixtures": 2}
GREY = {"filters": 6, "blocks": 2, "mixtures": 3, "channels": 1, "levels": 2}
CASES = [
    Case("class_input_image_8x12", 8, 12, SMALL, {"embedding.weight": (3, 3 * 8 * 12)}),
    Case(
        "class_input_vector_8x8", 8, 8, SMALL, {"embedding.weight": (3, 4)}, {"embedding.weight": "first"}
    ),
    Case(
        "class_bottleneck_vector_8x8", 8, 8, SMALL, {"label.weight": (3, 4)}, {"label.weight": "bottleneck"}
    ),
    Case(
        "class_bottleneck_map_12x8",
        12,
        8,
        SMALL,
        {f"middle_{s}.weight": (3, 4 * 3 * 2) for s in ("u", "ul")},
    ),
    Case(
        "class_remembered_8x8",
        8,
        8,
        SMALL,
        {"embedding.weight": (3, 4)},
        {"embedding.weight": "remembered"},
    ),
    Case("class_conv_in_8x8", 8, 8, SMALL, {}, blocks={"condition.weight": (3, 4)}),
    Case("class_output_8x8", 8, 8, SMALL, {"embedding.weight": (3, 20)}),
    Case(
        "class_everywhere_2levels_10x12",
        10,
        12,
        GREY,
        {
            "image.weight": (3, 10 * 12),
            "first.weight": (3, 6),
            "skips.weight": (3, 6),
            "middle_u.weight": (3, 6 * 5 * 6),
            "middle_ul.weight": (3, 6 * 5 * 6),
            "output.weight": (3, 9),
        },
        {"first.weight": "first", "skips.weight": "remembered"},
        {"inner.weight": (3, 6), "gate.weight": (3, 12)},
        ("--dilations", "1,2,1"),
    ),
]


def checkpoint(case: Case) -> Tensors:
    random = np.random.default_rng(2)
    tensors = random_torch_network(**case.shape)
    shapes = dict(case.tensors)
    for block in block_names(tensors):
        shapes |= {f"{block}.{name}": shape for name, shape in case.blocks.items()}
    return tensors | {
        name: random.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()
    }


def convert(case: Case, folder: Path) -> Path:
    save_file(checkpoint(case), folder / "params.safetensors")
    placed = [text for name, place in case.places.items() for text in ("--class-tensor", f"{name}={place}")]
    size = ["--height", str(case.height), "--width", str(case.width)]
    result = run_convert(
        folder / "params.safetensors", "-o", folder / "model.safetensors", *size, *placed, *case.flags
    )
    assert result.code == 0, result.err
    return folder / "model.safetensors"


def record(case: Case, model: Path) -> Tensors:
    network = Network(model)
    image = np.random.default_rng(3).integers(
        0, 256, (3, case.height, case.width, network.channels), np.uint8
    )
    params = network.params(image, LABELS)
    assert network.used == set(network.tensors)
    every = [network.params(image, [k] * len(image)) for k in range(CLASSES)]
    classes = [bits_per_dim(of_class, image) for of_class in every]
    # A class that were taken for another would be seen by more than a hundred tolerances.
    assert min(np.abs(every[k] - every[k - 1]).max() for k in range(CLASSES)) > 1e-2
    return {
        "image": image,
        "label": np.array(LABELS, np.int32),
        "params": params.astype(np.float32),
        "bits_per_dim": bits_per_dim(params, image),
        "class_bits_per_dim": np.stack(classes, axis=1),
    }


def main() -> None:
    for case in CASES:
        folder = GOLDEN / case.name
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            model = convert(case, Path(temporary))
            (folder / "model.safetensors").write_bytes(model.read_bytes())
        recorded = record(case, folder / "model.safetensors")
        save_file(recorded, folder / "golden.safetensors")
        print(case.name, *recorded["bits_per_dim"].round(4))


if __name__ == "__main__":
    main()
