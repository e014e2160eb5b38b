#!/usr/bin/env python3
"""Measures a compiled model on a labelled task, and compares it with onnxruntime sample by sample.

    verify_task.py TASK [--tinsmith CMD] [--cpu LEVEL] [--samples N]

TASK is a folder with `model.onnx`, `data.npz` (`x`, `y`) and `task.json` (`input`, `preprocess`, `mean`, `std`). Images
are u8[n,h,w] and become f32[n,c,h,w]; the label is the index of the largest output. Fails where a sample is classified
otherwise than by onnxruntime.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("task")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="the command, with what must stand before it")
    ap.add_argument("--cpu", help="instruction set level")
    ap.add_argument("--samples", type=int, help="only the first N")
    ap.add_argument("--batch", type=int, default=100, help="samples a process")
    a = ap.parse_args()
    with open(os.path.join(a.task, "task.json")) as f:
        task = json.load(f)
    data, model = np.load(os.path.join(a.task, "data.npz")), os.path.join(a.task, "model.onnx")
    x, labels = data["x"][:a.samples], data["y"][:a.samples]
    if task["preprocess"] == "image":
        x = x.astype(np.float32) / np.float32(255)
        x = np.stack([(x - np.float32(task["mean"][c])) / np.float32(task["std"][c]) for c in range(task["channels"])], 1)

    session, ours, theirs = ort.InferenceSession(model, providers=["CPUExecutionProvider"]), [], []
    first = session.get_outputs()[0].name
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = os.path.join(scratch, "in.npz"), os.path.join(scratch, "out.npz")
        for i in range(0, len(x), a.batch):
            feeds = {task["input"]: np.ascontiguousarray(x[i:i + a.batch])}
            np.savez(inputs, **feeds)
            command = [*shlex.split(a.tinsmith), "run", model, inputs, "-o", outputs, *(["--cpu", a.cpu] if a.cpu else [])]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            with np.load(outputs) as z:
                ours.append(z[first])
            theirs.append(session.run([first], feeds)[0])
    ours, theirs = np.concatenate(ours), np.concatenate(theirs)
    a_ours, a_theirs = ours.argmax(-1), theirs.argmax(-1)
    for i in np.flatnonzero(a_ours != a_theirs):
        print(f"sample {i}: label {labels[i]}, ours {a_ours[i]}, onnxruntime {a_theirs[i]}")
    n, agree = len(labels), int((a_ours == a_theirs).sum())
    right = lambda p: f"{int((p == labels).sum())} of {n} right ({100 * float((p == labels).mean()):.2f}%)"
    print(f"{task['name']}: {right(a_ours)}, onnxruntime {right(a_theirs)}; same class on {agree} of {n}, "
          f"largest difference {np.abs(ours - theirs).max():.2e}")
    sys.exit(0 if agree == n else 1)


if __name__ == "__main__":
    main()
