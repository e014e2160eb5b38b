#!/usr/bin/env python3
"""Runs operators of other domains than ONNX's own, in every form that matters, through onnxruntime and tinsmith, and compares.

    verify_contrib.py [--tinsmith target/release/tinsmith] [--only NAMES] [--keep DIR] [--record]

Each case is a model of one node. It is run twice: with its weights as constants, and with everything an input. onnxruntime runs
it without optimizations on the CPU; where that has no kernel for a form, the case is not here.
"""
import argparse
import concurrent.futures
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import contrib_cases
import one_node
import operator_record
from npy_types import type_name

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def model_of(case, constant):
    """The model, with the operands named in `constant` as initializers."""
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(case.operands)]
    while names and not names[-1]:
        names.pop()
    outputs = [f"y{i}" if used else "" for i, used in enumerate(case.results)]
    node = helper.make_node(case.op, names, outputs, domain=case.domain, **case.attributes)
    inputs, initializers = [], []
    for name, x in zip(names, case.operands):
        if name in constant:
            initializers.append(numpy_helper.from_array(x, name))
        elif name:
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape))
    # Types of the results are onnxruntime's to infer.
    results = [helper.make_empty_tensor_value_info(o) for o in outputs if o]
    graph = helper.make_graph([node], "case", inputs, results, initializers)
    opsets = {"": 20, "com.microsoft": 1, "ai.onnx.ml": case.ml_opset}
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()], ir_version=9)


def expected_of(model, feeds):
    session = one_node.session_of(model)
    typed = {o.name: o for o in session.get_outputs()}
    names = [o.name for o in model.graph.output]
    values = session.run(names, feeds)
    del model.graph.output[:]
    for name, value in zip(names, values):
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.output.append(helper.make_tensor_value_info(name, dtype, value.shape))
        assert name in typed
    return dict(zip(names, values))


def compare(got, expected, case):
    """What differs, or an empty string."""
    found = (one_node.difference(name, got[name], want, lambda size: case.atol + case.rtol * size) for name, want in expected.items())
    return next(filter(None, found), "")


def run(case, number, options, folder):
    """Lines that say what is wrong with a case, its element types by ONNX's names, and the emitters of its code."""
    problems, types, emitters = [], set(), set()
    operands = {f"x{i}" for i, x in enumerate(case.operands) if x is not None}
    weights = {f"x{i}" for i in case.weights} & operands
    forms = {"weights constant": weights, "all inputs": {f"x{i}" for i in case.fixed} & operands}
    if not weights:
        del forms["weights constant"]
    for form, constant in forms.items():
        base = os.path.join(folder, f"{number:04}_{case.op}_{form.replace(' ', '_')}")
        feeds = {f"x{i}": x for i, x in enumerate(case.operands) if x is not None and f"x{i}" not in constant}
        model = model_of(case, constant)
        try:
            expected = expected_of(model, feeds)
        except Exception as e:
            problems.append(f"{case}, {form}: onnxruntime: {str(e).strip()[:300]}")
            continue
        onnx.save(model, base + ".onnx")
        np.savez(base + ".in.npz", **feeds)
        command = [*options.tinsmith.split(), "run", base + ".onnx", base + ".in.npz", "-o", base + ".out.npz", "--json"]
        p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
        if p.returncode != 0:
            problems.append(f"{case}, {form}: status {p.returncode}: {p.stderr.decode('utf-8', 'replace').strip()[:600]}")
            continue
        with np.load(base + ".out.npz") as got:
            difference = compare(got, expected, case)
        if difference:
            problems.append(f"{case}, {form}: {difference}")
        types |= {type_name(x) for x in [*case.operands, *expected.values()] if x is not None}
        emitters |= set(operator_record.emitters(p.stdout))
        if not options.keep:
            for end in [".onnx", ".in.npz", ".out.npz"]:
                os.remove(base + end)
    return problems, types, emitters


def recorded(cases, found):
    """Of every operator what the record keeps."""
    table = {}
    for case, (problems, types, emitters) in zip(cases, found):
        table.setdefault(f"{case.domain}.{case.op}" if case.domain else case.op, []).append((problems, types, emitters))
    return {
        name: operator_record.tests(
            sum(not p for p, _, _ in of), 0, sum(bool(p) for p, _, _ in of), set().union(*(t for p, t, _ in of if not p)),
            set().union(*(e for p, _, e in of if not p)), next((p[0] for p, _, _ in of if p), ""))
        for name, of in sorted(table.items())
    }


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="the command, with what must stand before it")
    ap.add_argument("--only", default="", help="names of operators, separated by commas")
    ap.add_argument("--keep", help="a folder for the models and tensors")
    ap.add_argument("--record", action="store_true", help="write what was found to the record of operators and to docs/operators.md")
    options = ap.parse_args()
    only = set(filter(None, options.only.split(",")))
    cases = [c for c in contrib_cases.all_cases() if not only or c.op in only]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or temporary
        os.makedirs(folder, exist_ok=True)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(lambda job: run(job[1], job[0], options, folder), enumerate(cases)))
    problems = [line for lines, _, _ in found for line in lines]
    for line in problems:
        print(line)
    failed = sum(bool(lines) for lines, _, _ in found)
    print(f"{len({c.op for c in cases})} operators, {len(cases)} cases: {len(cases) - failed} agree with onnxruntime {onnxruntime.__version__}, {failed} do not")
    if options.record and not only:
        operator_record.update(options.tinsmith, {"onnxruntime": onnxruntime.__version__, "cases": recorded(cases, found)})
    sys.exit(1 if problems or not cases else 0)


if __name__ == "__main__":
    main()
