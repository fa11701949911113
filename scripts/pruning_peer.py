"""A small residual network in PyTorch, and its pruning by torch-pruning; called by scripts/pruning-peer.sh.

    pruning_peer.py data KIND DATA OUT SAMPLES                     samples as .npy
    pruning_peer.py train OUT AT SEED                              AT/whole.onnx, AT/whole.pt
    pruning_peer.py prune OUT AT SEED OFFSHOOT SHARE EPOCHS        AT/peer.onnx, AT/peer.off
"""

import copy
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HELD_OUT = 500
BATCH = 64
RATE = 1e-3
TEMPERATURE = 4.0
DISTIL = 0.7


def unit(cin, cout, kernel, stride=1, groups=1, relu=True):
    layers = [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class Residual(nn.Module):
    """1.33 M multiply-accumulates at 28 × 28, one channel."""

    def __init__(self):
        super().__init__()
        self.stem = unit(1, 16, 3)
        self.a = unit(16, 16, 3)
        self.b = unit(16, 16, 3, relu=False)
        self.c = unit(16, 32, 3, stride=2)
        self.dw = unit(32, 32, 3, groups=32)
        self.pw = unit(32, 48, 1)
        self.fc = nn.Linear(48, 10)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 2)
        x = F.relu(x + self.b(self.a(x)))
        return self.fc(self.pw(self.dw(self.c(x))).mean((2, 3)))


def data(kind, folder, out, count):
    folder, out = pathlib.Path(folder), pathlib.Path(out)
    for part, most in (("train", int(count)), ("test", 10_000)):
        source = folder / ("mnist" if kind == "mnist" else "cifar10")
        x = np.load(source / f"{part}_x.npy")[:most].astype(np.float32) / 255
        if kind != "mnist":
            x = x[:, 2:30, 2:30].mean(-1)
        x = ((x - 0.45) / 0.25)[:, None].astype(np.float32)
        np.save(out / f"{part}_x.npy", np.ascontiguousarray(x))
        np.save(out / f"{part}_y.npy", np.load(source / f"{part}_y.npy")[:most].astype(np.int64))
        if part == "train":
            np.save(out / "calib.npy", x[:100])


def samples(out, part):
    load = lambda name: torch.from_numpy(np.load(pathlib.Path(out) / f"{part}_{name}.npy"))
    return load("x"), load("y")


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(part).argmax(1) for part in x.split(500)])
    return (found == y).float().mean().item()


def export(model, path):
    model.eval()
    torch.onnx.export(model, torch.zeros(1, 1, 28, 28), str(path), opset_version=13, input_names=["x"], output_names=["y"])


def fit(model, x, y, epochs, rate, seed, teacher=None):
    """Adam, a twentieth of warm-up, then cosine: what `offshoot compress` does."""
    random = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(x) / BATCH) * epochs
    shape = lambda step: min(1.0, (step + 1) / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, shape)
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(x), generator=random).split(BATCH):
            if len(rows) < 2:
                continue
            logits = model(x[rows])
            loss = F.cross_entropy(logits, y[rows])
            if teacher is not None:
                with torch.no_grad():
                    wanted = F.softmax(teacher(x[rows]) / TEMPERATURE, 1)
                found = F.log_softmax(logits / TEMPERATURE, 1)
                divergence = F.kl_div(found, wanted, reduction="batchmean") * TEMPERATURE**2
                loss = DISTIL * divergence + (1 - DISTIL) * loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model


def train(out, at, seed):
    torch.manual_seed(int(seed))
    x, y = samples(out, "train")
    model = fit(Residual(), x, y, 24, 4e-3, int(seed))
    print("float", accuracy(model, *samples(out, "test")), file=sys.stderr)
    torch.save(model.state_dict(), pathlib.Path(at) / "whole.pt")
    export(model, pathlib.Path(at) / "whole.onnx")


def run(offshoot, *words):
    return json.loads(subprocess.run([offshoot, *map(str, words), "--json"], check=True, capture_output=True).stdout)


def sizes(offshoot, off):
    """Bytes and instructions of a file."""
    count = run(offshoot, "profile", off, "--target", "qemu:cortex-m4")["instructions"]
    return [pathlib.Path(off).stat().st_size, count]


def prune(out, at, seed, offshoot, share, epochs):
    import torch_pruning as tp

    at, share, epochs, seed = pathlib.Path(at), float(share) / 100, int(epochs), int(seed)
    torch.manual_seed(seed)
    x, y = samples(out, "train")
    x, y = x[HELD_OUT:], y[HELD_OUT:]
    whole = Residual()
    whole.load_state_dict(torch.load(at / "whole.pt"))
    whole.eval()
    limits = [share * size for size in sizes(offshoot, at / "whole.off")]

    def pruned(ratio, multiple):
        model = copy.deepcopy(whole)
        pruner = tp.pruner.MetaPruner(
            model,
            torch.zeros(1, 1, 28, 28),
            importance=tp.importance.TaylorImportance(),
            pruning_ratio=ratio,
            ignored_layers=[model.fc],
            round_to=multiple,
        )
        model.zero_grad()
        F.cross_entropy(model(x[:256]), y[:256]).backward()
        pruner.step()
        export(model, at / "peer.onnx")
        run(offshoot, "compile", at / "peer.onnx", "-o", at / "peer.off", "--calib", f"{out}/calib.npy", "--allow-poor")
        return model, sizes(offshoot, at / "peer.off")

    # The smallest ratio, the same for all layers, that meets both limits; of two roundings the one that leaves more.
    best = None
    for multiple in (None, 4):
        low, high = 0.0, 0.9
        for _ in range(6):
            middle = (low + high) / 2
            model, found = pruned(middle, multiple)
            if all(size <= limit for size, limit in zip(found, limits)):
                high = middle
                parameters = sum(p.numel() for p in model.parameters())
                if best is None or parameters > best[0]:
                    best = (parameters, model, middle, multiple)
            else:
                low = middle
    _, model, ratio, multiple = best
    model = fit(model, x, y, epochs, RATE, seed, teacher=whole)
    export(model, at / "peer.onnx")
    run(offshoot, "compile", at / "peer.onnx", "-o", at / "peer.off", "--calib", f"{out}/calib.npy")
    now = sizes(offshoot, at / "peer.off")
    print(f"ratio {ratio:.3f}, multiple {multiple}, float {accuracy(model, *samples(out, 'test')):.4f},", now, limits, file=sys.stderr)


if __name__ == "__main__":
    {"data": data, "train": train, "prune": prune}[sys.argv[1]](*sys.argv[2:])
