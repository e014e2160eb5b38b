#!/usr/bin/env python3
"""Measures compiled models and other engines: same machine, interleaved, each measurement a fresh process.

    run.py [--only resnet50,vgg16] [--peers onnxruntime,openvino,tract,rten | all] [--threads 1,2] [--rounds 3]
    run.py --table                                     only writes the README's table from what is recorded

Results go into `bench/record/MACHINE.json`: a run replaces the entries that it measures (`--append` adds rounds to
them), all others stay, so that tables can be renewed model by model and engine by engine. The table between the marks
in README.md is written from that file. README.md beside this script tells more.
"""
import argparse
import datetime
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import zlib

import numpy as np

import engines

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUICK = [e for e, (_, slow) in engines.ENGINES.items() if not slow and e != "tinsmith"]
FEATURES = ("sse4_2", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "asimddp", "i8mm", "bf16", "sve")
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
# Differences from onnxruntime, relative to the largest output, beyond which a time does not count.
TOLERANCE = 2e-3


def machine():
    """What the machine is, as far as it matters to the numbers."""
    facts = {}
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or facts.get("CPU part") or platform.machine()
    if "cpu family" in facts:
        name += f" (family {facts['cpu family']}, model {facts['model']})"
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)), "features": [x for x in FEATURES if x in flags], "system": f"{platform.system()} {platform.machine()}"}


def make_case(entry, folder):
    """Inputs seeded by the model's name: every run of every engine sees the same."""
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(entry["name"].encode()))
    for k, i in enumerate(entry["inputs"]):
        if not i["dtype"].startswith("int"):
            x = rng.standard_normal(i["shape"])
        elif "mask" in i["name"]:
            x = np.ones(i["shape"])
        elif "type" in i["name"]:
            x = np.zeros(i["shape"])
        else:
            x = rng.integers(0, 1000, i["shape"])
        x = np.ascontiguousarray(x.astype(i["dtype"]))
        np.save(os.path.join(folder, f"{k}.npy"), x)
        x.tofile(os.path.join(folder, f"{k}.bin"))
    with open(os.path.join(folder, "case.json"), "w") as f:
        json.dump({"inputs": entry["inputs"], "outputs": entry["outputs"]}, f)


def outputs_of(engine, entry, folder):
    """The outputs that an engine wrote, in f64."""
    arrays = []
    for k, o in enumerate(entry["outputs"]):
        path = os.path.join(folder, f"{engine}.{k}")
        x = np.load(path + ".npy") if os.path.exists(path + ".npy") else np.fromfile(path + ".bin", o["dtype"])
        arrays.append(np.asarray(x, np.float64).reshape(-1))
    return arrays


def difference(engine, entry, folder):
    """From onnxruntime's outputs, relative to the largest of each; infinite where they are of other sizes or not finite."""
    worst = 0.0
    for ours, theirs in zip(outputs_of(engine, entry, folder), outputs_of("onnxruntime", entry, folder)):
        if ours.shape != theirs.shape or not np.isfinite(ours).all():
            return float("inf")
        worst = max(worst, float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)) if theirs.size else 0.0)
    return worst


