#!/usr/bin/env python3
"""Exports the benchmark models to ONNX: static shapes, batch 1, seeded random weights.

    pip install -r requirements.txt
    export_models.py [--out DIR] [--only resnet50,bert_base]

Writes `DIR/NAME.onnx` and `DIR/manifest.json` (inputs, outputs, parameters, multiply-adds, operators). Weights have
torch's own initialization or He's; the statistics of batch normalizations come from one random batch, so that
activations neither vanish nor overflow.
"""
import argparse
import collections
import json
import os
import time
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, shape_inference
from torch import nn

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The tracing exporter lacks an operator of gpt2, and leaves shape arithmetic in the others that shape inference
# cannot see through: these come from the newer exporter, at opset 18 instead of 17.
DYNAMO = {"gpt2_small", "bert_base", "minilm_l6", "vit_small", "dscnn_kws"}
HE = {"mlp", "lenet", "dscnn_kws", "ad_autoencoder", "resnet8_cifar", "mobilenetv1_vww", "yolov8n"}


# ---------------------------------------------------------------- what a model costs
def shapes_of(model):
    model = shape_inference.infer_shapes(model, data_prop=True)
    shapes = {i.name: list(i.dims) for i in model.graph.initializer}
    for v in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        if v.type.tensor_type.HasField("shape"):
            shapes[v.name] = [d.dim_value if d.HasField("dim_value") else None for d in v.type.tensor_type.shape.dim]
    return shapes


def is_static(model):
    shapes = shapes_of(model)
    return all(o in shapes and None not in shapes[o] for n in model.graph.node for o in n.output if o)


def multiply_adds(node, shapes):
    """Of contractions and recurrent layers; everything else counts as none."""
    size = lambda name: int(np.prod(shapes[name]))
    if node.op_type == "Conv":
        return size(node.output[0]) * int(np.prod(shapes[node.input[1]][1:]))
    if node.op_type == "ConvTranspose":
        return size(node.input[0]) * int(np.prod(shapes[node.input[1]][1:]))
    if node.op_type == "Gemm":
        trans_a = any(a.name == "transA" and a.i for a in node.attribute)
        return size(node.output[0]) * shapes[node.input[0]][0 if trans_a else 1]
    if node.op_type == "MatMul":
        return size(node.output[0]) * shapes[node.input[0]][-1]
    if node.op_type in ("LSTM", "GRU"):
        x, w, r = (shapes[i] for i in node.input[:3])
        return x[0] * x[1] * w[0] * (w[1] * w[2] + r[1] * r[2])
    return 0


def describe(name, path):
    model = onnx.load(path)
    shapes, initialized = shapes_of(model), {i.name for i in model.graph.initializer}

    def value(v):
        t = v.type.tensor_type
        return {"name": v.name, "shape": [d.dim_value for d in t.shape.dim], "dtype": np.dtype(helper.tensor_dtype_to_np_dtype(t.elem_type)).name}

    return {
        "name": name, "file": os.path.basename(path), "bytes": os.path.getsize(path), "opset": model.opset_import[0].version,
        "inputs": [value(v) for v in model.graph.input if v.name not in initialized], "outputs": [value(v) for v in model.graph.output],
        "params": sum(int(np.prod(i.dims)) for i in model.graph.initializer if i.data_type == TensorProto.FLOAT),
        "macs": sum(multiply_adds(n, shapes) for n in model.graph.node),
        "ops": dict(collections.Counter(n.op_type for n in model.graph.node)),
    }


# ---------------------------------------------------------------- published architectures
def vision(name):
    import torchvision
    return getattr(torchvision.models, name)(weights=None), (torch.randn(1, 3, 224, 224),)


def timm_model(name):
    import timm
    return timm.create_model(name, pretrained=False), (torch.randn(1, 3, 224, 224),)


class Bert(nn.Module):
    names = ["input_ids", "attention_mask", "token_type_ids"]

    def __init__(self, layers, hidden, heads, inner):
        super().__init__()
        import transformers
        self.bert = transformers.BertModel(transformers.BertConfig(
            hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner, attn_implementation="eager"))

    def forward(self, input_ids, attention_mask, token_type_ids):
        y = self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return y.last_hidden_state, y.pooler_output


def bert(*sizes):
    ids = torch.randint(0, 30522, (1, 128))
    return Bert(*sizes), (ids, torch.ones_like(ids), torch.zeros_like(ids))


class Gpt2(nn.Module):
    names = ["input_ids"]

    def __init__(self):
        super().__init__()
        import transformers
        self.gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(attn_implementation="eager", use_cache=False))

    def forward(self, input_ids):
        return self.gpt(input_ids=input_ids, use_cache=False).logits


# ---------------------------------------------------------------- small networks, written out
class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.layers, self.head = cell(64, 256, 2), nn.Linear(256, 32)

    def forward(self, x):
        return self.head(self.layers(x)[0])


