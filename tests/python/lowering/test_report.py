"""The report about a module that does not compile."""

from __future__ import annotations

import networks as n
import numpy as np
import oracle
import pixelcnn
import pytest
import torch
from torch import nn


class Norm(nn.Module):
    """Refused: a norm over the channels of a pixel."""

    def __init__(self):
        super().__init__()
        self.first = n.MaskedConv("A", 1, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.last = nn.Conv2d(4, 8, 1)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


class Fails(nn.Module):
    """Its second layer takes other channels than the first makes."""

    def __init__(self):
        super().__init__()
        self.first, self.last = n.MaskedConv("A", 1, 4, 3, padding=1), nn.Conv2d(5, 8, 1)

    def forward(self, x):
        return self.last(self.first(x))


def reported(module, path, **arguments) -> str:
    pixelcnn.report(module, (1, 6, 5), path, levels=8, **arguments)
    return path.read_text()


def test_a_module_that_is_refused(tmp_path):
    module = Norm()
    text = reported(module, tmp_path / "report.txt", input="unit")
    assert "pixelcnn.compile(Norm, (1, 6, 5), levels=8, input='unit')\nRefused: " in text
    for line in (
        f"pixelcnn {pixelcnn.__version__}, PyTorch {torch.__version__}, Python",
        "  first.weight: float32 [4, 1, 3, 3], 20 of 36 are 0",
        "(norm): GroupNorm(2, 4",
        "= convolution(%",
        " first.weight",
        "test_report.py:",
    ):
        assert line in text, line


@pytest.mark.parametrize("module", [Norm(), oracle.lively(n.plain())])
def test_no_weight_is_told(module, tmp_path):
    texts = []
    for _ in range(2):
        with torch.no_grad():
            for tensor in module.parameters():
                tensor[tensor != 0] = torch.rand(int((tensor != 0).sum())) + 0.5
        texts.append(reported(module, tmp_path / "report.txt").split("\n\n"))
    # The figures that `compile` measured may differ.
    assert texts[0][:2] == texts[1][:2] and texts[0][3:] == texts[1][3:]
    for tensor in module.parameters():
        for number in np.unique(tensor.detach().numpy())[:20]:
            assert f"{number:.6g}" not in "\n".join(texts[1]) or float(number) in (0.0, 1.0)


def test_a_module_that_compiles(tmp_path):
    text = reported(oracle.lively(n.plain()), tmp_path / "report.txt")
    assert "\ncompiled: Sequential, 6x5x1: " in text and "drawn images have the levels" in text
    assert "  0.mask: float32 [8, 1, 7, 7]" in text


def test_a_module_whose_forward_fails(tmp_path):
    text = reported(Fails(), tmp_path / "report.txt")
    assert "Refused: the module's forward failed: RuntimeError: " in text
    operations = text[text.index("Operations:") :]
    assert "convolution(" in operations and "last.weight" not in operations, "operations before the failure"


def test_arguments_that_make_no_sense(tmp_path):
    with pytest.raises(ValueError, match="levels must be"):
        pixelcnn.report(n.plain(), (1, 6, 5), tmp_path / "report.txt", levels=1)
    assert not list(tmp_path.iterdir())
