#!/usr/bin/env python3
"""Verifies the fetched models with sizes that every run chooses: one compilation for a range against one for each case's shapes.

    fetch_models.py                                   once
    verify_dynamic.py [--only NAMES] [--docs docs/verification.md]

Of every model the symbolic dimensions have the ranges below, and each case is run twice: with `--dynamic`, and compiled for its
own shapes. The cell shows the largest difference from the reference as a share of what is allowed, `atol + rtol |reference|`, where
`atol` is no less than a rounding of the largest element in the output's own type, and how far the two compilations are apart. Fails
where the range is refused, or a case is off by more than is allowed where its own compilation is not. `--docs` replaces the section of
a file.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time

import numpy as np

import library

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEAD = "## Ranges of sizes"

# Dimensions of which nothing is said have the extents of the case.
RANGES = {
    "ppocrv4_det": ["p2o.DynamicDimension.0=1..2", "p2o.DynamicDimension.1=32..320:32", "p2o.DynamicDimension.2=32..640:32"],
    "ppocrv4_rec": ["p2o.DynamicDimension.0=1..2", "p2o.DynamicDimension.1=16..320"],
    "ppocr_cls": ["x.0=1..4", "x.3=32..192"],
    "ppocr_cls_qdq": ["x.0=1..4", "x.3=32..192"],
    "mtcnn_pnet": ["N=1..2", "M1=67..128", "M2=91..128"],
    "mtcnn_rnet": ["N=1..8"],
    "mtcnn_onet": ["N=1..8"],
    "mtcnn_onet_fp16": ["N=1..8"],
    "oww_embedding": ["unk__314=1..8"],
    "oww_mel": ["batch_size=1..2", "samples=800..16000:160"],
    "spindle_eeg": ["batch_size=1..3"],
    "basic_pitch": ["unk__749=1..3"],
    "minilm_l3": ["batch_size=1..4", "sequence_length=1..128"],
    "minilm_l3_dynq": ["batch_size=1..4", "sequence_length=1..128"],
    "magika": ["unk__214=1..8"],
    "silero_vad": ["input.0,state.1=1..3"],
    "silero_vad_ifless": ["batch=1..3"],
    "silero_vad_seq": ["sequence_length=1..24"],
    "silero_vad_v4": ["batch=1..3"],
    "ddddocr_crnn": ["image_width=16..160"],
    "ddddocr_crnn_int8": ["image_width=16..160"],
    "seizure_lstm": ["batch=1..3", "time=1..120"],
    "tashkeel_bilstm_int8": ["batch=1..3", "seq_len=1..38"],
    "tashkeel_rawi_int8": ["batch=1..3", "seq=1..38"],
}


def cases_of(entry):
    """(name, rtol, atol or None) of each case."""
    return [(c["name"], c.get("rtol", 1e-3), c.get("atol"), c.get("ort_optimised_vs_unoptimised", {})) for c in entry["cases"]]


def outputs(tinsmith, model, case, flags, timeout):
    """Outputs by name, or what was printed."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.npz")
        command = [*shlex.split(tinsmith), "run", model, case, "-o", out, *flags]
        try:
            p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"no end within {timeout:g} s"
        if p.returncode:
            return p.stdout.decode("utf-8", "replace").strip()
        with np.load(out) as z:
            return {k: z[k] for k in z.files}


def share(got, ref, rtol, atol, spread):
    """The largest difference, as a share of what is allowed."""
    worst = 0.0
    for name, r in ref.items():
        if name not in got or got[name].shape != r.shape:
            return float("inf")
        if r.size == 0:
            continue
        most = np.abs(r.astype(np.float64)).max()
        rounding = np.finfo(r.dtype).eps / 2 if r.dtype.kind == "f" else 0
        allowed = atol if atol is not None else max(1e-5, 1e-5 * most, rounding * most, 4 * spread.get(name, {}).get("max_abs", 0))
        d = np.abs(got[name].astype(np.float64) - r.astype(np.float64)) / (allowed + rtol * np.abs(r.astype(np.float64)))
        worst = max(worst, float("inf") if np.isnan(d).any() else d.max())
    return worst


def apart(a, b):
    if all(a[k].tobytes() == b[k].tobytes() for k in b):
        return "same bits"
    return f"{max(np.abs(a[k].astype(np.float64) - b[k].astype(np.float64)).max() for k in b if b[k].size):.1e}"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--models", default=os.path.join(ROOT, "target", "models"), help="where fetch_models.py wrote")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="the command, with what must stand before it")
    ap.add_argument("--only", default="", help="names of models, separated by commas")
    ap.add_argument("--timeout", type=float, default=600)
    ap.add_argument("--docs", help="a Markdown file whose section is replaced")
    a = ap.parse_args()
    with open(os.path.join(a.models, "manifest.json")) as f:
        models = json.load(f)["models"]
    if isinstance(models, list):
        models = {m["name"]: m for m in models}
    names = a.only.split(",") if a.only else [n for n in models if n in RANGES]
    rows, good, bad = [], 0, 0
    for name in names:
        flags = [x for r in RANGES[name] for x in ("--dynamic", r)]
        told = ", ".join(f"`{r}`" for r in RANGES[name])
        for case, rtol, atol, spread in cases_of(models[name]):
            base = os.path.join(a.models, name, f"case_{case}")
            with np.load(f"{base}.ref.npz") as z:
                ref = {k: z[k] for k in z.files}
            model, start = os.path.join(a.models, name, "model.onnx"), time.time()
            ranged = outputs(a.tinsmith, model, f"{base}.in.npz", flags, a.timeout)
            seconds = time.time() - start
            bound = outputs(a.tinsmith, model, f"{base}.in.npz", [], a.timeout)
            if isinstance(ranged, str) or isinstance(bound, str):
                reason = ranged if isinstance(ranged, str) else bound
                line = next((x for x in reason.splitlines() if x.startswith("error")), reason.splitlines()[-1] if reason else "")
                cells, ok = ["refused: " + line.split(": ", 1)[-1].replace("|", "/"), "", ""], False
            else:
                x, y = (share(t, ref, rtol, atol, spread) for t in (ranged, bound))
                cells, ok = [f"{x:.1e}", f"{y:.1e}", apart(ranged, bound)], x <= max(1.0, 1.1 * y)
            good, bad = good + ok, bad + (not ok)
            rows.append(f"| {name} | {told} | {case} | {' | '.join(cells)} |\n")
            print(("" if ok else "FAILED ") + rows[-1].strip(), f"{seconds:.1f} s", flush=True)
            if not ok and isinstance(ranged, str):
                break
    last = f"{good} passed, {bad} failed"
    if a.docs:
        section = (f"{HEAD}\n\nBy `testsuite/scripts/verify_dynamic.py --docs`: one compilation for all sizes of the ranges, beside one for the shapes of each case.\n"
                   "Differences from the reference are shares of what is allowed, as above, at least a rounding of the largest element in the output's own type;\n"
                   "the last column says how far the two compilations are apart.\n"
                   "Where the compilation for its own shapes is off by more than is allowed too, the range is not the cause, and the case counts as passed here.\n\n"
                   f"{library.machine()}; {time.strftime('%Y-%m-%d', time.gmtime())}: {last}.\n\n"
                   "| model | `--dynamic` | case | range | own shapes | apart |\n|" + " --- |" * 6 + "\n" + "".join(rows))
        library.replace_section(a.docs, HEAD, section)
    print(last)
    sys.exit(0 if good and not bad else 1)


if __name__ == "__main__":
    main()
