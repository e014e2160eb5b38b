#!/usr/bin/env python3
"""Runs operators as every opset that changed them wrote them, and with every element type that they take, and compares.

    verify_opsets.py [--tinsmith target/release/tinsmith] [--only NAMES] [--versions] [--types] [--keep DIR]

Each case is a model of one node. The expected values are the case's own where it has a formula, or those of a formula where what others
compute is not what the specification says, each with its reason (`RIGHT`); else those of onnxruntime without optimizations, else of
onnx's reference, else those of a wider type, rounded. The cases are in `opset_cases.py`.
"""
import argparse
import collections
import concurrent.futures
import os
import subprocess
import sys
import tempfile

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import npy_types
import one_node
import operator_record
import opset_cases
from opset_cases import X

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Names in schemas: numpy types.
TYPES = {f"tensor({name.lower()})": np.dtype(t) for name, t in npy_types.PLAIN.items() if "COMPLEX" not in name}
TYPES |= {f"tensor({name.lower()})": t for name, t in npy_types.EXOTIC.items()}
PREFERRED = ["tensor(float)", "tensor(int64)", "tensor(bool)", "tensor(uint8)"]


def kind(dtype):
    """`f`, `i`, `u` or `b`, also for the types that numpy lacks."""
    name = np.dtype(dtype).name
    return "b" if name == "bool" else "u" if name.startswith("uint") else "i" if name.startswith("int") else "f"


def elements(spec, dtype, seed):
    """The elements of an operand in this type."""
    r = np.random.default_rng(seed)
    if kind(dtype) == "b":
        return r.random(spec.dims) < 0.5
    low, high = spec.low, spec.high
    if kind(dtype) == "u":
        low = max(low, 0)
    if kind(dtype) == "f":
        return (np.round(r.uniform(low, high, spec.dims) * spec.grain) / spec.grain).astype(dtype)
    low, high = int(np.ceil(low)), int(np.floor(high))
    if "4" in np.dtype(dtype).name and "64" not in np.dtype(dtype).name:
        low, high = max(low, -8), min(high, 7)
    if np.dtype(dtype).name in ["int2", "uint2"]:
        low, high = max(low, -2), min(high, 1)
    values = r.integers(low, high + 1, spec.dims)
    if spec.nonzero:
        values = np.where(values == 0, 1, values)
    return np.asarray(values).astype(dtype)


def schemas_of(op):
    """The schemas of an operator, oldest first."""
    return sorted((s for s in defs.get_all_schemas_with_history() if s.name == op and s.domain == ""), key=lambda s: s.since_version)


def variable_of(schema, i):
    return schema.inputs[min(i, len(schema.inputs) - 1)].type_str


def allowed(schema, variable):
    for c in schema.type_constraints:
        if c.type_param_str == variable:
            return [t for t in c.allowed_type_strs if t in TYPES]
    return [variable] if variable in TYPES else []


def default_type(schema, variable):
    types = allowed(schema, variable)
    return next((t for t in PREFERRED if t in types), types[0] if types else None)


class Job:
    """One model with operands."""

    def __init__(self, case, schema, types, seed):
        self.case, self.schema, self.types = case, schema, types
        self.operands = []
        for i, x in enumerate(case.operands):
            if isinstance(x, X):
                x = elements(x, TYPES[types[variable_of(schema, i)]], seed * 31 + i)
            self.operands.append(x)

    def __str__(self):
        shapes = [f"{np.dtype(x.dtype).name}{list(x.shape)}" if x is not None else "_" for x in self.operands]
        return f"{self.case.op}-{self.schema.since_version}({', '.join(shapes)}) {self.case.attributes}"

    def model(self):
        case = self.case
        names = [f"x{i}" if x is not None else "" for i, x in enumerate(self.operands)]
        while names and not names[-1]:
            names.pop()
        node = helper.make_node(case.op, names, [f"y{i}" for i in range(case.results)], **case.attributes)
        inputs, initializers = [], []
        for i, (name, x) in enumerate(zip(names, self.operands)):
            dtype = x is not None and TensorProto.DataType.Value(npy_types.type_name(x))
            if i in case.fixed and name:
                value = helper.make_tensor(name, dtype, x.shape, x.tobytes(), raw=True) if x.dtype.kind != "V" and npy_types.type_name(x) not in npy_types.STORAGE else numpy_helper.from_array(x, name)
                initializers.append(value)
            if name and (i not in case.fixed or self.schema.since_version < 9):
                inputs.append(helper.make_tensor_value_info(name, dtype, x.shape))
        outputs = [helper.make_empty_tensor_value_info(f"y{i}") for i in range(case.results)]
        graph = helper.make_graph([node], "case", inputs, outputs, initializers)
        ir = 3 if self.schema.since_version < 9 else 8 if self.schema.since_version < 21 else 10
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.schema.since_version)], ir_version=ir)

    def feeds(self):
        return {f"x{i}": x for i, x in enumerate(self.operands) if x is not None and i not in self.case.fixed}


