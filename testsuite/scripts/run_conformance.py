#!/usr/bin/env python3
"""Runs the ONNX backend tests and keeps the table of what passes.

    fetch_conformance.py                 once
    run_conformance.py [--jobs 2]        runs all, rewrites testsuite/conformance/expected.txt, the record of operators and docs/operators.md
    run_conformance.py --check           runs all, writes nothing, fails if a test of expected.txt no longer passes

Each test is one process, `tinsmith run MODEL --inputs DIR --outputs DIR`. Exit status 0: the outputs are written;
2: refused, the reasons on stderr; anything else, a signal, or no end within `--timeout` is a crash.
`--command` replaces the process, for instance by another engine: `--command 'prog {model} {inputs} {outputs}'`.

expected.txt only grows. A listed test that does not pass fails every kind of run, and stays listed unless `--forget`.
Wrong numbers and crashes are bugs, listed by name; `--strict` fails on any of them.
"""
import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

import numpy as np

import operator_record
from npy_types import EXOTIC, from_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXPECTED = os.path.join(ROOT, "testsuite", "conformance", "expected.txt")
GROUPS = {
    "simple": "small graphs, shape arithmetic, control flow",
    "pytorch-converted": "modules, as an early exporter wrote them",
    "pytorch-operator": "functions, as an early exporter wrote them",
    "light": "whole image networks with constant weights",
}


@dataclasses.dataclass
class Result:
    # `passed`, `refused`, `wrong` or `crashed`.
    verdict: str
    reason: str = ""
    # What made the code.
    emitters: tuple = ()


# ---------------------------------------------------------------- one test
def differs(out, reference, kind, rtol, atol):
    """What is wrong with an output, by the rules of ONNX's own runner; None: nothing."""
    out = from_file(out, kind)
    if out.shape != reference.shape:
        return f"shape {list(out.shape)}, expected {list(reference.shape)}"
    if out.dtype != reference.dtype:
        return f"type {out.dtype}, expected {reference.dtype}"
    if kind == "BFLOAT16":
        rtol = max(rtol, 2**-6)
    if kind in EXOTIC:
        out, reference = out.astype(np.float32), reference.astype(np.float32)
    try:
        np.testing.assert_allclose(out, reference, rtol=rtol, atol=atol)
    except AssertionError as e:
        return "values differ: " + " ".join(str(e).split())[:240]
    return None


# Tests whose expected values are not what the specification's exact arithmetic gives, within their tolerance. They stay counted as wrong.
INEXACT = {
    "test_dft_inverse": "numpy's single-precision FFT gave the expected values, which are up to 1.5e-6 from the exact ones; where 0 is right, they are 1.9e-7, beyond the tolerance of 1e-7, and ours 3e-15",
    "test_dft_inverse_opset19": "as `test_dft_inverse`",
    "test_attention_4d_causal_fp16_expanded": "each step of `Softmax` was rounded to half precision, which the operator does not ask for; of the two elements that differ by one step "
    "from ours, 0.3984 is exact where 0.3979 is expected, and 0.4692 between 0.4690 and 0.4695",
}


def compare(test, expected, outputs):
    with open(os.path.join(expected, "manifest.json")) as f:
        manifest = json.load(f)
    for i, entry in enumerate(manifest):
        parts = [entry] if entry["kind"] == "tensor" else entry["elements"]
        found = [f for f in os.listdir(outputs) if re.fullmatch(rf"output_{i}(_\d+)?\.npy", f)]
        if sorted(found) != sorted(p["file"] for p in parts):
            return f"output {i}: {len(found)} tensors of {len(parts)}"
        for part in parts:
            try:
                reference = from_file(np.load(os.path.join(expected, part["file"])), part["type"])
                problem = differs(np.load(os.path.join(outputs, part["file"])), reference, part["type"], test["rtol"], test["atol"])
            except (ValueError, OSError) as e:
                problem = f"cannot be read: {e}"
            if problem:
                return f"{part['file'].removesuffix('.npy')}: {problem}"
    return None


