"""Modules that compile, by family: each row of the table in docs/python.md."""

from __future__ import annotations

import idioms
import networks as n
import oracle
import pixelcnn
import pytest
import torch

UNIT = lambda levels: lambda v: v.double() / (levels - 1)  # noqa: E731
CODES = lambda v: v[:, 0]  # noqa: E731
LEVELS = lambda v: v.double()  # noqa: E731
SYMMETRIC = lambda v: v.double() / 127.5 - 1  # noqa: E731
PP = {"levels": 256}

# name: module, shape, arguments, the module's input for levels, (nodes, layers) or None, tolerance of the file
FAMILIES = {
    "masked, Sequential, batch norm": (n.plain, (1, 9, 7), {"levels": 8}, UNIT(8)),
    "masked by mul_": (lambda: n.plain(how="mul_"), (1, 9, 7), {"levels": 8}, UNIT(8)),
    "masked by assignment to .data": (lambda: n.plain(how="assign"), (1, 9, 7), {"levels": 8}, UNIT(8)),
    "masked by function, colours": (
        lambda: n.plain(how="functional", channels=3, levels=5),
        (3, 6, 7),
        {"levels": 5, "output_axes": "NKCHW"},
        UNIT(5),
    ),
    "masked, residual, Bernoulli": (n.ResidualBinary, (1, 9, 7), {"levels": 2}, UNIT(2)),
    "masked, classes, log-softmax": (n.LeakyClasses, (1, 9, 7), {"levels": 16, "classes": 5}, UNIT(16)),
    "gated, dilated, scaled inside": (n.GatedScaledInside, (1, 9, 8), {"levels": 256}, LEVELS),
    "gated prior, classes": (n.Prior, (8, 8), {"levels": 16, "classes": 4}, CODES),
    "masks swapped": (n.SwappedPrior, (6, 7), {"levels": 12}, CODES),
    "gated, colours in steps, classes": (n.GatedColours, (3, 6, 7), {"levels": 4, "classes": 3}, UNIT(4)),
    "streams shifted": (n.ShiftedStreams, (1, 7, 6), {"levels": 4}, UNIT(4)),
    "rows only": (n.DilatedRows, (3, 7, 6), {"levels": 8}, UNIT(8)),
    "padded, cropped later": (n.PaddedEmbedding, (7, 6), {"levels": 10}, CODES),
    "PixelCNN++": (n.PlusPlus, (3, 8, 8), PP, SYMMETRIC),
    "PixelCNN++, weight norm as parametrisation": (lambda: n.PlusPlus(old=False), (3, 8, 8), PP, SYMMETRIC),
    "PixelCNN++, grey, one level": (lambda: n.PlusPlus(channels=1, levels=1), (1, 8, 8), PP, SYMMETRIC),
    **{
        f"PixelCNN++, class: {place}": (
            lambda place=place: n.PlusPlus(place=place, classes=3),
            (3, 8, 8),
            {"levels": 256, "classes": 3},
            SYMMETRIC,
        )
        for place in ("input", "planes", "first", "bottleneck", "remembered", "output", "film")
    },
    "course homework, colours in steps": (idioms.ColourResidual, (3, 6, 5), {"levels": 4}, LEVELS),
    "one-hot classes through a linear layer": (
        idioms.OneHotConditioned,
        (1, 6, 5),
        {"levels": 2, "classes": 4},
        UNIT(2),
    ),
    "class maps and coordinates as channels": (idioms.ClassPlane, (1, 6, 5), {"levels": 4, "classes": 3}, UNIT(4)),
    "PixelSNAIL's blocks without attention": (idioms.SnailWithoutAttention, (6, 7), {"levels": 12}, CODES),
    "channels last, flat output": (idioms.ChannelsLast, (1, 6, 5), {"levels": 6}, UNIT(6)),
    "codes with a channel axis": (idioms.CodesWithChannel, (1, 6, 5), {"levels": 9}, lambda v: v),
    "levels made whole inside": (idioms.LongInside, (1, 6, 5), {"levels": 9}, lambda v: v),
    "one-hot by scatter_ and by index": (idioms.ScatterOneHot, (6, 5), {"levels": 7}, CODES),
    "all activations": (idioms.Activations, (1, 6, 5), {"levels": 4}, UNIT(4)),
    "padding with a constant": (idioms.ConstantPad, (1, 6, 5), {"levels": 4}, UNIT(4)),
    "grouped, shuffled, stacked": (idioms.Grouped, (1, 6, 5), {"levels": 4}, UNIT(4)),
    "written in place, scripted, dict": (idioms.WritesInPlace, (1, 6, 5), {"levels": 4}, UNIT(4)),
    "padding kept from the first batch": (idioms.PlusPlusSample, (3, 6, 6), PP, SYMMETRIC),
}
# Sixteen activations in a row enlarge the rounding of the weights to 32 bits.
LOOSE = {"all activations": 1e-4}


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, monkeypatch):
    make, shape, arguments, encode = FAMILIES[family]
    module = oracle.lively(make())
    sampler = pixelcnn.compile(module, shape, **arguments)
    labels = [1, 2] if "classes" in arguments else None
    oracle.follows(sampler, module, make, encode, labels, LOOSE.get(family, 1e-6))


