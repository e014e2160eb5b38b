#!/usr/bin/env python3
"""Verifies the fetched models as a user has them: compiled to a library, linked by a C compiler into a program, run.

    fetch_models.py                                              once
    verify_libraries.py [--only NAMES]                           for this machine
    verify_libraries.py --target aarch64-unknown-linux-gnu --cc aarch64-linux-gnu-gcc --runner 'qemu-aarch64 -L /usr/aarch64-linux-gnu'

The program reads the inputs and writes the outputs as raw bytes; they are compared here with the references, at each case's own
tolerance. `--cpu` takes levels, separated by commas.
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

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NUMPY = {"f32": "float32", "f64": "float64", "f16": "float16", "bool": "bool", "bf16": "uint16"} | {
    f"{s}{b}": f"{n}{b}" for s, n in (("i", "int"), ("u", "uint")) for b in (8, 16, 32, 64)}
MAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include "{name}.h"

static void *buffer(size_t bytes, const char *path) {{
    void *memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (!memory || (path && (!file || fread(memory, 1, bytes, file) != bytes))) exit(100);
    if (file) fclose(file);
    return memory;
}}

int main(int argc, char **argv) {{
    const tinsmith_model *model = {name}_model();
    void *io[{n}];
    uint32_t i;
    int status;
    if (argc != {n} + 1 || model->n_inputs != {n_inputs} || model->n_outputs != {n} - {n_inputs}) return 101;
    for (i = 0; i < {n_inputs}; i++) io[i] = buffer(model->inputs[i].bytes, argv[1 + i]);
    for (i = {n_inputs}; i < {n}; i++) io[i] = buffer(model->outputs[i - {n_inputs}].bytes, NULL);
    status = (int){name}_run({arguments}, buffer({upper}_WORKSPACE_BYTES, NULL), NULL);
    if (status) return status;
    for (i = {n_inputs}; i < {n}; i++) {{
        FILE *file = fopen(argv[1 + i], "wb");
        if (!file || fwrite(io[i], 1, model->outputs[i - {n_inputs}].bytes, file) != model->outputs[i - {n_inputs}].bytes || fclose(file)) return 102;
    }}
    return 0;
}}
"""


def run(command, what, timeout):
    p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    if p.returncode:
        raise RuntimeError(f"{what}: status {p.returncode}: {p.stderr.decode('utf-8', 'replace').strip()[-300:]}")
    return p.stdout


def outputs_of(model, inputs, a, cpu, scratch):
    """Outputs by name, from a linked program."""
    command = [*shlex.split(a.tinsmith), "compile", model, "-o", scratch, "--name", "net", "--json"]
    command += ["--target", a.target] if a.target else []
    command += ["--cpu", cpu] if cpu else []
    for name, x in inputs.items():
        command += ["--input-shape", f"{name}={','.join(map(str, x.shape))}"]
    facts = json.loads(run(command, "compile", a.timeout))
    ports = facts["inputs"] + facts["outputs"]
    main = MAIN.format(name="net", upper="NET", n=len(ports), n_inputs=len(facts["inputs"]), arguments=", ".join(f"io[{i}]" for i in range(len(ports))))
    with open(os.path.join(scratch, "main.c"), "w") as f:
        f.write(main)
    program = os.path.join(scratch, "program")
    run([*shlex.split(a.cc), "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-I", scratch, os.path.join(scratch, "main.c"),
         os.path.join(scratch, "libnet.a"), "-o", program], "link", a.timeout)
    files = [os.path.join(scratch, f"port_{i}") for i in range(len(ports))]
    for port, file in zip(facts["inputs"], files):
        x = inputs[port["name"]]
        if x.dtype != NUMPY[port["dtype"]] or list(x.shape) != port["shape"]:
            raise RuntimeError(f"input {port['name']} is {port['dtype']}{port['shape']}")
        np.ascontiguousarray(x).tofile(file)
    run([*shlex.split(a.runner), program, *files], "run", a.timeout)
    n = len(facts["inputs"])
    return {p["name"]: np.fromfile(f, NUMPY[p["dtype"]]).reshape(p["shape"]) for p, f in zip(facts["outputs"], files[n:])}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--models", default=os.path.join(ROOT, "target", "models"), help="where fetch_models.py wrote")
    ap.add_argument("--tinsmith", default=os.path.join(ROOT, "target", "release", "tinsmith"))
    ap.add_argument("--target", default="", help="a triple")
    ap.add_argument("--cpu", default="", help="levels, separated by commas")
    ap.add_argument("--cc", default="cc")
    ap.add_argument("--runner", default="", help="what must stand before the program")
    ap.add_argument("--only", default="", help="names of models, separated by commas")
    ap.add_argument("--timeout", type=float, default=600)
    a = ap.parse_args()
    with open(os.path.join(a.models, "manifest.json")) as f:
        models = json.load(f)["models"]
    if a.only:
        models = {n: models[n] for n in a.only.split(",")}
    good = total = 0
    for name, entry in models.items():
        for case in entry["cases"]:
            base = os.path.join(a.models, name)
            for cpu in a.cpu.split(","):
                total += 1
                start = time.time()
                with tempfile.TemporaryDirectory(prefix="libraries-") as scratch:
                    try:
                        inputs, expected = (dict(np.load(f"{base}/case_{case['name']}.{x}.npz")) for x in ("in", "ref"))
                        found = outputs_of(f"{base}/model.onnx", inputs, a, cpu, scratch)
                        for output, reference in expected.items():
                            np.testing.assert_allclose(found[output], reference, rtol=case["rtol"], atol=case["atol"], err_msg=output)
                        verdict, good = f"ok {time.time() - start:.1f} s", good + 1
                    except (RuntimeError, AssertionError, KeyError, subprocess.TimeoutExpired) as e:
                        verdict = "FAILED " + " ".join(str(e).split())[:300]
                print(f"{name} {case['name']} {cpu}: {verdict}", flush=True)
    print(f"{len(models)} models, {total} verifications: {good} passed, {total - good} failed")
    sys.exit(0 if good == total and total else 1)


if __name__ == "__main__":
    main()