def run(test, a):
    folder = os.path.join(a.data, test["group"], test["name"])
    with tempfile.TemporaryDirectory(prefix="conformance-") as outputs:
        words = {"tinsmith": a.tinsmith, "model": os.path.join(folder, "model.onnx"), "inputs": os.path.join(folder, "inputs"), "outputs": outputs}
        command = [w.format(**words) for w in shlex.split(a.command)]
        try:
            p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=a.timeout)
        except subprocess.TimeoutExpired:
            return Result("crashed", f"no end within {a.timeout:g} s")
        stderr = p.stderr.decode("utf-8", "replace").replace(a.data + os.sep, "")
        if p.returncode == 2:
            return Result("refused", stderr)
        if p.returncode != 0:
            how = f"signal {-p.returncode}" if p.returncode < 0 else f"exit status {p.returncode}"
            return Result("crashed", f"{how}: {' '.join(stderr.split())[-240:]}")
        problem = compare(test, os.path.join(folder, "expected"), outputs)
        return Result("wrong", problem) if problem else Result("passed", emitters=operator_record.emitters(p.stdout))


# ---------------------------------------------------------------- reports
def first_line(reason):
    """The first error of a refusal, in one line that fits a table."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    line = next((x for x in lines if x.startswith("error")), lines[0] if lines else "no reason given")
    return line if len(line) <= 120 else line[:117] + "..."


def tally(tests, results):
    """What is known of tests together: numbers, types and emitters of those that pass, the first reason of those that do not."""
    verdicts = collections.Counter(results[t["name"]].verdict for t in tests)
    faults = [(t, results[t["name"]]) for t in tests if results[t["name"]].verdict != "passed"]
    faults.sort(key=lambda x: (x[1].verdict == "refused", x[0]["exotic"], x[0]["name"]))
    reason = ""
    if faults:
        test, result = faults[0]
        reason = first_line(result.reason) if result.verdict == "refused" else f"`{test['name']}`: {result.verdict}"
    # A definition as a function has types and kernels of other operators.
    own = [t for t in tests if results[t["name"]].verdict == "passed" and not t["name"].endswith("_expanded")]
    return operator_record.tests(
        verdicts["passed"], verdicts["refused"], verdicts["wrong"] + verdicts["crashed"],
        {x for t in own for x in t["types"]}, {e for t in own for e in results[t["name"]].emitters}, reason)


def grouped(tests, key):
    table = collections.defaultdict(list)
    for test in tests:
        table[key(test)].append(test)
    return sorted(table.items())


def record_of(index, results, names):
    """The part of the record that these tests are."""
    tests = index["tests"]
    plain = [t for t in tests if not t["exotic"]]
    nodes = [t for t in tests if t["group"] == "node"]
    refused = collections.defaultdict(list)
    for t in tests:
        if results[t["name"]].verdict == "refused":
            reason = re.sub(r"^error\[[^]]*\]: ", "", first_line(results[t["name"]].reason))
            # What is said of a value by its name is said of many.
            refused[re.sub(r"^`[^`]*`: ", "", reason)].append(t["name"])
    return {
        "onnx": index["onnx"],
        "total": {"marked": sum(bool(t["excluded_by"]) for t in tests), "plain": len(plain),
                  "plain_passed": sum(results[t["name"]].verdict == "passed" for t in plain)},
        "since": operator_record.versions(),
        "operators": {names(op): tally(of, results) for op, of in grouped(nodes, lambda t: t["op"])},
        "groups": {g: {"what": GROUPS.get(g, "")} | tally(of, results)
                   for g, of in grouped([t for t in tests if t["group"] != "node"], lambda t: t["group"])},
        "wrong": {t["name"]: INEXACT.get(t["name"], "") for t in sorted(tests, key=lambda t: t["name"])
                  if results[t["name"]].verdict in ("wrong", "crashed")},
        "refused": {reason: sorted(names) for reason, names in sorted(refused.items())},
    }


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", default=os.path.join(ROOT, "target", "conformance"), help="where fetch_conformance.py wrote")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"))
    ap.add_argument("--command", default="{tinsmith} run {model} --inputs {inputs} --outputs {outputs} --json")
    ap.add_argument("--jobs", type=int, default=os.cpu_count())
    ap.add_argument("--timeout", type=float, default=60)
    ap.add_argument("--filter", default="", help="regular expression over the tests' names; nothing is written")
    ap.add_argument("--op", default="", help="operators, separated by commas; nothing is written")
    ap.add_argument("--listed", action="store_true", help="only the tests of expected.txt; nothing is written")
    ap.add_argument("--check", action="store_true", help="write nothing")
    ap.add_argument("--strict", action="store_true", help="fail on wrong numbers and crashes")
    ap.add_argument("--forget", action="store_true", help="drop tests that no longer pass from expected.txt")
    ap.add_argument("--show", type=int, default=10, metavar="N", help="name at most N refused tests when only some are run")
    ap.add_argument("--expected", default=EXPECTED)
    ap.add_argument("--json", help="also write every verdict and reason to this file")
    a = ap.parse_args()
    a.data = os.path.abspath(a.data)

    index = os.path.join(a.data, "tests.json")
    if not os.path.exists(index):
        sys.exit(f"{index} is missing; run fetch_conformance.py")
    with open(index) as f:
        index = json.load(f)
    listed = set()
    if os.path.exists(a.expected):
        with open(a.expected) as f:
            listed = {line.strip() for line in f if line.strip() and not line.startswith("#")}
    tests = index["tests"]
    known = {t["name"] for t in tests}
    some = bool(a.filter or a.op or a.listed)
    if a.listed:
        tests = [t for t in tests if t["name"] in listed]
    if a.op:
        tests = [t for t in tests if t["op"] in a.op.split(",")]
    tests = [t for t in tests if re.search(a.filter, t["name"])]

    results, live = {}, sys.stderr.isatty()
    # Big tests first, so that the end is not one job waiting for the largest.
    order = sorted(tests, key=lambda t: -t["elements"])
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        for test, result in zip(order, pool.map(lambda t: run(t, a), order)):
            results[test["name"]] = result
            if live:
                print(f"\r{len(results)} of {len(tests)}", end="", file=sys.stderr, flush=True)
    if live:
        print(file=sys.stderr)

    by_verdict = collections.defaultdict(list)
    for t in tests:
        by_verdict[results[t["name"]].verdict].append(t["name"])
    lost = sorted(n for n in listed if n in results and results[n].verdict != "passed")
    if not some:
        lost += sorted(listed - known)  # a listed test that vanished is lost too

    if some:
        for name in by_verdict["refused"][:a.show]:
            print(f"refused  {name}: {first_line(results[name].reason)}")
    else:
        reasons = collections.Counter(re.sub(r"`[^`]*`", "`..`", first_line(results[n].reason)) for n in by_verdict["refused"])
        for reason, n in reasons.most_common(a.show):
            print(f"refused {n:5}  {reason}")
    for verdict in ("wrong", "crashed"):
        if by_verdict[verdict]:
            print(f"\n{verdict.upper()}: {len(by_verdict[verdict])}")
            for name in by_verdict[verdict]:
                print(f"  {name}: {results[name].reason}")
    if lost:
        print(f"\nNO LONGER PASSING: {len(lost)}")
        for name in lost:
            result = results.get(name, Result("gone", "not among the tests"))
            print(f"  {name}: {result.verdict}: {first_line(result.reason)}")

    if not (some or a.check):
        passing = set(by_verdict["passed"])
        kept = passing if a.forget else passing | (listed & known)
        write(a.expected, "".join(n + "\n" for n in sorted(kept)))
        operator_record.update(a.tinsmith, record_of(index, results, operator_record.full_names(a.tinsmith)))
        print(f"\n{len(kept - listed)} tests are new in {os.path.relpath(a.expected)}; docs/operators.md is written")
    if a.json:
        write(a.json, json.dumps({n: {"verdict": r.verdict, "reason": r.reason} for n, r in sorted(results.items())}, indent=0))

    n = {v: len(by_verdict[v]) for v in ("passed", "refused", "wrong", "crashed")}
    print(f"\n{len(tests)} tests: {n['passed']} passed, {n['refused']} refused, {n['wrong'] + n['crashed']} failed "
          f"({n['wrong']} wrong, {n['crashed']} crashed), {len(lost)} no longer passing")
    failed = bool(lost and not a.forget) or (a.strict and n["wrong"] + n["crashed"] > 0)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
