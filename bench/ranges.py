#!/usr/bin/env python3
"""Times one library for a range of sizes beside one for each shape, in turns.

    testsuite/scripts/fetch_models.py                 once
    bench/ranges.py [--models DIR] [--only NAMES] [--threads 1,2] [--rounds 5] [--docs docs/verification.md]

Every round runs `tinsmith bench` twice, each a process of its own: for the range with inputs of a shape, and compiled for that
shape. A cell is the least over rounds of the medians of runs, in ms. `--docs` replaces the section of a file.
"""
import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "testsuite", "scripts"))
import library  # noqa: E402

HEAD = "## Time of a range"
RECOGNIZER = ["--dynamic", "p2o.DynamicDimension.0=1..4", "--dynamic", "p2o.DynamicDimension.1=64..640", "--bind", "x.2=48"]


def tokens(rng, batch, length):
    mask = np.ones((batch, length), np.int64)
    return {"input_ids": rng.integers(1000, 20000, (batch, length)), "attention_mask": mask}


def lines(rng, batch, width):
    return {"x": rng.standard_normal((batch, 3, 48, width), np.float32)}


# name: (options of the range, inputs of sizes, the sizes timed)
MODELS = {
    "minilm_l3": (["--dynamic", "batch_size=1..8", "--dynamic", "sequence_length=8..256"], tokens, [(1, 16), (1, 33), (1, 128), (8, 8), (8, 33)]),
    "ppocrv4_rec": (RECOGNIZER, lines, [(1, 64), (1, 160), (1, 320), (1, 640), (4, 64)]),
}


def median_ms(tinsmith, model, options, inputs, threads, seconds):
    line = [*shlex.split(tinsmith), "bench", model, inputs, "--cpu", "native", "--json", "--seconds", str(seconds), "--threads", str(threads), *options]
    return json.loads(library.command(line, 600, {2: "refused"}))["median_ms"]


def rows_of(args, name, folder):
    ranged, inputs_of, sizes = MODELS[name]
    model = os.path.join(args.models, name, "model.onnx")
    for size in sizes:
        feeds = inputs_of(np.random.default_rng(0), *size)
        inputs = os.path.join(folder, "in.npz")
        np.savez(inputs, **feeds)
        bound = [x for k, v in feeds.items() for x in ("--input-shape", f"{k}={','.join(map(str, v.shape))}")]
        cells = []
        for threads in args.threads:
            times = [], []
            for k in range(args.rounds):
                both = [(0, ranged), (1, bound)]
                for which, options in both if k % 2 == 0 else both[::-1]:
                    times[which].append(median_ms(args.tinsmith, model, options, inputs, threads, args.seconds))
            a, b = map(min, times)
            cells += [f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}"]
        row = f"| {name} | {'x'.join(map(str, size))} | {' | '.join(cells)} |"
        print(row, flush=True)
        yield row


def text(args, rows):
    heads = [x for t in args.threads for x in (f"range, {t}T", f"own shapes, {t}T", "ratio")]
    ranges = "; ".join(f"{name}: `{' '.join(options)}`" for name, (options, _, _) in MODELS.items())
    return "\n".join([
        HEAD, "",
        f"By `bench/ranges.py --docs`: one library for all sizes of the ranges beside one for each shape, in turns; medians of runs in ms, the least of {args.rounds} rounds.",
        f"{library.machine()}, {datetime.date.today()}; {ranges}.", "",
        f"| model | shape | {' | '.join(heads)} |", "| --- " * (2 + len(heads)) + "|", *rows, ""])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default=os.path.join(ROOT, "target", "models"))
    p.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"))
    p.add_argument("--only", type=lambda s: s.split(","), default=list(MODELS))
    p.add_argument("--threads", type=lambda s: [int(x) for x in s.split(",")], default=[1, 2])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.5)
    p.add_argument("--docs")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in args.only for row in rows_of(args, name, folder)]
    if args.docs:
        library.replace_section(args.docs, HEAD, text(args, rows))


if __name__ == "__main__":
    main()
