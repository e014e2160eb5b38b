#!/usr/bin/env python3
"""What each engine is: how its model is made ready, and one measurement in a fresh process.

    engines.py ENGINE MODEL.onnx CASE THREADS SECONDS PREPARED     one measurement; prints JSON (run.py starts these)

CASE is a folder of `case.json`, the names, types and shapes of inputs and outputs, and each input as `K.npy` and
`K.bin`. The first outputs are written into it as `ENGINE.K.npy` or `ENGINE.K.bin`. PREPARED is the folder that
`prepare` filled. To add an engine: a line in ENGINES, and a function of the same name in PREPARE, RUNNERS or COMMANDS.
"""
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# Name: what it needs, as a Python package or a program, and whether making a model ready takes minutes.
ENGINES = {
    "tinsmith": ("", False), "onnxruntime": ("onnxruntime", False), "openvino": ("openvino", False), "tract": ("tract", False),
    "rten": ("", False), "iree": ("iree-base-compiler", True), "tvm": ("apache-tvm", True), "emx": ("emx-onnx-cgen", True),
    "emx_fast": ("emx-onnx-cgen", True),
}
WARM_RUNS, MIN_RUNS, MAX_RUNS = 2, 5, 50_000


class Unavailable(Exception):
    """An engine is not installed, or cannot take a model."""


def checked(command, timeout, **options):
    try:
        return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout, **options)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{os.path.basename(command[0])} did not end within {timeout:g} s") from None
    except subprocess.CalledProcessError as e:
        lines = [x for x in e.stderr.decode(errors="replace").splitlines() if x.strip()] or ["no message"]
        raise Unavailable(f"{os.path.basename(command[0])}: {next((x for x in lines if 'error' in x.lower()), lines[-1])[:200]}") from None


def version(engine, settings):
    """What an engine calls itself; raises Unavailable where it is missing."""
    package = ENGINES[engine][0]
    if package:
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        try:
            return checked([settings.python, "-c", code], 60).stdout.decode().strip()
        except Unavailable:
            raise Unavailable(f"the Python package {package} is not installed") from None
    if engine == "rten":
        with open(os.path.join(HERE, "rten", "Cargo.lock")) as f:
            lines = f.read().split('name = "rten"\n', 1)
        return lines[1].split('"')[1] if len(lines) > 1 else "unknown"
    return checked([settings.tinsmith, "--version"], 60).stdout.decode().split()[-1]


# ---------------------------------------------------------------- making models ready; results are kept by the file's time
def prepare_tinsmith(model, folder, settings):
    """The library, linked into the program that times it: what is measured is the product."""
    name = os.path.splitext(os.path.basename(model))[0]
    report = json.loads(checked([settings.tinsmith, "compile", model, "-o", folder, "--cpu", "native", "--json", *settings.options], settings.timeout).stdout)
    prefix = report["name"]
    with open(os.path.join(folder, prefix + ".h")) as f:
        header = f.read()
    parameters = [f"in[{i}]" for i in range(len(report["inputs"]))] + [f"out[{i}]" for i in range(len(report["outputs"]))]
    pool = "tinsmith_pool_create((uint32_t)(n))" if "tinsmith_pool_create" in header else "NULL"
    with open(os.path.join(folder, "call.h"), "w") as f:
        f.write(f'#include "{prefix}.h"\n#define MODEL {prefix}_model\n#define RUN(in, out, workspace, pool) {prefix}_run({", ".join(parameters)}, workspace, pool)\n'
                f"#define POOL(n) {pool}\n")
    compiler = [settings.cc, "-O2", "-std=c11", "-w", "-I", folder, os.path.join(HERE, "time_library.c"), os.path.join(folder, f"lib{prefix}.a")]
    checked([*compiler, "-lpthread", "-lm", "-o", os.path.join(folder, "main")], settings.timeout)
    return {"inputs": [i["name"] for i in report["inputs"]], "threads": pool != "NULL", "name": name}


def prepare_rten(model, folder, settings):
    checked(["cargo", "build", "--release", "--quiet", "--manifest-path", os.path.join(HERE, "rten", "Cargo.toml"), "--target-dir", os.path.join(settings.cache, "rten-target")], 1800)
    shutil.copy(os.path.join(settings.cache, "rten-target", "release", "rten-bench"), os.path.join(folder, "main"))
    return {}