def of_onnxruntime(job):
    if any(npy_types.type_name(x) in npy_types.STORAGE for x in job.operands if x is not None):
        raise NotImplementedError("types that numpy lacks")
    return one_node.session_of(job.model()).run(None, job.feeds())


def of_reference(job):
    return ReferenceEvaluator(job.model()).run(None, job.feeds())


def of_wider(job):
    """Floats in f32, integers in 64 bits; results of the operands' type are rounded to it."""
    wide = {}
    for variable, name in job.types.items():
        dtype = TYPES[name]
        options = [t for t in (["tensor(float)"] if kind(dtype) == "f" else ["tensor(int64)", "tensor(int32)"]) if t in allowed(job.schema, variable)]
        if kind(dtype) != "b" and options:
            wide[variable] = options[0]
    other = Job(job.case, job.schema, {**job.types, **wide}, 0)
    narrow = {}
    for i, x in enumerate(job.operands):
        variable = variable_of(job.schema, i) if isinstance(job.case.operands[i], X) else None
        if variable in wide:
            other.operands[i] = x.astype(TYPES[wide[variable]])
            narrow[variable] = x.dtype
        else:
            other.operands[i] = x
    try:
        results = of_onnxruntime(other)
    except Exception:
        results = of_reference(other)
    for k, y in enumerate(results):
        variable = job.schema.outputs[min(k, len(job.schema.outputs) - 1)].type_str
        if variable in narrow:
            results[k] = np.asarray(y).astype(narrow[variable])
    return results


def expected_of(job):
    dtypes = {np.dtype(TYPES[name]).name for name in job.types.values()}
    right = next((r for r in opset_cases.RIGHT if r.op == job.case.op and dtypes & r.dtypes and r.applies(job.case)), None)
    formula = job.case.expected or right and (lambda *x: right.expected(job.case.attributes, *x))
    if formula:
        results = formula(*job.operands)
        return "formula", list(results) if isinstance(results, tuple) else [results]
    problems = []
    for name, reference in [("onnxruntime", of_onnxruntime), ("onnx", of_reference), ("wider", of_wider)]:
        try:
            return name, [np.asarray(y) for y in reference(job)]
        except Exception as e:
            problems.append(f"{name}: {str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__}")
    return "none", problems


TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "float16": 2e-3, "bfloat16": 1.6e-2, "float8_e4m3fn": 0.13, "float8_e4m3fnuz": 0.13,
             "float8_e5m2": 0.26, "float8_e5m2fnuz": 0.26}


def compare(job, got, expected):
    """What differs, or an empty string."""
    for i, want in enumerate(expected):
        have = npy_types.from_file(got[f"y{i}"], npy_types.type_name(want))
        bound = max([TOLERANCE.get(want.dtype.name, 0), *opset_cases.coarser(job, TOLERANCE)]) * job.case.slack
        found = one_node.difference(f"y{i}", have, want, lambda size: bound * np.maximum(size, 1))
        if found:
            return found
    return ""