def test_the_comparison_fails_for_another_network():
    """The twin: one bias moved by ten tolerances must show."""
    module = oracle.lively(n.Prior())
    sampler = pixelcnn.compile(module, (8, 8), levels=16, classes=4)
    with torch.no_grad():
        module.out[2].bias[3] += 1e-5
    with pytest.raises(AssertionError):
        oracle.file_error(sampler, module, n.Prior(), CODES, [1, 2])


def test_steps_are_found():
    assert pixelcnn.compile(n.GatedColours(), (3, 6, 7), levels=4, classes=3)._head.steps
    assert not pixelcnn.compile(n.DilatedRows(), (3, 7, 6), levels=8)._head.steps


def test_a_gated_block_is_four_layers():
    """Vertical sum and gate in one layer, with the sum kept; horizontal sum and gate; the 1×1 and the residual."""
    document = pixelcnn.compile(n.GatedScaledInside(dilations=(1, 1)), (1, 6, 6), levels=256)._model()[0]
    kinds = ["+".join(k for k in ("gate", "pre", "residual") if k in layer) for layer in document["layers"]]
    # The inputs of both streams; then two blocks, the last one without the vertical stream's gate; then the output.
    assert sorted(kinds) == sorted(["", "", "gate+pre", "gate", "", "", "gate", "", ""])


def test_both_signs_of_an_elu_are_one_form():
    document = pixelcnn.compile(n.PlusPlus(levels=1), (3, 6, 6), levels=256)._model()[0]
    names = {form["activation"] for node in document["nodes"] for form in node["forms"]}
    assert names == {"raw", "concat_elu", "elu"}


def film_of(sampler):
    return [f for node in sampler._model()[0]["nodes"] for f in node["forms"] if "scale" in f]


def test_a_class_that_scales_is_one_form():
    sampler = pixelcnn.compile(n.PlusPlus(place="film", classes=3, levels=1), (3, 6, 6), levels=256, classes=3)
    forms = film_of(sampler)
    assert {f["activation"] for f in forms} == {"concat_elu"}
    assert all("shift" in f for f in forms)
    assert all(sampler._model()[1][f["scale"]].shape[0] == 3 for f in forms)


def test_a_slice_written_in_place_is_no_further_layer():
    """Crops of one convolution, one of them written to: no layer of its own."""
    document = pixelcnn.compile(n.RealColours(12, 1), (3, 8, 8), levels=2, classes=10, input="unit")._model()[0]
    kinds = ["+".join(k for k in ("gate", "pre", "residual") if k in layer) for layer in document["layers"]]
    # Vertical, horizontal and 1×1 of the first block; both sums of the second; the skips; the two of the output.
    assert kinds == ["gate+pre", "gate", "", "", "gate", "", "", ""]