def mlp():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10), nn.Softmax(-1))


def lenet():
    return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10), nn.Softmax(-1))


def conv_bn_relu(i, o, k, stride=1, pad=0, groups=1):
    return nn.Sequential(nn.Conv2d(i, o, k, stride, pad, groups=groups, bias=False), nn.BatchNorm2d(o), nn.ReLU())


def classifier(features, n):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, n), nn.Softmax(-1)]


def dscnn():
    blocks = [m for _ in range(4) for m in (conv_bn_relu(64, 64, 3, 1, 1, 64), conv_bn_relu(64, 64, 1))]
    return nn.Sequential(nn.ZeroPad2d((1, 1, 4, 5)), conv_bn_relu(1, 64, (10, 4), 2), *blocks, *classifier(64, 12))


def autoencoder():
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    blocks = [m for i, o in zip(sizes, sizes[1:]) for m in (nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU())]
    return nn.Sequential(*blocks, nn.Linear(128, 640))


def mobilenet_vww():
    layers, i = [conv_bn_relu(3, 8, 3, 2, 1)], 8
    for o, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)):
        layers += [conv_bn_relu(i, i, 3, stride, 1, i), conv_bn_relu(i, o, 1)]
        i = o
    return nn.Sequential(*layers, *classifier(256, 2))


class Residual(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.a, self.b = conv_bn_relu(i, o, 3, stride, 1), nn.Sequential(nn.Conv2d(o, o, 3, 1, 1), nn.BatchNorm2d(o))
        self.shortcut = nn.Conv2d(i, o, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.b(self.a(x)) + self.shortcut(x))


def resnet8():
    return nn.Sequential(conv_bn_relu(3, 16, 3, 1, 1), Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2),
                         nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10), nn.Softmax(-1))


