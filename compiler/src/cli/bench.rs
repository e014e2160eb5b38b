//! `tinsmith bench MODEL [IN.npz]`: latency of a run, and of every step.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tinsmith::codegen::{Executable, Memory};
use tinsmith::{Artifact, Error, source};

use super::options::ModelOptions;
use super::progress::Progress;
use super::{Outcome, arrays, inputs};

/// Measure how long a model runs
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// The inputs by name; random ones where none are given
    input: Option<PathBuf>,
    /// Threads to run on; this version runs on one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// How long to measure
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Runs that warm caches and clocks.
const WARM_RUNS: usize = 2;
/// Fewest and most runs that are measured.
const RUNS: std::ops::Range<usize> = 5..100_000;

pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    if !(args.seconds >= 0.0 && args.seconds < 1e6) {
        return Err(Error::Usage(format!("`--seconds {}` is not a length of time", args.seconds)));
    }
    if args.threads > 1 {
        eprintln!("warning: this version runs on one thread, not {}", args.threads);
    }
    let mut config = args.model.config_here();
    let progress = Progress::new(format!("compiling {}", args.model.model.display()));
    let start = Instant::now();
    let (artifact, given) = match &args.input {
        None => (tinsmith::compile(&args.model.model, &config)?, None),
        Some(file) => {
            let signature = source::signature(&args.model.model)?;
            let (artifact, given) = inputs::compile(&args.model.model, &signature, arrays::read_npz(file)?, &mut config)?;
            (artifact, Some(given))
        }
    };
    let executable = artifact.executable()?;
    let compile_seconds = start.elapsed().as_secs_f64();
    let tensors = given.unwrap_or_else(|| inputs::random(&artifact.interface.inputs));
    let mut memory = inputs::memory(&artifact, &executable, &tensors)?;

    progress.say("measuring runs".to_owned());
    let (times, energy) = measure(&executable, &mut memory, Duration::from_secs_f64(args.seconds))?;
    progress.say("measuring steps".to_owned());
    let steps = measure_steps(&executable, &mut memory, Duration::from_secs_f64(0.2 * args.seconds))?;
    drop(progress);
    Ok(told(&artifact, &times, energy, &steps, compile_seconds))
}

/// Times of runs in milliseconds, ascending, and joules of one run where the machine tells.
fn measure(executable: &Executable, memory: &mut Memory, length: Duration) -> Result<(Vec<f64>, Option<f64>), Error> {
    for _ in 0..WARM_RUNS {
        executable.run(memory)?;
    }
    let mut times = vec![];
    let energy_before = energy_joules();
    let start = Instant::now();
    while times.len() < RUNS.end && (times.len() < RUNS.start || start.elapsed() < length) {
        let start = Instant::now();
        executable.run(memory)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let energy = energy_before.zip(energy_joules()).map(|(a, b)| (b - a) / times.len() as f64).filter(|&joules| joules > 0.0);
    times.sort_by(f64::total_cmp);
    Ok((times, energy))
}

/// Median time of every step in milliseconds.
fn measure_steps(executable: &Executable, memory: &mut Memory, length: Duration) -> Result<Vec<f64>, Error> {
    let n = executable.steps().len();
    let mut times: Vec<Vec<f64>> = vec![vec![]; n];
    let start = Instant::now();
    for round in 0..1000 {
        if round >= 3 && start.elapsed() > length {
            break;
        }
        for (i, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            executable.run_step(i, memory)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    Ok(times.iter().map(|t| percentile(t, 0.5)).collect())
}

/// The value below which a share of ascending values lies.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or(0.0)
}

fn told(artifact: &Artifact, times: &[f64], energy: Option<f64>, steps: &[f64], compile_seconds: f64) -> Outcome {
    let report = artifact.report(None);
    let (median, p90, least) = (percentile(times, 0.5), percentile(times, 0.9), percentile(times, 0.0));
    let gflops = 2.0 * report.n_multiply_adds as f64 / (median * 1e6);
    let total: f64 = steps.iter().sum();
    let program = &artifact.compiled.program;
    let macs: Vec<u64> = artifact.compiled.expressions.iter().map(|(_, e)| e.n_multiply_adds()).collect();
    let mut nodes: Vec<Value> = vec![];
    let mut lines: Vec<(f64, String)> = vec![];
    for (i, (step, &ms)) in program.steps.iter().zip(steps).enumerate() {
        let kernel = &program.kernels[step.kernel];
        let macs = macs.get(i).copied().unwrap_or(0);
        let rate = if ms > 0.0 { 2.0 * macs as f64 / (ms * 1e6) } else { 0.0 };
        let moved: usize = kernel.buffers.iter().map(|b| b.len * b.dtype.size_bytes()).sum();
        let gbytes = if ms > 0.0 { moved as f64 / (ms * 1e6) } else { 0.0 };
        nodes.push(json!({
            "name": step.label, "nodes": artifact.compiled.steps.get(i).map(|s| &s.nodes), "kernel": kernel.name, "schedule": kernel.schedule,
            "median_ms": ms, "share": ms / total.max(1e-12), "multiply_adds": macs, "gflops": rate, "gbytes_per_s": gbytes,
        }));
        lines.push((
            ms,
            format!(
                "{ms:9.4} ms {:5.1}% {rate:7.1} GFLOP/s {gbytes:6.1} GB/s  {} {}\n",
                100.0 * ms / total.max(1e-12),
                step.label,
                kernel.schedule
            ),
        ));
    }
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    let slowest: String = lines.iter().take(12).map(|l| l.1.as_str()).collect();
    let cpu = cpu_name();
    let energy_text = energy.map_or_else(String::new, |j| format!(", {:.3} mJ", j * 1e3));
    let text = format!(
        "{} on {cpu} ({}), 1 thread\nmedian {median:.4} ms, p90 {p90:.4} ms, min {least:.4} ms, {} runs, {gflops:.1} GFLOP/s{energy_text}\n{slowest}",
        artifact.interface.name,
        artifact.interface.machine,
        times.len(),
    );
    let facts = json!({
        "name": artifact.interface.name, "cpu": cpu, "target": artifact.interface.machine.to_string(), "threads": 1, "runs": times.len(),
        "median_ms": median, "p90_ms": p90, "min_ms": least, "gflops": gflops, "joules": energy, "compile_seconds": compile_seconds,
        "multiply_adds": report.n_multiply_adds, "workspace_bytes": report.workspace_bytes,
        "workspace_lower_bound_bytes": report.workspace_lower_bound_bytes, "constant_bytes": report.interface.constant_bytes, "nodes": nodes,
    });
    Outcome::done(text, facts)
}

fn cpu_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |key: &str| info.lines().find(|l| l.starts_with(key)).and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned());
    field("model name").or_else(|| field("CPU part").map(|p| format!("CPU part {p}"))).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Energy that the package has used, where the system tells it to this user.
fn energy_joules() -> Option<f64> {
    let text = fs::read_to_string("/sys/class/powercap/intel-rapl:0/energy_uj").ok()?;
    text.trim().parse::<f64>().ok().map(|uj| uj * 1e-6)
}