def one_process(command, threads, a):
    """One measurement; raises engines.Unavailable with the reason where there is none."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    try:
        p = subprocess.run([*a.wrap, *command], stdin=subprocess.DEVNULL, capture_output=True, timeout=a.timeout,
                           env={**os.environ, **engines.environment(threads)}, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    except subprocess.TimeoutExpired:
        raise engines.Unavailable(f"no end within {a.timeout:g} s") from None
    output, errors = p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if p.returncode or not lines:
        told = [x for x in errors.splitlines() if x.strip()] or ["no message"]
        raise engines.Unavailable(f"status {p.returncode}: {next((x for x in told if 'rror' in x), told[-1])[:200]}")
    return json.loads(lines[-1])


def measure(entry, threads, names, record, a):
    """Rounds over the engines, in turn; what fails once is left out. Gives the number of engines that failed.

    A peer that fails keeps what was recorded of the same version; our own code changes, so that an old result would be of another.
    """
    model = os.path.join(a.models, entry["file"])
    case = os.path.join(a.cache, "cases", entry["name"])
    make_case(entry, case)
    fresh, commands = {}, {}
    for name in names:
        key = f"{entry['name']}|{name}|{threads}"
        old = record["results"].get(key, {})
        fresh[key] = {"version": a.versions[name], "date": a.date, "seconds": a.seconds, "medians_ms": [], "min_ms": None, "difference": None}
        if a.append and "medians_ms" in old:
            fresh[key] |= {k: old[k] for k in ("medians_ms", "min_ms", "difference")}
        try:
            prepared = engines.prepare(name, model, entry["name"], a)
            commands[name] = engines.command(name, model, case, threads, a.seconds, prepared, a)
            with open(os.path.join(prepared, "prepared.json")) as f:
                if threads > 1 and json.load(f).get("threads") is False:
                    fresh[key]["one_thread_only"] = True
        except engines.Unavailable as e:
            fresh[key]["error"] = str(e)
    for _ in range(a.rounds):
        for name in names:
            key = f"{entry['name']}|{name}|{threads}"
            r = fresh[key]
            if "error" in r:
                continue
            try:
                m = one_process(commands[name], threads, a)
                r["medians_ms"].append(m["median_ms"])
                r["min_ms"] = min(m["min_ms"], r["min_ms"] or float("inf"))
                if "onnxruntime" in names or os.path.exists(os.path.join(case, "onnxruntime.0.npy")):
                    r["difference"] = difference(name, entry, case)
            except engines.Unavailable as e:
                r["error"] = str(e)
        for key, r in fresh.items():
            old = record["results"].get(key, {})
            keeps = "error" in r and "error" not in old and old.get("version") == r["version"] and "|tinsmith|" not in key
            if not keeps:
                record["results"][key] = r
        save(record, a)
    told = [f"{key.split('|')[1]} {r['error'] if 'error' in r else format(statistics.median(r['medians_ms']), '.4g')}" for key, r in fresh.items()]
    print(f"{entry['name']}, {threads}: {'; '.join(told)}", file=sys.stderr, flush=True)
    return sum("error" in r for r in fresh.values())


def save(record, a):
    os.makedirs(os.path.dirname(os.path.abspath(a.record)), exist_ok=True)
    with open(a.record + ".new", "w") as f:
        json.dump(record, f, indent=1, sort_keys=True)
        f.write("\n")
    os.replace(a.record + ".new", a.record)


# ---------------------------------------------------------------- the table
def time_of(record, model, engine, threads):
    """(milliseconds, whether it counts) or None"""
    r = record["results"].get(f"{model}|{engine}|{threads}")
    if not r or "error" in r or not r["medians_ms"]:
        return None
    d = r["difference"]
    return statistics.median(r["medians_ms"]), d is not None and d <= TOLERANCE


def table(record, models, threads):
    """Lines of Markdown for one number of threads."""
    names = [e for e in engines.ENGINES if e != "tinsmith" and any(time_of(record, m, e, threads) for m in models)]
    lines = ["| model | Tinsmith | " + " | ".join(names) + " | best of the others over Tinsmith |", "| --- |" + " ---: |" * (len(names) + 2)]
    ratios = {}
    for m in models:
        ours = time_of(record, m, "tinsmith", threads)
        times = {e: time_of(record, m, e, threads) for e in names}
        valid = {e: t[0] for e, t in times.items() if t and t[1]}
        best = min(valid, key=valid.get, default=None)

        def cell(t, bold=False):
            if t is None:
                return ""
            text = f"{t[0]:.4g}" if t[1] else f"({t[0]:.4g})"
            return f"**{text}**" if bold else text
        ratio = ""
        if ours and ours[1] and best:
            ratios[m] = valid[best] / ours[0]
            ratio = f"{ratios[m]:.2f}"
        if ours or any(times.values()):
            lines.append(f"| {m} | {cell(ours)} | " + " | ".join(cell(times[e], e == best) for e in names) + f" | {ratio} |")
    if ratios:
        slower = [m for m, r in ratios.items() if r < 1]
        lines += ["", f"Geometric mean over {len(ratios)} models {statistics.geometric_mean(ratios.values()):.2f}, least {min(ratios.values()):.2f} ({min(ratios, key=ratios.get)})"
                  + (f"; slower on {', '.join(slower)}." if slower else "; slower on none.")]
    return lines


def markdown(record, models):
    m, results = record["machine"], record["results"]
    versions, failed = {}, {}
    for key, r in sorted(results.items()):
        model, engine, threads = key.split("|")
        if "error" in r:
            failed.setdefault(engine, set()).add(model)
        else:
            versions.setdefault(engine, set()).add(r["version"])
    dates = sorted({r["date"] for r in results.values()})
    rounds = [len(r["medians_ms"]) for r in results.values() if "error" not in r]
    listed = ", ".join(f"{e} {'/'.join(sorted(versions[e]))}" for e in engines.ENGINES if e in versions)
    lines = [
        f"Milliseconds a run, f32, batch 1, random weights and inputs; {m['cpu']}, {m['cores']} cores, {' '.join(m['features'])}, {m['system']}; "
        f"{' to '.join(dict.fromkeys([dates[0], dates[-1]])) if dates else 'nothing measured'}. {listed}. "
        f"Fresh processes in turn, medians of {f'{min(rounds)} to {max(rounds)}' if rounds and min(rounds) < max(rounds) else rounds[0] if rounds else 0} rounds. "
        f"Tinsmith is the linked static library. Bold is the best of the others; a time in brackets is of outputs that differ from onnxruntime's by more than {TOLERANCE:g} of the largest, "
        "and does not count.",
    ]
    skipped = {**record.get("skipped", {})}
    if skipped:
        lines += ["", "Skipped: " + "; ".join(f"{e} ({why})" for e, why in sorted(skipped.items())) + "."]
    if failed:
        lines += ["", "No result: " + "; ".join(f"{e} on {', '.join(sorted(x))}" for e, x in sorted(failed.items())) + "."]
    for threads in sorted({int(key.split("|")[2]) for key in results}):
        ours = [r for key, r in results.items() if key.split("|")[1:] == ["tinsmith", str(threads)]]
        note = " (Tinsmith on one)" if any(r.get("one_thread_only") for r in ours) else ""
        lines += ["", f"### {threads} thread{'s' if threads > 1 else ''}{note}", "", *table(record, models, threads)]
    return "\n".join(lines) + "\n"


def write_readme(text, path):
    with open(path) as f:
        readme = f.read()
    if BEGIN not in readme or END not in readme:
        sys.exit(f"{path} lacks the marks {BEGIN} and {END}")
    head, tail = readme.split(BEGIN, 1)[0], readme.split(END, 1)[1]
    with open(path, "w") as f:
        f.write(f"{head}{BEGIN}\n{text}{END}{tail}")


def main():
    words = lambda s: [x for x in s.split(",") if x]
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--models", default=os.path.join(ROOT, "target", "bench-models"), help="where export_models.py wrote")
    ap.add_argument("--cache", default=os.path.join(ROOT, "target", "bench-cache"), help="compiled models and inputs are kept here")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="our command")
    ap.add_argument("--options", type=shlex.split, default=[], help="more options of `tinsmith compile`")
    ap.add_argument("--cc", default="cc", help="C compiler that links our library into the program that times it")
    ap.add_argument("--python", default=sys.executable, help="the Python that has the other engines' packages")
    ap.add_argument("--only", type=words, help="models, separated by commas; all without it")
    ap.add_argument("--peers", type=words, default=QUICK, help=f"engines, separated by commas; {','.join(QUICK)} without it, `all` with those that compile for minutes; `none`")
    ap.add_argument("--threads", type=lambda s: [int(x) for x in words(s)], default=[1, 2])
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    ap.add_argument("--timeout", type=float, default=600, help="seconds after which a process or a compilation is given up")
    ap.add_argument("--wrap", type=shlex.split, default=[], help="a command under which every measurement runs")
    ap.add_argument("--append", action="store_true", help="add rounds to what is recorded")
    ap.add_argument("--record", help="the file of results")
    ap.add_argument("--readme", default=os.path.join(ROOT, "README.md"))
    ap.add_argument("--no-readme", action="store_true", help="leave the README as it is")
    ap.add_argument("--table", action="store_true", help="measure nothing")
    a = ap.parse_args()
    for path in ("models", "cache", "tinsmith"):
        setattr(a, path, os.path.abspath(getattr(a, path)))
    a.date, here = datetime.date.today().isoformat(), machine()
    a.record = a.record or os.path.join(ROOT, "bench", "record", re.sub(r"[^a-z0-9]+", "-", here["cpu"].lower()).strip("-") + ".json")
    record = {"machine": here, "results": {}, "skipped": {}}
    if os.path.exists(a.record):
        with open(a.record) as f:
            record = json.load(f)
    with open(os.path.join(a.models, "manifest.json")) as f:
        entries = {e["name"]: e for e in json.load(f)}
    unknown = [x for x in [*(a.only or []), *(set(a.peers) - {"all", "none"})] if x not in entries and x not in engines.ENGINES]
    if unknown:
        sys.exit(f"neither a model nor an engine: {', '.join(unknown)}")
    if not a.table:
        peers = [e for e in engines.ENGINES if e != "tinsmith"] if a.peers == ["all"] else [] if a.peers == ["none"] else a.peers
        a.versions, names, failed = {}, [], 0
        # onnxruntime comes first: the others' outputs are compared with its.
        for name in sorted({*peers, "tinsmith"}, key=lambda e: (e != "onnxruntime", list(engines.ENGINES).index(e))):
            try:
                a.versions[name] = engines.version(name, a)
                names.append(name)
                record["skipped"].pop(name, None)
            except engines.Unavailable as e:
                record["skipped"][name] = str(e)
                print(f"skipped: {name}: {e}", file=sys.stderr)
        for name in a.only or entries:
            for threads in a.threads:
                failed += measure(entries[name], threads, names, record, a)
    text = markdown(record, list(entries))
    if a.no_readme:
        print(text, end="")
    else:
        write_readme(text, a.readme)
    return 1 if not a.table and failed else 0


if __name__ == "__main__":
    sys.exit(main())
