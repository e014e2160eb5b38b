#!/usr/bin/env python3
"""Measures compiled models against onnxruntime: same machine, same run.

    export_models.py                                                    once
    peers.py [--only resnet50,vgg16] [--threads 1,2] [--rounds 5] [--seconds 1] [--out bench/record/NAME.md]

Every measurement is a fresh process, `tinsmith bench MODEL IN.npz --threads T --seconds S --json` or this script as
onnxruntime's worker, bound to the first T processors. Rounds interleave the two. The time of a model is the median
of its rounds' medians; the spread is the slowest round over the fastest. Outputs are compared once per model.
"""
import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FEATURES = ("sse4_2", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "asimddp", "i8mm", "bf16", "sve")


def machine():
    """One line that names the machine as far as it matters to the numbers."""
    facts = {}
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or facts.get("CPU part") or platform.machine()
    if "cpu family" in facts:
        name += f" (family {facts['cpu family']}, model {facts['model']}, stepping {facts['stepping']})"
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return f"{name}, {len(os.sched_getaffinity(0))} processors; {' '.join(x for x in FEATURES if x in flags)}; Linux {platform.release()}"


def random_inputs(entry):
    """Seeded by the model's name: every run of every engine sees the same."""
    rng, inputs = np.random.default_rng(zlib.crc32(entry["name"].encode())), {}
    for i in entry["inputs"]:
        if not i["dtype"].startswith("int"):
            x = rng.standard_normal(i["shape"])
        elif "mask" in i["name"]:
            x = np.ones(i["shape"])
        elif "type" in i["name"]:
            x = np.zeros(i["shape"])
        else:
            x = rng.integers(0, 1000, i["shape"])
        inputs[i["name"]] = x.astype(i["dtype"])
    return inputs


def onnxruntime_worker(model, inputs, threads, seconds, outputs):
    """Prints the same facts as `tinsmith bench --json`; writes the outputs where asked."""
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = dict(np.load(inputs))
    first = session.run(None, feeds)
    if outputs:
        np.savez(outputs, **dict(zip([o.name for o in session.get_outputs()], first)))
    for _ in range(2):
        session.run(None, feeds)
    times, end = [], time.perf_counter() + seconds
    while (time.perf_counter() < end or len(times) < 5) and len(times) < 100000:
        start = time.perf_counter()
        session.run(None, feeds)
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"median_ms": statistics.median(times), "min_ms": min(times), "p90_ms": float(np.percentile(times, 90)),
                      "runs": len(times), "version": ort.__version__}))


def spawn(command, threads, timeout):
    """(standard output, None) or (None, why not)"""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    try:
        p = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout,
                           env={**os.environ, "OMP_NUM_THREADS": str(threads)}, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    except subprocess.TimeoutExpired:
        return None, f"no end within {timeout:g} s"
    if p.returncode:
        errors = [x for x in p.stderr.decode(errors="replace").splitlines() if x.strip()]
        return None, f"status {p.returncode}: {next((x for x in errors if x.startswith('error')), errors[-1] if errors else '')[:160]}"
    return p.stdout.decode(), None


def facts_of(output):
    """The JSON object in what a process printed."""
    return json.loads(output[output.index("{"):output.rindex("}") + 1])


def largest_difference(ours, theirs):
    """Relative to the largest value of each output."""
    worst, ours, theirs = 0.0, np.load(ours), np.load(theirs)
    for name in theirs:
        a, b = ours[name].astype(np.float64), theirs[name].astype(np.float64)
        if a.shape != b.shape or not np.isfinite(a).all():
            return float("inf")
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) if b.size else 0.0)
    return worst


def measure(entry, threads, a, scratch):
    """A row of the table."""
    model, inputs = os.path.join(a.models, entry["file"]), os.path.join(scratch, entry["name"] + ".npz")
    np.savez(inputs, **random_inputs(entry))
    result = {"model": entry["name"], "threads": threads, "macs": entry["macs"], "ours": [], "theirs": [], "difference": None, "failed": None}
    tinsmith, reference, outputs = shlex.split(a.tinsmith), os.path.join(scratch, "reference.npz"), os.path.join(scratch, "ours.npz")
    for round_ in range(a.rounds):
        worker = [sys.executable, os.path.abspath(__file__), "_onnxruntime", model, inputs, str(threads), str(a.seconds), "" if round_ else reference]
        bench = [*tinsmith, "bench", model, inputs, "--threads", str(threads), "--seconds", f"{a.seconds:g}", "--json"]
        for side, command in (("ours", bench), ("theirs", worker)):
            if side == "ours" and result["failed"]:
                continue
            output, error = spawn(command, threads, a.timeout)
            if error and side == "theirs":
                sys.exit(f"{entry['name']}: onnxruntime: {error}")
            if error:
                result["failed"] = error
            else:
                result[side].append(facts_of(output))
        if round_ == 0 and not result["failed"]:
            _, error = spawn([*tinsmith, "run", model, inputs, "-o", outputs], threads, a.timeout)
            result["failed"] = error and f"run: {error}"
            if not error:
                result["difference"] = largest_difference(outputs, reference)
    return result