def prepare_iree(model, folder, settings):
    tools = os.path.dirname(settings.python)
    mlir, module = os.path.join(folder, "model.mlir"), os.path.join(folder, "model.vmfb")
    checked([os.path.join(tools, "iree-import-onnx"), model, "-o", mlir, "--opset-version", "17"], settings.timeout)
    with open(mlir, errors="replace") as f:
        function = next(line for line in f if "func.func @" in line).split("@")[1].split("(")[0].strip('"')
    checked([os.path.join(tools, "iree-compile"), "--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host",
             "--iree-opt-level=O3", "--iree-opt-data-tiling", "--iree-llvmcpu-enable-ukernels=all", "--iree-llvmcpu-stack-allocation-limit=1048576",
             "--iree-preprocessing-pass-pipeline=builtin.module(util.func(iree-preprocessing-convert-conv-to-channels-last))", mlir, "-o", module], settings.timeout)
    os.remove(mlir)
    return {"function": function}


def prepare_tvm(model, folder, settings):
    checked([settings.python, os.path.abspath(__file__), "_tvm", model, folder], settings.timeout)
    with open(os.path.join(folder, "inputs.json")) as f:
        return {"inputs": json.load(f)}


def build_tvm(model, folder):
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx
    proto = onnx.load(model)
    constants = {i.name for i in proto.graph.initializer}
    target = tvm.target.Target({"kind": "llvm", "mcpu": host_cpu(), "num-cores": os.cpu_count()})
    with target:
        module = relax.get_pipeline("zero")(from_onnx(proto, keep_params_in_input=False))
        library = tvm.compile(module, target=target)
    library.export_library(os.path.join(folder, "model.so"))
    with open(os.path.join(folder, "inputs.json"), "w") as f:
        json.dump([i.name for i in proto.graph.input if i.name not in constants], f)


def host_cpu():
    """LLVM's name of this CPU, as a C compiler knows it; levels are the fallback."""
    output = subprocess.run(["cc", "-march=native", "-Q", "--help=target"], capture_output=True, text=True).stdout
    names = [line.split()[1] for line in output.splitlines() if line.strip().startswith("-march=") and len(line.split()) == 2]
    return names[0] if names else "x86-64-v3"


def prepare_emx(model, folder, settings, options=()):
    tool = os.path.join(os.path.dirname(settings.python), "emx-onnx-cgen")
    checked([tool, "compile", "--model-name", "model", model, "model.c"], settings.timeout, cwd=folder)
    checked([settings.cc, "-O3", "-march=native", *options, "-w", "-shared", "-fPIC", "model.c", "-o", "model.so", "-lm"], settings.timeout, cwd=folder)
    return {}


def prepare_emx_fast(model, folder, settings):
    return prepare_emx(model, folder, settings, ["-ffast-math"])


PREPARE = {"tinsmith": prepare_tinsmith, "rten": prepare_rten, "iree": prepare_iree, "tvm": prepare_tvm, "emx": prepare_emx, "emx_fast": prepare_emx_fast}


def prepare(engine, model, name, settings):
    """The folder with what an engine needs to run a model; made unless a newer one is there."""
    folder = os.path.join(settings.cache, engine, name)
    stamp, facts = os.path.join(folder, "prepared.json"), [os.path.getmtime(model)]
    if engine == "tinsmith":
        facts += [os.path.getmtime(settings.tinsmith), settings.options]
    try:
        with open(stamp) as f:
            if json.load(f)["of"] == facts:
                return folder
    except (OSError, ValueError, KeyError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    info = PREPARE[engine](model, folder, settings) if engine in PREPARE else {}
    with open(stamp, "w") as f:
        json.dump({"of": facts, **info}, f)
    return folder


# ---------------------------------------------------------------- the command of one measurement
def command(engine, model, case, threads, seconds, prepared, settings):
    """The command of a fresh process that prints one measurement."""
    with open(os.path.join(prepared, "prepared.json")) as f:
        info = json.load(f)
    with open(os.path.join(case, "case.json")) as f:
        inputs = json.load(f)["inputs"]
    if engine == "tinsmith":
        files = {i["name"]: os.path.join(case, f"{k}.bin") for k, i in enumerate(inputs)}
        return [os.path.join(prepared, "main"), str(threads), str(seconds), os.path.join(case, "tinsmith"), *[files[n] for n in info["inputs"]]]
    if engine == "rten":
        return [os.path.join(prepared, "main"), model, case, str(seconds)]
    return [settings.python, os.path.abspath(__file__), engine, model, case, str(threads), str(seconds), prepared]


def environment(threads):
    """Variables that hold engines to a number of threads."""
    names = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "RTEN_NUM_THREADS", "TVM_NUM_THREADS")
    return {**{n: str(threads) for n in names}, "TVM_BIND_THREADS": "0"}


# ---------------------------------------------------------------- workers
def onnxruntime_runner(model, feeds, threads, prepared):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    feeds = {n: x for n, x in feeds.items() if n in names}
    return lambda: session.run(None, feeds)


