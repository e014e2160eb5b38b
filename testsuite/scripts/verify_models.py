#!/usr/bin/env python3
"""Verifies the fetched models at every instruction set level asked for.

    fetch_models.py                                              once
    verify_models.py [--cpu x86-64-v1,x86-64-v3] [--only NAMES]
    verify_models.py --tinsmith 'qemu-aarch64 -L /usr/aarch64-linux-gnu target/aarch64-unknown-linux-gnu/release/tinsmith'

Each case is one `tinsmith verify MODEL IN.npz REF.npz --rtol R --atol A [--cpu LEVEL]`. Without `--cpu` the machine's own
level is used, without the option. A level this machine lacks is skipped and named, never counted as passed.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import time

from library import LEVELS, lacks

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def verify(command, timeout):
    """(cell of the table, what was printed)"""
    start = time.time()
    try:
        p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    except subprocess.TimeoutExpired:
        return "TIMEOUT", f"no end within {timeout:g} s"
    verdict = {0: f"ok {time.time() - start:.1f} s", 1: "WRONG", 2: "refused"}.get(p.returncode, f"CRASH {p.returncode}")
    return verdict, p.stdout.decode("utf-8", "replace")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--models", default=os.path.join(ROOT, "target", "models"), help="where fetch_models.py wrote")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"), help="the command, with what must stand before it")
    ap.add_argument("--cpu", default="", help="levels, separated by commas; `all`: x86-64-v1 to v4")
    ap.add_argument("--only", default="", help="names of models, separated by commas")
    ap.add_argument("--rtol", type=float, help="instead of each case's own")
    ap.add_argument("--atol", type=float, help="instead of each case's own")
    ap.add_argument("--timeout", type=float, default=300)
    a = ap.parse_args()
    with open(os.path.join(a.models, "manifest.json")) as f:
        models = json.load(f)["models"]
    if a.only:
        models = {n: models[n] for n in a.only.split(",")}
    levels = list(LEVELS) if a.cpu == "all" else a.cpu.split(",")
    skipped, levels = [x for x in levels if lacks(x)], [x for x in levels if not lacks(x)]

    width = max(len(f"{m} {c['name']}") for m, e in models.items() for c in e["cases"])
    print(f"{'':{width}} {'atol':>8}  " + "".join(f"{x or 'native':12}" for x in levels))
    verdicts, problems = [], []
    for name, entry in models.items():
        for case in entry["cases"]:
            base = os.path.join(a.models, name)
            rtol, atol = (case[k] if getattr(a, k) is None else getattr(a, k) for k in ("rtol", "atol"))
            print(f"{name + ' ' + case['name']:{width}} {atol:8.1e}  ", end="", flush=True)
            for level in levels:
                verdict, text = verify([*shlex.split(a.tinsmith), "verify", f"{base}/model.onnx", f"{base}/case_{case['name']}.in.npz",
                                        f"{base}/case_{case['name']}.ref.npz", "--rtol", f"{rtol:g}", "--atol", f"{atol:g}",
                                        *(["--cpu", level] if level else [])], a.timeout)
                print(f"{verdict:12}", end="", flush=True)
                verdicts.append(verdict)
                if not verdict.startswith("ok"):
                    problems.append(f"{name} {case['name']} {level}: {verdict}\n" + "".join(f"    {x}\n" for x in text.strip().splitlines()[-8:]))
            print()
    if problems:
        print("\n" + "\n".join(problems))
    for level in skipped:
        print(f"skipped: this machine lacks {level}")
    good = sum(v.startswith("ok") for v in verdicts)
    print(f"{len(models)} models, {len(verdicts)} verifications: {good} passed, {len(verdicts) - good} failed, {len(skipped)} levels skipped")
    sys.exit(0 if good == len(verdicts) and verdicts else 1)


if __name__ == "__main__":
    main()
