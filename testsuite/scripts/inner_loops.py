#!/usr/bin/env python3
"""Counts the instructions of inner loops on aarch64, by Cranelift and by the emitter of instructions: what can be said of speed without
such a machine.

    inner_loops.py [--tinsmith COMMAND] NAME=MODEL.onnx...

Of each model that one innermost loop counts that has most multiply-adds of vectors. Prints a table in Markdown.
"""
import argparse
import glob
import os
import re
import subprocess
import tempfile

LABEL = re.compile(r"^\s*(?:[0-9a-f]+:\s+)?(\.L\d+|block\d+|label\d+):")
JUMP = re.compile(r"\bb(?:\.\w+)?\s.*?(\.L\d+|label\d+)")


def loops(lines):
    """(first, last) line of every loop without a loop inside, by its backward jump."""
    labels, found = {}, []
    for i, line in enumerate(lines):
        if m := LABEL.match(line):
            labels[m.group(1).replace("block", "label")] = i
        elif (m := JUMP.search(line)) and m.group(1) in labels:
            first = labels[m.group(1)]
            if not any(first <= f for f, _ in found):
                found.append((first, i))
    return found


def counts(text):
    """(instructions, multiply-adds, loads, stack accesses) of the inner loop with most multiply-adds."""
    best = (0, 0, 0, 0)
    functions = re.split(r"\n(?=\S+:\n(?:block0|\s*0:))", text)
    for lines in (f.splitlines() for f in functions):
        for first, last in loops(lines):
            body = [re.sub(r"^\s*[0-9a-f]+:\s+", "", x).strip() for x in lines[first:last + 1] if not LABEL.match(x)]
            n_fma = sum(x.startswith("fmla") for x in body)
            if n_fma > best[1]:
                loads = [x for x in body if re.match(r"ld[rpu1]", x)]
                best = (len(body), n_fma, len(loads), sum("[sp" in x for x in body))
    return best


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--tinsmith", default="target/release/tinsmith")
    ap.add_argument("models", nargs="+")
    a = ap.parse_args()
    print("| inner loop | emitter | tile | instructions | multiply-adds | loads | to and from the stack | instructions for each multiply-add |")
    print("|" + " --- |" * 8)
    for name, model in (m.split("=", 1) for m in a.models):
        for emitter in ("clif", "auto"):
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run([*a.tinsmith.split(), "compile", model, "-o", folder, "--target", "aarch64-unknown-linux-gnu", "--emitter", emitter,
                                "--emit", "asm,nest"], check=True, capture_output=True)
                asm, nest = (open(glob.glob(os.path.join(folder, f"*.{x}"))[0], encoding="utf-8").read() for x in ("asm", "nest"))
            tile = re.search(r"mr=\d+ nr=\d+", nest)
            n, fma, loads, stack = counts(asm)
            ours = "Cranelift" if emitter == "clif" else "neon"
            print(f"| {name} | {ours} | {tile.group(0) if tile else ''} | {n} | {fma} | {loads} | {stack} | {n / max(fma, 1):.2f} |")


if __name__ == "__main__":
    main()
