#!/usr/bin/env python3
"""Writes the ONNX backend tests to a folder, ready for an ahead-of-time compiler.

    pip install -r requirements.txt
    fetch_conformance.py [--out DIR]

The tests are those of the installed `onnx` package. Each becomes

    DIR/GROUP/NAME/model.onnx
    DIR/GROUP/NAME/inputs/input_0.npy ... manifest.json       in the order of the graph's inputs
    DIR/GROUP/NAME/expected/output_0.npy ... manifest.json    in the order of the graph's outputs

and an entry of `DIR/tests.json`. A sequence is `input_0_0.npy`, `input_0_1.npy`, ...; an optional input without a value has no
file. Tests that no compiler of numeric functions can pass are marked: strings, random numbers, image files.

An input that decides a shape (`Reshape`'s second) or is a parameter by nature (`Trilu`'s diagonal) is *promoted*:
it becomes an initializer, as an exporter would have written it. `--no-promote` leaves it an input.
"""
import argparse
import json
import math
import os
import re
import shutil
import warnings

warnings.simplefilter("ignore")
import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from npy_types import EXOTIC, to_file, type_name

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = ("", "ai.onnx")

# Operand positions that a compiler wants constant.
CONSTANT_OPERANDS = {
    "Reshape": [1], "Expand": [1], "Slice": [1, 2, 3, 4], "Pad": [1, 3], "Tile": [1], "Resize": [1, 2, 3], "Upsample": [1],
    "TopK": [1], "Split": [1], "Squeeze": [1], "Unsqueeze": [1], "ConstantOfShape": [0], "Range": [0, 1, 2], "OneHot": [1],
    "CumSum": [1], "CumProd": [1], "CenterCropPad": [1], "Col2Im": [1, 2], "MaxUnpool": [2], "AffineGrid": [1], "DFT": [1, 2],
    "STFT": [1, 3], "HannWindow": [0], "HammingWindow": [0], "BlackmanWindow": [0], "MelWeightMatrix": [0, 1, 2, 3, 4],
    "Trilu": [1], "Dropout": [1, 2], "SequenceAt": [1], "SequenceErase": [1], "SequenceInsert": [2], "SplitToSequence": [1],
    **{"Reduce" + r: [1] for r in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")},
}
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
EXCLUDED_OPERATORS = {
    "strings": {"StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch"},
    "image files": {"ImageDecoder"},
    "random numbers": RANDOM,
}


# ---------------------------------------------------------------- reading the package
def array(x):
    if isinstance(x, TensorProto):
        return np.asarray(numpy_helper.to_array(x))
    return None if x is None else [array(y) for y in x] if isinstance(x, (list, tuple)) else np.asarray(x)


def read_pb(path, value):
    data, kind = open(path, "rb").read(), value.type.WhichOneof("value")
    if kind == "sequence_type":
        return [np.asarray(x) for x in numpy_helper.to_list(onnx.SequenceProto.FromString(data))]
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return np.asarray(numpy_helper.to_array(TensorProto.FromString(data)))


def cases():
    """(group, name, model, inputs, outputs, rtol, atol) of every test in the package."""
    for c in load_model_tests(kind="node"):
        (ins, outs), = c.data_sets
        yield "node", c.name, c.model, [array(x) for x in ins], [array(x) for x in outs], c.rtol, c.atol
    for group in ("simple", "pytorch-converted", "pytorch-operator"):
        for c in sorted(load_model_tests(kind=group), key=lambda c: c.name):
            model = onnx.load(os.path.join(c.model_dir, "model.onnx"))
            for k, s in enumerate(sorted(x for x in os.listdir(c.model_dir) if x.startswith("test_data_set"))):
                folder = os.path.join(c.model_dir, s)
                count = lambda side: len([f for f in os.listdir(folder) if f.startswith(side)])
                ins = [read_pb(f"{folder}/input_{i}.pb", model.graph.input[i]) for i in range(count("input_"))]
                outs = [read_pb(f"{folder}/output_{i}.pb", model.graph.output[i]) for i in range(count("output_"))]
                yield group, c.name if k == 0 else f"{c.name}__ds{k}", model, ins, outs, c.rtol, c.atol
    package = os.path.dirname(os.path.dirname(onnx.__file__))
    for c in sorted(load_model_tests(kind="real"), key=lambda c: c.name):
        path = os.path.join(package, c.url)
        model = onnx.load(path)
        ins = [Runner.generate_dummy_data(v, seed=0, name=c.model_name) for v in free_inputs(model)]
        outs = [read_pb(f"{path[:-5]}_output_{i}.pb", v) for i, v in enumerate(model.graph.output)]
        yield "light", c.name, model, ins, outs, c.rtol, c.atol


# ---------------------------------------------------------------- what a model is
def free_inputs(model):
    initialized = {i.name for i in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in initialized]


def subgraphs(node):
    for a in node.attribute:
        if a.type == AttributeProto.GRAPH:
            yield a.g
        elif a.type == AttributeProto.GRAPHS:
            yield from a.graphs


def all_nodes(graph):
    for node in graph.node:
        yield node
        for g in subgraphs(node):
            yield from all_nodes(g)


def body(node):
    return next(a.g for a in node.attribute if a.name == "body")


def promotable(model):
    """Names of the graph inputs that reach a constant operand, found backward through the nodes between."""
    producer, alias, sites = {}, {}, []

    def visit(graph):
        for node in graph.node:
            producer.update((o, node) for o in node.output if o)
            positions = CONSTANT_OPERANDS.get(node.op_type, []) if node.domain in OURS else []
            sites.extend(node.input[i] for i in positions if i < len(node.input) and node.input[i])
            if node.op_type == "Loop" and node.input[0] and len(body(node).output) - 1 > len(node.input) - 2:
                sites.append(node.input[0])  # the trip count is the length of the scanned outputs
            if node.op_type in ("Loop", "Scan"):
                for b in body(node).input:
                    alias.setdefault(b.name, set()).update(x for x in node.input if x)
            for g in subgraphs(node):
                visit(g)

    visit(model.graph)
    free, found, seen, queue = {v.name for v in free_inputs(model)}, set(), set(), sites
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in free:
            found.add(name)
            continue
        queue.extend(alias.get(name, ()))
        node = producer.get(name)
        if node is None or node.op_type in ("Shape", "Size"):  # a shape is known, whatever the values
            continue
        queue.extend(i for i in node.input if i)
        for g in subgraphs(node):
            queue.extend(i for n in all_nodes(g) for i in n.input)
            queue.extend(o.name for o in g.output)
    return found


def exclusions(name, op, model):
    """Why the test is not one for a compiler of numeric functions; empty: it is."""
    nodes = list(all_nodes(model.graph))
    operators, why = {n.op_type for n in nodes} | {op}, set()
    for reason, names in EXCLUDED_OPERATORS.items():
        if operators & names:
            why.add(reason)
    for v in list(free_inputs(model)) + list(model.graph.output):
        if v.type.WhichOneof("value") == "tensor_type" and v.type.tensor_type.elem_type == TensorProto.STRING:
            why.add("strings")
    tensors = list(model.graph.initializer) + [a.t for n in nodes for a in n.attribute if a.type == AttributeProto.TENSOR]
    casts = [a.i for n in nodes for a in n.attribute if n.op_type == "Cast" and a.name == "to"]
    if TensorProto.STRING in [t.data_type for t in tensors] + casts:
        why.add("strings")
    if name.startswith("test_training_dropout") and "zero_ratio" not in name:
        why.add("random numbers")
    return why


def types_of(model, ins, outs):
    """ONNX names of all types in a test, as far as they matter to a reader of the results."""
    names = {TensorProto.DataType.Name(i.data_type) for i in model.graph.initializer}
    names |= {type_name(x) for x in ins + outs if isinstance(x, np.ndarray)}
    for n in all_nodes(model.graph):
        for a in n.attribute:
            if a.type == AttributeProto.TENSOR:
                names.add(TensorProto.DataType.Name(a.t.data_type))
            elif a.name in ("to", "dtype", "output_dtype") and a.type == AttributeProto.INT and a.i:
                names.add(TensorProto.DataType.Name(a.i))
    return sorted(names)


# ---------------------------------------------------------------- writing
def promote(model, ins):
    """Moves promotable inputs into the initializers, in place; returns (remaining inputs, names moved)."""
    names, kept, moved = promotable(model), [], []
    for value, x in zip(free_inputs(model), ins):
        if value.name in names and isinstance(x, np.ndarray):
            model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(x).reshape(x.shape), value.name))
            model.graph.input.remove(value)
            moved.append(value.name)
        else:
            kept.append(x)
    if moved:
        model.ir_version = max(model.ir_version, 4)  # the first where an initializer need not be an input
    return kept, moved