def openvino_runner(model, feeds, threads, prepared):
    import openvino as ov
    core = ov.Core()
    # Without the hint it computes in bf16 where the CPU can.
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model), "CPU", options)
    request = compiled.create_infer_request()
    for port in compiled.inputs:
        request.set_tensor(port, ov.Tensor(feeds[next(n for n in feeds if n in port.get_names())], shared_memory=True))
    outputs = list(compiled.outputs)

    def run():
        request.infer()
        return [request.get_tensor(o).data for o in outputs]
    return run


def tract_runner(model, feeds, threads, prepared):
    import tract
    loaded = tract.onnx().load(model)
    short = {"float32": "f32", "int64": "i64", "int32": "i32"}
    arrays = []
    for k in range(loaded.input_count()):
        x = feeds.get(loaded.input_name(k))
        x = list(feeds.values())[k] if x is None else x
        loaded.set_input_fact(k, ",".join(map(str, x.shape)) + "," + short[x.dtype.name])
        arrays.append(x)
    runnable = loaded.into_model().into_runnable()
    return lambda: [y.to_numpy() for y in runnable.run(arrays)]


def tvm_runner(model, feeds, threads, prepared):
    import tvm
    from tvm import relax
    machine = relax.VirtualMachine(tvm.runtime.load_module(os.path.join(prepared, "model.so")), tvm.cpu())
    with open(os.path.join(prepared, "inputs.json")) as f:
        arrays = [tvm.runtime.tensor(feeds[n]) for n in json.load(f)]

    def run():
        result = machine["main"](*arrays)
        return [result] if hasattr(result, "numpy") else list(result)
    return run


def emx_runner(model, feeds, threads, prepared):
    import numpy as np
    os.chdir(prepared)
    library = ctypes.CDLL(os.path.join(prepared, "model.so"))
    if os.path.exists("model.bin"):
        library.model_load.restype = ctypes.c_bool
        if not library.model_load(b"model.bin"):
            raise RuntimeError("model.bin cannot be loaded")
    outputs = [np.zeros(o["shape"], o["dtype"]) for o in CASE["outputs"]]
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in [*feeds.values(), *outputs]]

    def run():
        library.model(*pointers)
        return outputs
    return run


RUNNERS = {"onnxruntime": onnxruntime_runner, "openvino": openvino_runner, "tract": tract_runner, "tvm": tvm_runner, "emx": emx_runner, "emx_fast": emx_runner}
CASE = {}


def iree_worker(case, threads, seconds, prepared):
    """IREE's own tools: one writes the outputs, the other measures."""
    with open(os.path.join(prepared, "prepared.json")) as f:
        function = json.load(f)["function"]
    tools = os.path.dirname(sys.executable)
    device = ["--device=local-sync"] if threads == 1 else ["--device=local-task", f"--task_topology_group_count={threads}"]
    common = [f"--module={os.path.join(prepared, 'model.vmfb')}", f"--function={function}", *device, *[f"--input=@{os.path.join(case, f'{k}.npy')}" for k in range(len(CASE["inputs"]))]]
    checked([os.path.join(tools, "iree-run-module"), *common, *[f"--output=@{os.path.join(case, f'iree.{k}.npy')}" for k in range(len(CASE["outputs"]))]], 600)
    output = checked([os.path.join(tools, "iree-benchmark-module"), *common, "--benchmark_format=json", f"--benchmark_min_time={seconds / 8}s",
                      "--benchmark_repetitions=9", "--benchmark_min_warmup_time=0.1"], 600).stdout.decode()
    unit = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
    runs = [b for b in json.loads(output[output.index("{"):])["benchmarks"] if b.get("run_type") == "iteration"]
    return [b["real_time"] * unit[b["time_unit"]] for b in runs]


def measure(run, seconds):
    for _ in range(WARM_RUNS):
        run()
    times, begin = [], time.perf_counter()
    while len(times) < MAX_RUNS and (len(times) < MIN_RUNS or time.perf_counter() - begin < seconds):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def worker(engine, model, case, threads, seconds, prepared):
    import numpy as np
    with open(os.path.join(case, "case.json")) as f:
        CASE.update(json.load(f))
    if engine == "iree":
        times = iree_worker(case, threads, seconds, prepared)
    else:
        feeds = {i["name"]: np.load(os.path.join(case, f"{k}.npy")) for k, i in enumerate(CASE["inputs"])}
        run = RUNNERS[engine](model, feeds, threads, prepared)
        for k, y in enumerate(run()):
            np.save(os.path.join(case, f"{engine}.{k}.npy"), np.asarray(y.numpy() if hasattr(y, "numpy") else y))
        times = measure(run, seconds)
    print(json.dumps({"median_ms": statistics.median(times), "min_ms": min(times), "runs": len(times)}))


if __name__ == "__main__":
    if sys.argv[1] == "_tvm":
        build_tvm(sys.argv[2], sys.argv[3])
    else:
        engine, model, case, threads, seconds, prepared = sys.argv[1:]
        worker(engine, model, case, int(threads), float(seconds), prepared)
