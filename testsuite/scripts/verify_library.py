#!/usr/bin/env python3
"""Verifies the fetched models as libraries: compiled to files, linked into a C program, run as a process.

    fetch_models.py                                              once
    verify_library.py [--levels x86-64-v1,aarch64] [--only NAMES] [--docs docs/verification.md]

Every cell is a library of its own, for the shapes of the case. The program computes each output twice in a workspace that
held other garbage, and the outputs must agree with the reference within the case's tolerances. aarch64 runs under
qemu-aarch64. What this machine lacks is skipped and named, never counted as passed. A cell of the table shows the largest
difference as a share of the tolerance.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time

import numpy as np

import library

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def share_of_tolerance(ours, reference, rtol, atol):
    """The largest difference over what is allowed there: at most 1 where they agree; infinite where they cannot be compared."""
    if ours.shape != reference.shape:
        return float("inf")
    if reference.dtype.kind not in "fc":
        return 0.0 if np.array_equal(ours, reference) else float("inf")
    a, b = ours.astype(np.float64), reference.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not np.isfinite(np.where(same, 0, a - b)).all():
        return float("inf")
    with np.errstate(invalid="ignore"):
        return float(np.max(np.where(same, 0, np.abs(a - b) / np.maximum(atol + rtol * np.abs(b), 1e-300)), initial=0))


def check(tinsmith, base, case, level, folder, timeout):
    """(cell of the table, what went wrong)"""
    try:
        feeds, reference = (dict(np.load(f"{base}/case_{case['name']}.{x}.npz")) for x in ("in", "ref"))
        facts = library.build(tinsmith, f"{base}/model.onnx", folder, level, {n: x.shape for n, x in feeds.items()})
        outputs = library.run(facts, folder, level, feeds, timeout=timeout)
        missing = [n for n in reference if n not in outputs]
        if missing:
            return "WRONG", f"no outputs {missing}"
        shares = {n: share_of_tolerance(outputs[n], reference[n], case["rtol"], case["atol"]) for n in reference}
        worst = max(shares, key=shares.get)
        return (f"{shares[worst]:.1e}", "") if shares[worst] <= 1 else ("WRONG", f"output {worst} differs by {shares[worst]:.3g} times the tolerance")
    except library.Failure as e:
        return e.word, e.text


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--models", default=os.path.join(ROOT, "target", "models"), help="where fetch_models.py wrote")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="the command, with what must stand before it")
    ap.add_argument("--levels", default=",".join([*library.LEVELS, "aarch64"]), help="separated by commas; x86-64-v1 to v4, aarch64")
    ap.add_argument("--only", default="", help="names of models, separated by commas")
    ap.add_argument("--timeout", type=float, default=600, help="seconds for one program")
    ap.add_argument("--docs", help="a file for the table, in Markdown")
    a = ap.parse_args()
    with open(os.path.join(a.models, "manifest.json")) as f:
        models = json.load(f)["models"]
    if a.only:
        models = {n: models[n] for n in a.only.split(",")}
    skipped, levels = {}, []
    for level in a.levels.split(","):
        needed = ["aarch64-linux-gnu-gcc", "qemu-aarch64"] if level == "aarch64" else ["cc"]
        absent = [x for x in needed if not shutil.which(x)]
        if library.lacks(level) or absent:
            skipped[level] = f"this machine lacks {', '.join(absent) or level}"
        else:
            levels.append(level)

    width = max(len(f"{m} {c['name']}") for m, e in models.items() for c in e["cases"])
    print(f"{'':{width}} " + "".join(f"{x:11}" for x in levels))
    rows, problems, n_passed, n_failed = [], [], 0, 0
    for name, entry in models.items():
        for case in entry["cases"]:
            print(f"{name + ' ' + case['name']:{width}} ", end="", flush=True)
            cells = []
            for level in levels:
                with tempfile.TemporaryDirectory() as folder:
                    cell, text = check(a.tinsmith, os.path.join(a.models, name), case, level, folder, a.timeout)
                print(f"{cell:11}", end="", flush=True)
                cells.append(cell)
                n_passed, n_failed = n_passed + (not text), n_failed + bool(text)
                if text:
                    problems.append(f"{name} {case['name']} {level}: {cell}\n" + "".join(f"    {x}\n" for x in text.strip().splitlines()[:8]))
            print()
            rows.append(f"| {name} | {case['name']} | {case['rtol']:g} | {case['atol']:.2g} | " + " | ".join(cells) + " |\n")
    if problems:
        print("\n" + "\n".join(problems))
    for level, reason in skipped.items():
        print(f"skipped: {level}: {reason}")
    last = f"{n_passed} passed, {n_failed} failed, {len(skipped)} skipped"
    if a.docs:
        heads = [f"{x} (emulated)" if x == "aarch64" else x for x in levels]
        with open(a.docs, "w") as f:
            f.write("# Trained models as libraries\n\n"
                    "Written by `testsuite/scripts/verify_library.py --docs docs/verification.md`. Each cell is a static library compiled for the\n"
                    "shapes of the case, linked into a C program and run twice, each time in a workspace that held other garbage. It shows the\n"
                    "largest difference from the reference, which onnxruntime computed, as a share of what is allowed (`atol + rtol |reference|`):\n"
                    "at most 1 agrees. aarch64 is not hardware here but an emulator, qemu-aarch64.\n\n"
                    f"{library.machine()}; {time.strftime('%Y-%m-%d', time.gmtime())}: {last}.\n\n")
            f.writelines(f"Skipped: {level}: {reason}.\n\n" for level, reason in skipped.items())
            f.write(f"| model | case | rtol | atol | {' | '.join(heads)} |\n|" + " --- |" * (4 + len(levels)) + "\n" + "".join(rows))
    print(last)
    sys.exit(0 if n_passed and not n_failed else 1)


if __name__ == "__main__":
    main()
