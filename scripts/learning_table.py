"""Learning on data that nobody tuned for, through the command line alone: memory, a break in the middle, classes in order,
number formats, outliers, cost of a step, defaults.

Called by learning-table.sh, which makes the networks. Shifts, orders and outliers are this file's own; no setting of the
tool was chosen on them.
"""

import argparse
import json
import os
import subprocess
import sys

import numpy as np

SIDE = 28
ADAPT, AUTO = 'recipe = "adapt"', 'recipe = "auto"'


class Bench:
    def __init__(self, args):
        self.args = args
        self.made = {}
        os.makedirs(args.out, exist_ok=True)

    def path(self, name):
        return os.path.join(self.args.out, name)

    def call(self, *words):
        done = subprocess.run([self.args.offshoot, *map(str, words), "--json"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def save(self, name, array):
        np.save(self.path(name), array)
        return self.path(name)

    def compile(self, network, calibration, plan, precision, max_ram=None):
        """Path of the compiled network and the report on its learning."""
        key = (network, plan, precision, max_ram)
        if key not in self.made:
            off = self.path(f"{len(self.made)}.off")
            with open(self.path("plan.toml"), "w") as file:
                file.write(plan)
            words = ["compile", network, "-o", off, "--calib", calibration, "--precision", precision]
            words += ["--learn", self.path("plan.toml"), "--allow-poor"]
            words += ["--max-ram", max_ram] if max_ram else []
            self.made[key] = off, self.call(*words)
        return self.made[key]

    def learn(self, off, train, test, *more):
        files = [self.save(f"{n}.npy", a) for n, a in zip(("tx", "ty", "vx", "vy"), (*train, *test))]
        return self.call("learn", off, "--train", *files[:2], "--test", *files[2:], *more)


# Shifts: none is among those that a recipe was tuned on.


def sampled(images, matrix):
    """Images read at `matrix` · (row, column) around the centre, bilinear."""
    centre = (SIDE - 1) / 2
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1) - centre
    at = grid @ np.asarray(matrix, np.float32).T + centre
    low = np.floor(at).astype(int)
    part = (at - low).astype(np.float32)
    out = np.zeros_like(images)
    for down in (0, 1):
        for right in (0, 1):
            y, x = low[..., 0] + down, low[..., 1] + right
            inside = (y >= 0) & (y < SIDE) & (x >= 0) & (x < SIDE)
            weight = np.abs(1 - down - part[..., 0]) * np.abs(1 - right - part[..., 1]) * inside
            out += weight * images[:, y.clip(0, SIDE - 1), x.clip(0, SIDE - 1)]
    return out


def rotated(images, degrees):
    sin, cos = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return sampled(images, [[cos, -sin], [sin, cos]])


def shifts(images, seed):
    random = np.random.default_rng(seed)
    columns = np.random.default_rng(5).permutation(SIDE)
    return {
        "rotated by 60 degrees": rotated(images, 60),
        "sheared": sampled(images, [[1, 0], [0.7, 1]]),
        "half the size": sampled(images, [[1.8, 0], [0, 1.8]]),
        "columns permuted": images[:, :, columns],
        "dark, with noise": 0.4 * images + random.normal(0, 0.2, images.shape).astype(np.float32),
    }


def read(folder):
    """Training set, the images that the networks never saw, and the test set."""
    load = lambda name: np.load(os.path.join(folder, name))
    x, y = load("train_x.npy").astype(np.float32) / 255, load("train_y.npy").astype(np.int64)
    tx, ty = load("test_x.npy").astype(np.float32) / 255, load("test_y.npy").astype(np.int64)
    return (x[:-1000], y[:-1000]), (x[-1000:], y[-1000:]), (tx[:2000], ty[:2000])


def percent(numbers):
    numbers = np.atleast_1d(numbers)
    return f"{100 * np.mean(numbers):.1f}"


def memory(b):
    """Arena of the recipes, with and without a limit, and what they reach on a shift."""
    (train, own, test), folder = b.mnist, b.args.networks
    for name, limit in (("perceptron", 24576), ("cnn", 49152)):
        network = f"{folder}/{name}.onnx"
        calibration = b.save("calib.npy", train[0][:200, ..., None])
        for precision in ("int8", "f32"):
            for plan in (ADAPT, AUTO):
                for ram in (None, limit):
                    off, report = b.compile(network, calibration, plan, precision, ram)
                    found = []
                    for shift in ("sheared", "columns permuted"):
                        x, v = (shifts(s[0], 1)[shift][..., None] for s in (own, test))
                        found.append(b.learn(off, (x, own[1]), (v, test[1]), "--epochs", 2, "--fit")["accuracy_after"])
                    print(f"| {name} {precision} {plan}, {f'at most {ram}' if ram else 'no limit'} | "
                          f"{report['train_arena_bytes']} bytes, {percent(found)} % | {report['recipe']} |", flush=True)


def resumed(b):
    """Saved and restored in the middle, and without a break."""
    (train, own, test), network = b.mnist, f"{b.args.networks}/perceptron.onnx"
    x, v = (shifts(s[0], 1)["sheared"][..., None] for s in (own, test))
    for precision in ("int8", "f32"):
        off, _ = b.compile(network, b.save("calib.npy", train[0][:200, ..., None]), ADAPT, precision)
        data = (x, own[1]), (v, test[1])
        whole = b.learn(off, *data, "--epochs", 2)
        flash = ["--flash", b.path("flash")]
        b.learn(off, *data, "--epochs", 2, "--steps", 1000, "--save", *flash)
        rest = b.learn(off, *data, "--epochs", 2, "--steps", 1000, "--restore", *flash)
        same = whole["digest"] == rest["digest"]
        print(f"| 2,000 steps of adapt {precision}, a break at 1,000 | {percent(rest['accuracy_after'])} %, without "
              f"{percent(whole['accuracy_after'])} % | {'the same bits' if same else 'OTHER BITS'} |", flush=True)


def ordered(b):
    """Classes in order: five tasks of two classes, 100 samples a class, on a network trained on MNIST."""
    if b.fashion is None:
        print("| classes in order | left out: no --fashion | |")
        return
    train, _, test = b.fashion
    for precision in ("int8", "f32"):
        network = f"{b.args.networks}/perceptron.onnx"
        calibration = b.save("calib.npy", b.mnist[0][0][:200, ..., None])
        for plan in (ADAPT, AUTO, 'layers = []\n[head]\nkind = "lda"\nfeatures = "all"'):
            rows = {"mixed": [], "in order": [], "in reverse order": []}
            for seed in range(b.args.seeds):
                random = np.random.default_rng(seed)
                chosen = np.concatenate([random.choice(np.flatnonzero(train[1] == k), 100, False) for k in range(10)])
                chosen = random.permutation(chosen)
                task = train[1][chosen] // 2
                orders = [chosen, chosen[np.argsort(task, kind="stable")], chosen[np.argsort(-task, kind="stable")]]
                off, _ = b.compile(network, calibration, plan, precision)
                for row, order in zip(rows.values(), orders):
                    row.append(b.learn(off, (train[0][order][..., None], train[1][order]),
                                       (test[0][..., None], test[1]), "--fit")["accuracy_after"])
            words = ", ".join(f"{name} {percent(row)}" for name, row in rows.items())
            print(f"| classes in order, {precision}, {plan.splitlines()[0]} | {words} % | {b.args.seeds} seeds |", flush=True)


def formats(b):
    """int8 beside float32, mean of the shifts."""
    for name, data, folder in (("MNIST", b.mnist, b.args.networks), ("Fashion", b.fashion, b.args.fashion_networks)):
        if data is None or folder is None:
            print(f"| int8 beside float32, {name} | left out: no data or networks | |")
            continue
        train, own, test = data
        network, found = f"{folder}/perceptron.onnx", {}
        for precision in ("int8", "f32"):
            off, _ = b.compile(network, b.save("calib.npy", train[0][:200, ..., None]), ADAPT, precision)
            for seed in range(b.args.seeds):
                order = np.random.default_rng(seed).permutation(len(own[1]))
                shifted = zip(shifts(own[0][order], seed).items(), shifts(test[0], seed + 100).values())
                for (shift, x), v in shifted:
                    report = b.learn(off, (x[..., None], own[1][order]), (v[..., None], test[1]), "--epochs", 2, "--fit")
                    found.setdefault((precision, shift), []).append(report["accuracy_after"])
        for shift in shifts(own[0][:1], 0):
            a, f = found["int8", shift], found["f32", shift]
            print(f"| adapt on {name}, {shift} | int8 {percent(a)}, float32 {percent(f)} % | |")
        a, f = (np.mean([v for k, v in found.items() if k[0] == p]) for p in ("int8", "f32"))
        print(f"| adapt on {name}, mean | int8 {percent(a)}, float32 {percent(f)} % | {100 * (a - f):+.2f} |", flush=True)


def outliers(b):
    """One spike of 1e30; 15 % of the samples times 1e4."""
    train, own, test = b.mnist
    x, v = (shifts(s[0], 1)["sheared"] for s in (own, test))
    for precision in ("int8", "f32"):
        off, _ = b.compile(f"{b.args.networks}/perceptron.onnx", b.save("calib.npy", train[0][:200, ..., None]), ADAPT, precision)
        few = x[:200].copy()
        spike, wild = few.copy(), few.copy()
        spike[77] = 1e30
        wild[np.random.default_rng(3).random(200) < 0.15] *= 1e4
        a, s, w = (b.learn(off, (n[..., None], own[1][:200]), (v[..., None], test[1]), "--epochs", 2, "--fit")["accuracy_after"]
                   for n in (few, spike, wild))
        print(f"| outliers among 200 samples, adapt {precision} | none {percent(a)}, one of 1e30 {percent(s)}, "
              f"15 % × 1e4 {percent(w)} % | |", flush=True)


def written(b):
    """What `learn -o` reports and what it writes: the vibration network, 100 samples."""
    folder = os.path.join(b.args.models, "vibration")
    load = lambda name: np.load(os.path.join(folder, name))
    train, test = ((load(f"shifted_{n}_x.npy"), load(f"shifted_{n}_y.npy")) for n in ("train", "test"))
    off, _ = b.compile(f"{folder}/model.onnx", f"{folder}/calibration_x.npy", ADAPT, "int8")
    report = b.learn(off, (train[0][:100], train[1][:100]), test, "-o", b.path("written.off"))
    found = b.call("eval", b.path("written.off"), "--input", b.path("vx.npy"), "--labels", b.path("vy.npy"))
    print(f"| learn -o, vibration, 100 samples | reported {percent(report['accuracy_after'])} %, written "
          f"{percent(found['value'])} % | |", flush=True)


def cost(b):
    """Instructions of a step on the emulated Cortex-M4, in inferences."""
    train, own, test = b.mnist
    for name in ("perceptron", "cnn"):
        network, calibration = f"{b.args.networks}/{name}.onnx", b.save("calib.npy", train[0][:200, ..., None])
        for precision in ("int8", "f32"):
            plain = ["-o", b.path("plain.off"), "--calib", calibration, "--precision", precision, "--allow-poor"]
            b.call("compile", network, *plain)
            inference = b.call("profile", b.path("plain.off"), "--target", "qemu:cortex-m4")["instructions"]
            for plan in (ADAPT, AUTO, "", 'weights = "int8"', 'layers = ["last"]'):
                off, report = b.compile(network, calibration, plan, precision)
                what = f"step of {name} {precision}, {plan or 'all layers'}"
                if report["train_arena_bytes"] > b.args.board_ram:
                    print(f"| {what} | {report['train_arena_bytes']} bytes: not on this board | |")
                    continue
                data = (own[0][:24, ..., None], own[1][:24]), (test[0][:20, ..., None], test[1][:20])
                step = b.learn(off, *data, "--fit", "--target", "qemu:cortex-m4")["step_count"]
                print(f"| {what} | {step:,} instructions | {step / inference:.1f} inferences |", flush=True)


def defaults(b):
    """A plan that says nothing: one pass of MNIST over a fresh perceptron."""
    train, own, test = b.mnist
    fresh = b.args.fresh
    if fresh is None:
        print("| defaults | left out: no --fresh | |")
        return
    order = np.random.default_rng(1).permutation(len(train[1]))
    for precision in ("int8", "f32"):
        off, _ = b.compile(fresh, b.save("calib.npy", train[0][:200, ..., None]), "", precision)
        report = b.learn(off, (train[0][order][..., None], train[1][order]), (test[0][..., None], test[1]))
        print(f"| one pass of MNIST, fresh 784-128-10, {precision}, empty plan | {percent(report['accuracy_after'])} % | |", flush=True)


ROWS = [memory, resumed, ordered, formats, outliers, written, cost, defaults]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--offshoot", required=True)
    parser.add_argument("--networks", required=True, help="perceptron.onnx and cnn.onnx, trained on MNIST")
    parser.add_argument("--mnist", required=True)
    parser.add_argument("--fashion", help="a folder with Fashion-MNIST")
    parser.add_argument("--fashion-networks", help="networks trained on Fashion-MNIST")
    parser.add_argument("--fresh", help="a network 784-128-10 that was not trained")
    parser.add_argument("--board-ram", type=int, default=1_500_000, help="largest arena that is tried on the board")
    parser.add_argument("--models", default="models")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("rows", nargs="*", help="only these: " + ", ".join(r.__name__ for r in ROWS))
    args = parser.parse_args()
    b = Bench(args)
    b.mnist = read(args.mnist)
    b.fashion = read(args.fashion) if args.fashion else None
    print("| what | found | |\n|---|---|---|")
    for row in ROWS:
        if not args.rows or row.__name__ in args.rows:
            row(b)


if __name__ == "__main__":
    main()
