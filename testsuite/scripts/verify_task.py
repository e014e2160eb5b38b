#!/usr/bin/env python3
"""Measures a compiled model on a labelled task, and compares it with onnxruntime sample by sample.

    verify_task.py TASK [--tinsmith CMD] [--levels x86-64-v1,aarch64] [--samples N] [--docs FILE]

TASK is a folder with `model.onnx`, `data.npz` (`x`, `y`) and `task.json` (`input`, `preprocess`, `mean`, `std`). Images
are u8[n,h,w] and become f32[n,c,h,w]; the label is the index of the largest output. At each level the model is compiled to a
static library for one sample and linked into a C program, which classifies all samples; aarch64 runs under qemu-aarch64.
Fails where a sample is classified otherwise than by onnxruntime. `--docs` appends a section to a file.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import onnxruntime as ort

import library

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def load(folder, samples):
    """(task.json, inputs of all samples, labels)"""
    with open(os.path.join(folder, "task.json")) as f:
        task = json.load(f)
    data = np.load(os.path.join(folder, "data.npz"))
    x, labels = data["x"][:samples], data["y"][:samples]
    if task["preprocess"] == "image":
        x = x.astype(np.float32) / np.float32(255)
        x = np.stack([(x - np.float32(task["mean"][c])) / np.float32(task["std"][c]) for c in range(task["channels"])], 1)
    return task, np.ascontiguousarray(x), labels


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("task")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="the command, with what must stand before it")
    ap.add_argument("--levels", default=",".join([*library.LEVELS, "aarch64"]), help="separated by commas; x86-64-v1 to v4, aarch64")
    ap.add_argument("--samples", type=int, help="only the first N")
    ap.add_argument("--docs", help="a Markdown file to append to")
    a = ap.parse_args()
    task, x, labels = load(a.task, a.samples)
    model = os.path.join(a.task, "model.onnx")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    first = session.get_outputs()[0].name
    theirs = np.concatenate([session.run([first], {task["input"]: x[i:i + 1]})[0] for i in range(len(x))])
    n = len(labels)

    def right(outputs):
        good = outputs.argmax(-1) == labels
        return f"{int(good.sum())} of {n} ({100 * float(good.mean()):.2f}%)"

    print(f"{task['name']}: onnxruntime {right(theirs)} right")
    rows, n_passed, n_failed, skipped = [], 0, 0, 0
    for level in a.levels.split(","):
        needed = ["aarch64-linux-gnu-gcc", "qemu-aarch64"] if level == "aarch64" else ["cc"]
        absent = [p for p in needed if not shutil.which(p)]
        if library.lacks(level) or absent:
            print(f"skipped: {level}: this machine lacks {', '.join(absent) or level}")
            skipped += 1
            continue
        with tempfile.TemporaryDirectory() as folder:
            facts = library.build(a.tinsmith, model, folder, level, {task["input"]: [1, *x.shape[1:]]})
            ours = library.run(facts, folder, level, {task["input"]: x}, samples=n)[first].reshape(theirs.shape)
        differ = np.flatnonzero(ours.argmax(-1) != theirs.argmax(-1))
        for i in differ:
            print(f"sample {i}: label {labels[i]}, ours {ours[i].argmax()}, onnxruntime {theirs[i].argmax()}")
        n_passed, n_failed = n_passed + (not len(differ)), n_failed + bool(len(differ))
        largest = np.abs(ours - theirs).max()
        print(f"{level}: {right(ours)} right; same class as onnxruntime on {n - len(differ)} of {n}, largest difference {largest:.2e}")
        rows.append(f"| {level}{' (emulated)' if level == 'aarch64' else ''} | {right(ours)} | {n - len(differ)} of {n} | {largest:.1e} |\n")
    if a.docs:
        with open(a.docs, "a") as f:
            f.write(f"\n## {task['name']}\n\nA labelled task by `testsuite/scripts/verify_task.py --docs`: one static library a level, {n} samples, onnxruntime right on\n"
                    f"{right(theirs)}.\n\n| level | right | same class as onnxruntime | largest difference of an output |\n| --- | --- | --- | --- |\n" + "".join(rows))
    print(f"{n_passed} passed, {n_failed} failed, {skipped} skipped")
    sys.exit(0 if n_passed and not n_failed else 1)


if __name__ == "__main__":
    main()