def write_side(folder, prefix, items, values):
    os.makedirs(folder)
    manifest = []
    for i, (x, value) in enumerate(zip(items, values)):
        if isinstance(x, np.ndarray):
            entry = {"name": value.name, "kind": "tensor", "type": type_name(x), "shape": list(x.shape), "file": f"{prefix}_{i}.npy"}
            np.save(os.path.join(folder, entry["file"]), to_file(x), allow_pickle=False)
        else:
            entry = {"name": value.name, "kind": "none" if x is None else "sequence", "elements": []}
            for j, y in enumerate(x or []):
                element = {"type": type_name(y), "shape": list(y.shape), "file": f"{prefix}_{i}_{j}.npy"}
                np.save(os.path.join(folder, element["file"]), to_file(y), allow_pickle=False)
                entry["elements"].append(element)
        manifest.append(entry)
    with open(os.path.join(folder, "manifest.json"), "w") as f:
        json.dump(manifest, f)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=os.path.join(ROOT, "target", "conformance"))
    ap.add_argument("--no-promote", action="store_true", help="leave inputs that decide shapes as inputs")
    a = ap.parse_args()

    tests, operator_of, n_cases = [], {}, 0
    for group, name, model, ins, outs, rtol, atol in cases():
        n_cases += 1
        base = re.sub(r"_expanded(_ver\d+)?$", "", name)
        if group == "node" and base == name:
            operator_of[name] = model.graph.node[0].op_type
        tests.append((group, name, base, model, ins, outs, rtol, atol))
    for group in {t[0] for t in tests}:
        shutil.rmtree(os.path.join(a.out, group), ignore_errors=True)

    index = []
    for group, name, base, model, ins, outs, rtol, atol in tests:
        op = operator_of.get(base, "?") if group == "node" else None
        why = exclusions(name, op, model)
        types = types_of(model, ins, outs)
        if not a.no_promote:
            ins, moved = promote(model, ins)
        else:
            moved = []
        folder = os.path.join(a.out, group, name)
        os.makedirs(folder)
        onnx.save(model, os.path.join(folder, "model.onnx"))
        # Some old tests give data for initializers too.
        values = free_inputs(model) if len(ins) == len(free_inputs(model)) else list(model.graph.input)
        write_side(os.path.join(folder, "inputs"), "input", ins, values)
        write_side(os.path.join(folder, "expected"), "output", outs, list(model.graph.output))
        index.append({
            "name": name, "group": group, "op": op, "types": types, "promoted": moved, "excluded_by": sorted(why),
            "exotic": bool(set(types) & set(EXOTIC)), "rtol": rtol, "atol": atol,
            "elements": max([1] + [math.prod(x.shape) for x in ins + outs if isinstance(x, np.ndarray)]),
        })
    index.sort(key=lambda t: (t["group"], t["name"]))
    with open(os.path.join(a.out, "tests.json"), "w") as f:
        json.dump({"onnx": onnx.__version__, "tests": index}, f, indent=0)
    marked = sum(bool(t["excluded_by"]) for t in index)
    print(f"onnx {onnx.__version__}: {n_cases} tests, {sum(bool(t['promoted']) for t in index)} with promoted inputs, "
          f"{marked} of strings, random numbers or image files; written to {a.out}")


if __name__ == "__main__":
    main()