def summary(rounds):
    medians = [r["median_ms"] for r in rounds]
    return statistics.median(medians), min(r["min_ms"] for r in rounds), max(medians) / min(medians)


def markdown(results, a):
    version = results[0]["theirs"][0]["version"]
    lines = [
        "# Compiled models against onnxruntime", "",
        f"- Machine: {machine()}", f"- onnxruntime {version}; {a.rounds} interleaved rounds of {a.seconds:g} s, each a fresh process; f32, batch 1",
        f"- Commit: {a.commit}", "- Reproduce: `bench/export_models.py`, then `bench/peers.py`", "",
        "`ratio` is our time over onnxruntime's, of the medians; `difference` is relative to the largest output; `spread` is the slowest round over the fastest, ours and theirs.", "",
        "| model | threads | M multiply-adds | ours ms | onnxruntime ms | ratio | ours GFLOP/s | least ms, ours and theirs | spread | difference |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in results:
        head, (theirs, theirs_min, theirs_spread) = f"| {r['model']} | {r['threads']} | {r['macs'] / 1e6:.1f} |", summary(r["theirs"])
        if r["failed"]:
            lines.append(f"{head} failed | {theirs:.3g} | | | | | {r['failed'].replace('|', '/')} |")
            continue
        ours, ours_min, ours_spread = summary(r["ours"])
        lines.append(f"{head} {ours:.3g} | {theirs:.3g} | {ours / theirs:.2f} | {2e-6 * r['macs'] / ours:.1f} | {ours_min:.3g}, {theirs_min:.3g} | "
                     f"{ours_spread:.2f}, {theirs_spread:.2f} | {r['difference']:.1e} |")
    for threads in a.threads:
        ratios = [summary(r["ours"])[0] / summary(r["theirs"])[0] for r in results if r["threads"] == threads and not r["failed"]]
        if ratios:
            lines += ["", f"{threads} thread{'s' if threads > 1 else ''}: geometric mean of the ratio {statistics.geometric_mean(ratios):.2f} over {len(ratios)} models, "
                      f"at most {max(ratios):.2f}; not slower on {sum(x <= 1 for x in ratios)}."]
    return "\n".join(lines) + "\n"


def main():
    if sys.argv[1:2] == ["_onnxruntime"]:
        model, inputs, threads, seconds, outputs = sys.argv[2:]
        return onnxruntime_worker(model, inputs, int(threads), float(seconds), outputs)
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--models", default=os.path.join(ROOT, "target", "bench-models"), help="where export_models.py wrote")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="the command, with what must stand before it")
    ap.add_argument("--only", help="names, separated by commas")
    ap.add_argument("--threads", type=lambda s: [int(x) for x in s.split(",")], default=[1])
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=1.0)
    ap.add_argument("--timeout", type=float, default=600)
    ap.add_argument("--out", help="write the table here, too; rounds go beside it as .json")
    a = ap.parse_args()
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    a.commit = git.stdout.strip() or "unknown"
    with open(os.path.join(a.models, "manifest.json")) as f:
        entries = {e["name"]: e for e in json.load(f)}
    names, results = a.only.split(",") if a.only else list(entries), []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            for threads in a.threads:
                r = measure(entries[name], threads, a, scratch)
                results.append(r)
                ours = r["failed"] or f"{summary(r['ours'])[0]:.3g} ms"
                print(f"{name}, {threads}: ours {ours}, onnxruntime {summary(r['theirs'])[0]:.3g} ms", file=sys.stderr, flush=True)
    table = markdown(results, a)
    print(table, end="")
    if a.out:
        os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
        with open(a.out, "w") as f:
            f.write(table)
        with open(os.path.splitext(a.out)[0] + ".json", "w") as f:
            json.dump({"machine": machine(), "commit": a.commit, "results": results}, f, indent=1)


if __name__ == "__main__":
    main()
