"""A compiled library as its user has it: made by the command, linked by a C compiler, run as a process of its own."""
import json
import os
import platform
import shlex
import subprocess

import numpy as np

AARCH64 = "aarch64-unknown-linux-gnu"
X86_64 = "x86_64-unknown-linux-gnu"
LEVELS = {  # what /proc/cpuinfo must list, each level beside those of the one before
    "x86-64-v1": set(),
    "x86-64-v2": {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
    "x86-64-v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
DTYPES = {"bool": np.bool_, "f16": np.float16, "bf16": np.uint16, "f32": np.float32, "f64": np.float64,
          **{f"{s}{b}": np.dtype(f"{k}{b // 8}").type for s, k in (("i", "i"), ("u", "u")) for b in (8, 16, 32, 64)}}

# Reads input_K.bin, which hold one tensor a sample, and writes output_K.bin likewise. The first samples are computed twice, in
# a workspace filled with other garbage, and must come out with the same bits.
MAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model.h"

static _Alignas(MODEL_WORKSPACE_ALIGN) unsigned char workspace[MODEL_WORKSPACE_BYTES];
static unsigned char *buffer[2][@ports@];
static FILE *file[@ports@];

static int run_in(int fill, unsigned char **outputs) {
    memset(workspace, fill, sizeof workspace);
    return model_run(@arguments@, workspace, NULL);
}

int main(int argc, char **argv) {
    const tinsmith_model *m = model_model();
    const uint32_t n = m->n_inputs + m->n_outputs;
    long samples = argc > 2 ? atol(argv[2]) : 1, sample;
    uint32_t i;
    char path[4096];
    if (argc < 2 || n != @ports@ || m->workspace_bytes != MODEL_WORKSPACE_BYTES || m->abi != TINSMITH_ABI_VERSION) return 10;
    for (i = 0; i < n; i++) {
        const int is_input = i < m->n_inputs;
        const tinsmith_tensor *t = is_input ? &m->inputs[i] : &m->outputs[i - m->n_inputs];
        int k;
        for (k = 0; k < 2; k++) {
            buffer[k][i] = aligned_alloc(64, (t->bytes + 127) / 64 * 64);
            if (!buffer[k][i]) return 11;
            memset(buffer[k][i], 0x5a + k, t->bytes);
        }
        snprintf(path, sizeof path, "%s/%s_%u.bin", argv[1], is_input ? "input" : "output", (unsigned)(is_input ? i : i - m->n_inputs));
        file[i] = fopen(path, is_input ? "rb" : "wb");
        if (!file[i]) return 12;
    }
    for (sample = 0; sample < samples; sample++) {
        int status;
        for (i = 0; i < m->n_inputs; i++)
            if (fread(buffer[0][i], 1, m->inputs[i].bytes, file[i]) != m->inputs[i].bytes) return 13;
        const int again = sample < 4;
        if ((status = run_in(0xff, buffer[0])) != 0 || (again && (status = run_in(0x41, buffer[1])) != 0)) {
            fprintf(stderr, "%s\n", tinsmith_status_text((tinsmith_status)status));
            return 14;
        }
        for (i = m->n_inputs; i < n; i++) {
            const uint64_t bytes = m->outputs[i - m->n_inputs].bytes;
            if (again && memcmp(buffer[0][i], buffer[1][i], bytes) != 0) {
                fprintf(stderr, "output %u depends on what the workspace held\n", (unsigned)(i - m->n_inputs));
                return 15;
            }
            if (fwrite(buffer[0][i], 1, bytes, file[i]) != bytes) return 16;
        }
    }
    for (i = 0; i < n; i++)
        if (fclose(file[i]) != 0) return 17;
    return 0;
}
"""


class Failure(Exception):
    """What a command printed: (the word for a table, the text)."""

    def __init__(self, word, text):
        super().__init__(text)
        self.word, self.text = word, text


def lacks(level):
    """True for an x86-64 level that this machine cannot run."""
    if level not in LEVELS:
        return False
    with open("/proc/cpuinfo") as f:
        flags = next((set(line.split(":")[1].split()) for line in f if line.startswith("flags")), set())
    names = list(LEVELS)
    return not set().union(*(LEVELS[n] for n in names[:names.index(level) + 1])) <= flags


def machine():
    """The machine in words."""
    with open("/proc/cpuinfo") as f:
        name = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())
    highest = [x for x in LEVELS if not lacks(x)] if platform.machine() == "x86_64" else []
    return f"{name}{f' ({highest[-1]})' if highest else ''}, {platform.system()} {platform.machine()}"


def replace_section(path, head, text):
    """Replaces the section of a Markdown file that begins with the line `head`, to the next of its kind, or adds it at the end."""
    with open(path) as f:
        before, _, after = f.read().partition(head + "\n")
    rest = "\n## " + after.split("\n## ", 1)[1] if "\n## " in after else ""
    with open(path, "w") as f:
        f.write(before.rstrip("\n") + "\n\n" + text + rest)


def command(arguments, timeout, words):
    """Runs a command; its standard output. `words` name exit statuses."""
    try:
        p = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failure("TIMEOUT", f"no end within {timeout:g} s: {shlex.join(arguments)}") from None
    if p.returncode:
        text = p.stderr.decode("utf-8", "replace") or p.stdout.decode("utf-8", "replace")
        raise Failure(words.get(p.returncode, f"CRASH {p.returncode}"), f"{shlex.join(arguments)}\n{text}")
    return p.stdout


def build(tinsmith, model, folder, level, shapes, timeout=600):
    """Compiles a model at a level (`aarch64`, or one of x86-64's) and links the program; the command's facts."""
    target = AARCH64 if level == "aarch64" else X86_64
    cc = ["aarch64-linux-gnu-gcc", "-static"] if level == "aarch64" else ["cc"]
    options = [x for name, dims in shapes.items() for x in ("--input-shape", f"{name}={','.join(map(str, dims))}")]
    cpu = [] if level == "aarch64" else ["--cpu", level]
    facts = json.loads(command([*shlex.split(tinsmith), "compile", model, "-o", folder, "--name", "model", "--json", "--target", target, *cpu, *options],
                               timeout, {2: "refused", 3: "REJECTED"}))
    ports = len(facts["inputs"]) + len(facts["outputs"])
    arguments = [f"(const void *)buffer[0][{i}]" for i in range(len(facts["inputs"]))]
    arguments += [f"(void *)outputs[{i}]" for i in range(len(facts["inputs"]), ports)]
    with open(os.path.join(folder, "main.c"), "w") as f:
        f.write(MAIN.replace("@ports@", str(ports)).replace("@arguments@", ", ".join(arguments)))
    command([*cc, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-I", folder, os.path.join(folder, "main.c"), os.path.join(folder, "libmodel.a"),
             "-o", os.path.join(folder, "program")], timeout, {1: "UNLINKED"})
    return facts


def run(facts, folder, level, feeds, samples=1, timeout=600):
    """Runs the program on inputs by name, each with an axis of samples before its own where `samples` is not 1; outputs likewise."""
    for i, port in enumerate(facts["inputs"]):
        np.ascontiguousarray(feeds[port["name"]]).astype(DTYPES[port["dtype"]]).tofile(os.path.join(folder, f"input_{i}.bin"))
    emulator = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"] if level == "aarch64" else []
    printed = command([*emulator, os.path.join(folder, "program"), folder, str(samples)], timeout, {14: "STATUS", 15: "UNSTABLE"})
    if printed:
        raise Failure("OUTPUT", f"the library printed {printed[:100]!r}")
    outputs = {}
    for i, port in enumerate(facts["outputs"]):
        shape = port["shape"] if samples == 1 else [samples, *port["shape"]]
        outputs[port["name"]] = np.fromfile(os.path.join(folder, f"output_{i}.bin"), DTYPES[port["dtype"]]).reshape(shape)
    return outputs