def run(job, number, options, folder):
    """How it went, and the details."""
    reference, expected = expected_of(job)
    base = os.path.join(folder, f"{number:05}_{job.case.op}_{job.schema.since_version}")
    try:
        model = job.model()
    except Exception as e:
        return "no model", str(e)[:200]
    if reference != "none":
        del model.graph.output[:]
        for i, value in enumerate(expected):
            dtype = TensorProto.DataType.Value(npy_types.type_name(value))
            model.graph.output.append(helper.make_tensor_value_info(f"y{i}", dtype, value.shape))
    onnx.save(model, base + ".onnx")
    np.savez(base + ".in.npz", **{k: npy_types.to_file(x) for k, x in job.feeds().items()})
    command = [*options.tinsmith.split(), "run", base + ".onnx", base + ".in.npz", "-o", base + ".out.npz"]
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    try:
        if p.returncode not in [0, 2]:
            return "crash" if p.returncode not in [3] else "refused", f"status {p.returncode}: {p.stdout.decode('utf-8', 'replace').strip()[:400]}"
        if p.returncode == 2:
            return "refused", p.stdout.decode("utf-8", "replace").strip().splitlines()[0][:300] + (f" [no reference: {'; '.join(expected)}]" if reference == "none" else f" [{reference}]")
        if reference == "none":
            return "no reference", "; ".join(expected)
        with np.load(base + ".out.npz") as got:
            difference = compare(job, got, expected)
        return ("wrong", f"{difference} [{reference}]") if difference else (f"agrees with {reference}", "")
    finally:
        if not options.keep:
            for end in [".onnx", ".in.npz", ".out.npz"]:
                if os.path.exists(base + end):
                    os.remove(base + end)


def jobs(options):
    only = set(filter(None, options.only.split(",")))
    everything = not options.versions and not options.types
    for case in opset_cases.all_cases():
        if only and case.op not in only:
            continue
        all_schemas = schemas_of(case.op)
        schemas = [s for s in all_schemas if case.since <= s.since_version < case.until]
        for schema in schemas:
            # A variadic operand may have more than the schema names.
            variables = list(dict.fromkeys(variable_of(schema, i) for i, x in enumerate(case.operands) if isinstance(x, X)))
            defaults = {v: default_type(schema, v) for v in variables}
            if options.versions or everything:
                yield Job(case, schema, defaults, 1)
            if (options.types or everything) and schema is schemas[-1] and case.types:
                for v in variables:
                    for t in allowed(schema, v):
                        if t != defaults[v] or not (options.versions or everything):
                            yield Job(case, schema, {**defaults, v: t}, 2)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="the command, with what must stand before it")
    ap.add_argument("--only", default="", help="names of operators, separated by commas")
    ap.add_argument("--versions", action="store_true", help="only every opset")
    ap.add_argument("--types", action="store_true", help="only every element type")
    ap.add_argument("--keep", help="a folder for the models and tensors")
    ap.add_argument("--quiet", action="store_true", help="do not list what no reference computes")
    ap.add_argument("--record", action="store_true", help="keep the element types that agree in the record of operators, and in docs/operators.md")
    options = ap.parse_args()
    all_jobs = list(jobs(options))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or temporary
        os.makedirs(folder, exist_ok=True)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(lambda job: run(job[1], job[0], options, folder), enumerate(all_jobs)))
    counts = collections.Counter(status for status, _ in found)
    for status in ["crash", "wrong", "no model", "refused", "no reference"]:
        for job, (s, detail) in zip(all_jobs, found):
            if s == status and not (options.quiet and s == "no reference"):
                print(f"{status}: {job}: {detail}")
    if options.record and not options.only:
        agreed = collections.defaultdict(set)
        for job, (status, _) in zip(all_jobs, found):
            if status.startswith("agrees"):
                agreed[job.case.op] |= {operator_record.type_name(npy_types.NAME_OF[TYPES[t]]) for t in job.types.values()}
        operator_record.update(options.tinsmith, {"types": {op: sorted(agreed[op]) for op in sorted(agreed)}})
    names = {c.op for c in opset_cases.all_cases()}
    missing = sorted({s.name for s in defs.get_all_schemas_with_history() if s.domain == ""} - names - opset_cases.ELSEWHERE)
    print(f"without a case: {', '.join(missing) or 'none'}")
    print(f"{len({j.case.op for j in all_jobs})} operators, {len(all_jobs)} models: {dict(counts)}")
    sys.exit(1 if counts["crash"] or counts["wrong"] or not all_jobs else 0)


if __name__ == "__main__":
    main()