# YOLOv8n, from the description of its layers (width 0.25, depth 0.33), at 640x640.
class ConvSilu(nn.Module):
    def __init__(self, i, o, k=1, stride=1):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o)

    def forward(self, x):
        return F.silu(self.norm(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c, add):
        super().__init__()
        self.a, self.b, self.add = ConvSilu(c, c, 3), ConvSilu(c, c, 3), add

    def forward(self, x):
        y = self.b(self.a(x))
        return x + y if self.add else y


class C2f(nn.Module):
    def __init__(self, i, o, n, add):
        super().__init__()
        self.half, self.a, self.z = o // 2, ConvSilu(i, o), ConvSilu((2 + n) * (o // 2), o)
        self.blocks = nn.ModuleList(Bottleneck(o // 2, add) for _ in range(n))

    def forward(self, x):
        y = list(torch.split(self.a(x), self.half, 1))
        for block in self.blocks:
            y.append(block(y[-1]))
        return self.z(torch.cat(y, 1))


class Sppf(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.a, self.z, self.pool = ConvSilu(i, i // 2), ConvSilu(i * 2, o), nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        x = self.a(x)
        a = self.pool(x)
        b = self.pool(a)
        return self.z(torch.cat([x, a, b, self.pool(b)], 1))


class Yolo(nn.Module):
    def __init__(self, classes=80):
        super().__init__()
        c = ConvSilu
        self.b1 = nn.Sequential(c(3, 16, 3, 2), c(16, 32, 3, 2), C2f(32, 32, 1, True), c(32, 64, 3, 2), C2f(64, 64, 2, True))
        self.b2 = nn.Sequential(c(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.b3 = nn.Sequential(c(128, 256, 3, 2), C2f(256, 256, 1, True), Sppf(256, 256))
        self.u1, self.u2 = C2f(384, 128, 1, False), C2f(192, 64, 1, False)
        self.d1, self.e1, self.d2, self.e2 = c(64, 64, 3, 2), C2f(192, 128, 1, False), c(128, 128, 3, 2), C2f(384, 256, 1, False)
        self.box = nn.ModuleList(nn.Sequential(c(i, 64, 3), c(64, 64, 3), nn.Conv2d(64, 64, 1)) for i in (64, 128, 256))
        self.cls = nn.ModuleList(nn.Sequential(c(i, 80, 3), c(80, 80, 3), nn.Conv2d(80, classes, 1)) for i in (64, 128, 256))
        anchors, strides = [], []
        for grid, stride in ((80, 8), (40, 16), (20, 32)):
            y, x = torch.meshgrid(torch.arange(grid) + 0.5, torch.arange(grid) + 0.5, indexing="ij")
            anchors.append(torch.stack([x.reshape(-1), y.reshape(-1)]))
            strides.append(torch.full((1, grid * grid), float(stride)))
        self.register_buffer("anchors", torch.cat(anchors, 1))
        self.register_buffer("strides", torch.cat(strides, 1))
        self.register_buffer("bins", torch.arange(16.0).view(1, 16, 1, 1))

    def forward(self, x):
        p3 = self.b1(x)
        p4 = self.b2(p3)
        p5 = self.b3(p4)
        u = self.u1(torch.cat([F.interpolate(p5, scale_factor=2.0), p4], 1))
        o3 = self.u2(torch.cat([F.interpolate(u, scale_factor=2.0), p3], 1))
        o4 = self.e1(torch.cat([self.d1(o3), u], 1))
        o5 = self.e2(torch.cat([self.d2(o4), p5], 1))
        n, features = x.shape[0], (o3, o4, o5)
        box = torch.cat([head(f).view(n, 64, -1) for head, f in zip(self.box, features)], 2)
        cls = torch.cat([head(f).view(n, 80, -1) for head, f in zip(self.cls, features)], 2)
        distance = (F.softmax(box.view(n, 4, 16, 8400).transpose(1, 2), 1) * self.bins).sum(1)
        near, far = distance.chunk(2, 1)
        a, b = self.anchors - near, self.anchors + far
        return torch.cat([torch.cat([(a + b) / 2, b - a], 1) * self.strides, cls.sigmoid()], 1)


MODELS = {  # name: function that gives the module and its example inputs
    "mlp": lambda: (mlp(), (torch.randn(1, 784),)),
    "lenet": lambda: (lenet(), (torch.randn(1, 1, 28, 28),)),
    "dscnn_kws": lambda: (dscnn(), (torch.randn(1, 1, 49, 10),)),
    "ad_autoencoder": lambda: (autoencoder(), (torch.randn(1, 640),)),
    "resnet8_cifar": lambda: (resnet8(), (torch.randn(1, 3, 32, 32),)),
    "mobilenetv1_vww": lambda: (mobilenet_vww(), (torch.randn(1, 3, 96, 96),)),
    "lstm": lambda: (Recurrent(nn.LSTM), (torch.randn(50, 1, 64),)),
    "gru": lambda: (Recurrent(nn.GRU), (torch.randn(50, 1, 64),)),
    **{n: lambda n=n: vision(n) for n in (
        "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "vgg16", "squeezenet1_1", "densenet121")},
    "vit_small": lambda: timm_model("vit_small_patch16_224"),
    "convnext_tiny": lambda: timm_model("convnext_tiny"),
    "bert_base": lambda: bert(12, 768, 12, 3072),
    "minilm_l6": lambda: bert(6, 384, 12, 1536),
    "gpt2_small": lambda: (Gpt2(), (torch.randint(0, 50257, (1, 64)),)),
    "yolov8n": lambda: (Yolo(), (torch.randn(1, 3, 640, 640),)),
}


# ---------------------------------------------------------------- export
def initialize(name, model, x):
    if name in HE:
        for m in model.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
                if m.bias is not None:
                    nn.init.uniform_(m.bias, -0.05, 0.05)
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for m in norms:
        m.momentum = 1.0
        nn.init.uniform_(m.weight, 0.8, 1.2)
        nn.init.uniform_(m.bias, -0.1, 0.1)
    if norms:
        with torch.no_grad():
            model.train()(torch.randn(8 if x.dim() == 2 else 4, *x.shape[1:]))
    return model.eval()


def export(name, path):
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    model, dynamo = initialize(name, model, inputs[0]), name in DYNAMO
    names = getattr(model, "names", ["input"])
    options = {"external_data": False, "verbose": False} if dynamo else {}
    with torch.no_grad():
        torch.onnx.export(model, inputs, path, input_names=names, dynamo=dynamo, opset_version=18 if dynamo else 17,
                          output_names=["last_hidden_state", "pooler_output"] if len(names) == 3 else ["output"], **options)
    proto = onnx.load(path)
    if not is_static(proto):  # fold what is left of shape arithmetic, so that every engine sees static shapes
        import onnxscript.optimizer
        onnx.save(onnxscript.optimizer.optimize(proto), path)
    onnx.checker.check_model(path)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=os.path.join(ROOT, "target", "bench-models"))
    ap.add_argument("--only", help="names, separated by commas")
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    index, entries = os.path.join(a.out, "manifest.json"), {}
    if os.path.exists(index):
        with open(index) as f:
            entries = {e["name"]: e for e in json.load(f)}
    for name in a.only.split(",") if a.only else MODELS:
        start, path = time.time(), os.path.join(a.out, name + ".onnx")
        export(name, path)
        e = entries[name] = describe(name, path)
        print(f"{name}: {e['params'] / 1e6:.2f} M parameters, {e['macs'] / 1e6:.1f} M multiply-adds, {time.time() - start:.1f} s", flush=True)
        with open(index, "w") as f:
            json.dump(list(entries.values()), f, indent=1)


if __name__ == "__main__":
    main()
