"""The record of what tests found of each operator, which `tinsmith ops` shows, and the document that it makes of it.

`run_conformance.py` writes the part of ONNX's tests, `verify_contrib.py --record` that of the cases beside onnxruntime.
"""
import json
import os
import shlex
import subprocess

import onnx.defs

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RECORD = os.path.join(ROOT, "compiler", "src", "cli", "ops", "record.json")
DOCUMENT = os.path.join(ROOT, "docs", "operators.md")
# By ONNX's name; those that are not here are the same in small letters.
TYPES = {"FLOAT": "f32", "DOUBLE": "f64", "FLOAT16": "f16", "BFLOAT16": "bf16"}


def type_name(onnx_name):
    """The compiler's name of an element type: INT8 is i8, FLOAT8E4M3FN f8e4m3fn."""
    small = TYPES.get(onnx_name, onnx_name.lower())
    for long, short in (("uint", "u"), ("int", "i"), ("float", "f")):
        if small.startswith(long):
            return short + small[len(long):]
    return small


def tests(passed, refused, wrong, types, emitters, reason):
    """What is known of some tests together; `types` are ONNX's names."""
    return {"tests": passed + refused + wrong, "passed": passed, "refused": refused, "wrong": wrong,
            "types": sorted(map(type_name, types)), "emitters": sorted(emitters), "reason": reason}


def emitters(stdout):
    """What made the code, from what `tinsmith run --json` prints."""
    try:
        return tuple({kernels.split()[0] for kernels in json.loads(stdout)["emitters"]["kernels"]})
    except (ValueError, KeyError, TypeError):
        return ()


def versions():
    """The versions of every operator of ONNX that is not only a training step's."""
    found = {}
    for s in onnx.defs.get_all_schemas_with_history():
        found.setdefault(f"{s.domain}.{s.name}" if s.domain else s.name, set()).add(s.since_version)
    return {name: sorted(found[name]) for name in sorted(found)}


def ops(tinsmith, *more):
    return subprocess.run([*shlex.split(tinsmith), "ops", "--record", RECORD, *more], check=True, stdout=subprocess.PIPE, text=True).stdout


def full_names(tinsmith):
    """A function from an operator's name to that with its domain; the default domain goes before others."""
    known = {o["name"] for o in json.loads(ops(tinsmith, "--json"))["operators"]} | set(versions())
    by_short = {}
    for name in sorted(known, key=lambda n: (-n.count("."), n)):
        if not name.startswith("com."):
            by_short[name.rsplit(".", 1)[-1]] = name
    return lambda short: by_short.get(short, short)


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def one_line_each(value, depth=0):
    """JSON with a line for every entry of the second level, so that changes show."""
    if depth == 2 or not isinstance(value, dict):
        return json.dumps(value)
    pad = " " * (depth + 1)
    lines = [f"{pad}{json.dumps(k)}: {one_line_each(v, depth + 1)}" for k, v in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}" if lines else "{}"


def update(tinsmith, part):
    """Replaces parts of the record, and writes the document anew."""
    with open(RECORD) as f:
        record = json.load(f)
    record.update(part)
    write(RECORD, one_line_each(record) + "\n")
    write(DOCUMENT, ops(tinsmith, "--markdown"))
