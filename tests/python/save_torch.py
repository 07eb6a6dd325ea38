"""python3 save_torch.py GOLDEN.pth FOLDER: save a state dict in many ways, and the tensors that PyTorch reads.

Run by an interpreter that has PyTorch, which need not be the one that runs the tests.
"""

import argparse
import collections
import sys

import numpy as np
import torch

source, folder = sys.argv[1:]
published = torch.load(source, map_location="cpu")
bare = collections.OrderedDict((k.removeprefix("module."), v) for k, v in published.items())


def save(name, state, legacy=False):
    path = f"{folder}/{name}.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


def save_and_read(name, state, legacy=False):
    tensors = torch.load(save(name, state, legacy))
    arrays = {
        key: tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
        for key, tensor in tensors.items()
    }
    np.savez(f"{folder}/{name}.npz", **{key: tensor.numpy() for key, tensor in arrays.items()})


def parametrized(name):
    """Renames the parts of a weight norm like newer PyTorch."""
    return name.replace("weight_g", "parametrizations.weight.original0").replace(
        "weight_v", "parametrizations.weight.original1"
    )


def strided(tensor):
    """The same values, with the dimensions stored in reverse order."""
    order = tuple(reversed(range(tensor.dim())))
    return tensor.permute(order).contiguous().permute(order)


for format in ("zip", "legacy"):
    for names, rename in (("", str), ("-parametrized", parametrized)):
        for prefix, text in (("", ""), ("-module", "module.")):
            state = collections.OrderedDict((text + rename(k), v) for k, v in bare.items())
            save(f"{format}{names}{prefix}", state, legacy=format == "legacy")

flat = torch.cat([tensor.reshape(-1) for tensor in bare.values()])
views, start = {}, 0
for key, tensor in bare.items():
    views[key] = flat[start : start + tensor.numel()].view(tensor.shape)
    start += tensor.numel()

save_and_read("published", published)
save_and_read("legacy", bare, legacy=True)
save_and_read("strided", {key: strided(tensor) for key, tensor in bare.items()})
save_and_read("shared", views)
save_and_read("parameters", {key: torch.nn.Parameter(tensor) for key, tensor in bare.items()})
for dtype in (torch.float64, torch.bfloat16, torch.float16):
    save_and_read(str(dtype).split(".")[1], {key: tensor.to(dtype) for key, tensor in bare.items()})

module = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3))
save("module-zip", module)
save("module-legacy", module, legacy=True)

parameters = [torch.nn.Parameter(tensor.clone()) for tensor in bare.values()]
optimizer = torch.optim.Adam(parameters)
sum(parameter.sum() for parameter in parameters).backward()
optimizer.step()
training = {
    "epoch": 3,
    "model_state_dict": collections.OrderedDict((f"module.{k}", v) for k, v in bare.items()),
    "optimizer_state_dict": optimizer.state_dict(),
    "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 10).state_dict(),
    "loss": torch.tensor(3.0),
    "best": np.float64(2.5),
    "random": (torch.get_rng_state(), np.random.default_rng(0).random(3)),
    "args": argparse.Namespace(
        lr=1e-3, betas=(0.9, 0.999), device=torch.device("cpu"), dtype=torch.float32
    ),
}
for format in ("zip", "legacy"):
    save(f"training-{format}", training, legacy=format == "legacy")
