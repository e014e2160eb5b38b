#!/usr/bin/env python3
"""Measures libraries: what they hold beyond the weights, their workspace, and how long compiling takes.

    measure_sizes.py [--models DIR] [--bench DIR] [--files FILE.onnx,...] [--only NAMES] [--docs docs/sizes.md]

The weights are the constants of the model as it was read, or those of the library where they are fewer bytes (folded, shared,
pruned). Beyond them a library holds code, what layouts and transforms added to constants, and the archive itself; it may hold
64 KiB and 3 KiB a node.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time

import library

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def measure(tinsmith, model, level, shapes):
    """Facts of one library."""
    options = [x for name, dims in shapes.items() for x in ("--input-shape", f"{name}={','.join(map(str, dims))}")]
    options += ["--cpu", level] if level != "aarch64" else ["--target", library.AARCH64]
    command = shlex.split(tinsmith)
    seen = json.loads(library.command([*command, "inspect", model, "--json", *options], 600, {2: "refused"}))
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        facts = json.loads(library.command([*command, "compile", model, "-o", folder, "--json", "--for", "size", *options], 600, {2: "refused"}))
        seconds = time.time() - start
        size = next(f["bytes"] for f in facts["files"] if f["path"].endswith(".a"))
    return {"nodes": facts["n_nodes"], "steps": facts["n_steps"], "library": size, "constants": facts["constant_bytes"],
            "weights": seen["parameter_bytes"], "workspace": facts["workspace_bytes"], "bound": facts["workspace_lower_bound_bytes"],
            "stack": facts["stack_bytes"], "seconds": seconds}


def subjects(a):
    """(name, file, shapes of inputs) of every model asked for"""
    if a.models:
        with open(os.path.join(a.models, "manifest.json")) as f:
            for name, entry in json.load(f)["models"].items():
                case = entry["cases"][0]
                yield name, os.path.join(a.models, name, "model.onnx"), {n: dims[1:] for n, dims in case["inputs"].items()}
    if a.bench:
        for file in sorted(os.listdir(a.bench)):
            if file.endswith(".onnx"):
                yield file[:-5], os.path.join(a.bench, file), {}
    for file in filter(None, a.files.split(",")):
        yield os.path.basename(file).removesuffix(".onnx"), file, {}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--models", help="where fetch_models.py wrote")
    ap.add_argument("--bench", help="a folder of ONNX files with fixed shapes, as bench/export_models.py writes")
    ap.add_argument("--files", default=os.path.join(ROOT, "examples", "digits", "digits.onnx"), help="ONNX files, separated by commas")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="the command, with what must stand before it")
    ap.add_argument("--level", default="x86-64-v3", help="x86-64-v1 to v4, or aarch64")
    ap.add_argument("--only", default="", help="names of models, separated by commas")
    ap.add_argument("--docs", help="a file for the table, in Markdown")
    a = ap.parse_args()
    only = set(filter(None, a.only.split(",")))
    print(f"{'':20} {'nodes':>6} {'steps':>6} {'library':>11} {'weights':>11} {'constants':>11} {'beyond':>9} {'limit':>9} {'share':>6} {'work/bound':>10} {'s':>6}")
    rows, over, failed = [], [], []
    for name, file, shapes in subjects(a):
        if only and name not in only:
            continue
        try:
            m = measure(a.tinsmith, file, a.level, shapes)
        except library.Failure as e:
            print(f"{name:20} {e.word}: {e.text[:300]}")
            failed.append(name)
            continue
        beyond, limit = m["library"] - min(m["weights"], m["constants"]), 65536 + 3072 * m["nodes"]
        plan = m["workspace"] / m["bound"] if m["bound"] else 1.0
        print(f"{name:20} {m['nodes']:6} {m['steps']:6} {m['library']:11} {m['weights']:11} {m['constants']:11} {beyond:9} {limit:9} {beyond / limit:6.2f} {plan:10.3f} "
              f"{m['seconds']:6.2f}", flush=True)
        rows.append(f"| {name} | {m['nodes']} | {m['library']} | {m['weights']} | {beyond} | {beyond / limit:.2f} | {m['workspace']} | {plan:.3f} | {m['seconds']:.2f} |\n")
        over += [name] if beyond > limit else []
    last = f"{len(rows)} libraries, {len(over)} over the limit{': ' + ', '.join(over) if over else ''}, {len(failed)} failed"
    if a.docs:
        with open(a.docs, "w") as f:
            f.write("# Sizes of libraries\n\nWritten by `testsuite/scripts/measure_sizes.py`, compiled with `--for size`, in bytes. *Beyond* is the library without the model's weights, or without its own\n"
                    "constants where those are smaller; the share is of what it may hold, 64 KiB and 3 KiB a node. The workspace stands beside its ratio to\n"
                    "the largest set of tensors alive at once, which no plan undercuts. Seconds are those of the whole command.\n\n"
                    f"{a.level}; {library.machine()}; {time.strftime('%Y-%m-%d', time.gmtime())}: {last}.\n\n"
                    "| model | nodes | library | weights | beyond | share of limit | workspace | of its lower bound | compiled in s |\n|" + " --- |" * 9 + "\n")
            f.writelines(rows)
    print(last)
    sys.exit(1 if over or failed or not rows else 0)


if __name__ == "__main__":
    main()
