//! `tinsmith bench MODEL [IN.npz]`: latency of a run, and of every step beside what this machine could do.

mod peaks;
mod report;
mod roofline;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tinsmith::codegen::{Executable, Memory};
use tinsmith::emit::files;
use tinsmith::{Error, Hook, Pool, source};

use super::options::ModelOptions;
use super::progress::Progress;
use super::{Outcome, arrays, inputs};
use peaks::Peaks;
use report::{Measured, Measurement};

/// Measure how long a model runs
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// The inputs by name; random ones where none are given
    input: Option<PathBuf>,
    /// How long to measure
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Draw the steps under this machine's ceilings
    #[arg(long, value_name = "FILE.svg", value_parser = svg_path)]
    roofline: Option<PathBuf>,
}

/// Runs that warm caches and clocks.
const WARM_RUNS: usize = 2;
/// Fewest and most runs that are measured.
const RUNS: std::ops::Range<usize> = 5..100_000;
/// Fewest and most times that the steps are measured.
const STEP_RUNS: std::ops::Range<usize> = 3..1000;

fn svg_path(text: &str) -> Result<PathBuf, String> {
    let is_svg = Path::new(text).extension().is_some_and(|e| e.eq_ignore_ascii_case("svg"));
    if is_svg { Ok(text.into()) } else { Err("expected a file named .svg".to_owned()) }
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    if !(args.seconds >= 0.0 && args.seconds < 1e6) {
        return Err(Error::Usage(format!("`--seconds {}` is not a length of time", args.seconds)));
    }
    let pool = args.model.pool();
    let hook = pool.as_ref().map(Pool::hook);
    let threads = pool.as_ref().map_or(1, Pool::n_threads);
    let mut config = args.model.config_here();
    let progress = Progress::new(format!("compiling {}", args.model.model.display()));
    let start = Instant::now();
    let (artifact, given) = match &args.input {
        None => (tinsmith::compile(&args.model.model, &config)?, None),
        Some(file) => {
            let signature = source::signature(&args.model.model)?;
            let arrays = inputs::bind_to(&signature, arrays::read_npz(file)?, &mut config)?;
            let artifact = inputs::compile(&args.model.model, &arrays, &mut config)?;
            let given = inputs::in_order(&artifact, arrays);
            (artifact, Some(given))
        }
    };
    let executable = artifact.executable()?;
    let compile_seconds = start.elapsed().as_secs_f64();
    let tensors = given.unwrap_or_else(|| inputs::random(&artifact));
    let mut memory = inputs::memory(&artifact, &executable, &tensors)?;

    progress.say("measuring this machine".to_owned());
    let peaks = Peaks::measure(&artifact.interface.machine, artifact.compiled.program.emitter, threads)?;
    progress.say("measuring runs".to_owned());
    let (times, joules) = measure(&executable, &mut memory, hook, Duration::from_secs_f64(args.seconds))?;
    progress.say("measuring steps".to_owned());
    let step_times = measure_steps(&executable, &mut memory, hook, Duration::from_secs_f64(0.2 * args.seconds))?;
    let report = artifact.report(None);
    let measurement = Measurement {
        name: artifact.interface.name.clone(),
        cpu: cpu_name(),
        machine: artifact.interface.machine.to_string(),
        threads,
        times,
        joules,
        compile_seconds,
        multiply_adds: report.n_multiply_adds,
        workspace_bytes: report.workspace_bytes,
        workspace_lower_bound_bytes: report.workspace_lower_bound_bytes,
        constant_bytes: report.interface.constant_bytes,
        peaks,
        steps: artifact.steps().into_iter().zip(step_times).map(|(facts, ms)| Measured { facts, ms }).collect(),
    };
    if let Some(path) = &args.roofline {
        files::write(path, roofline::svg(&measurement).as_bytes())?;
    }
    drop(progress);
    Ok(Outcome::done(measurement.text(), measurement.to_json()))
}

/// Times of runs in milliseconds, ascending, and joules of one run where the machine tells.
fn measure(executable: &Executable, memory: &mut Memory, pool: Option<&Hook>, length: Duration) -> Result<(Vec<f64>, Option<f64>), Error> {
    for _ in 0..WARM_RUNS {
        executable.run_with(memory, pool)?;
    }
    let mut times = vec![];
    let energy_before = energy_joules();
    let start = Instant::now();
    while times.len() < RUNS.end && (times.len() < RUNS.start || start.elapsed() < length) {
        let start = Instant::now();
        executable.run_with(memory, pool)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let energy = energy_before.zip(energy_joules()).map(|(a, b)| (b - a) / times.len() as f64).filter(|&joules| joules > 0.0);
    times.sort_by(f64::total_cmp);
    Ok((times, energy))
}

/// Median time of every step in milliseconds, without what reading the clock takes.
fn measure_steps(executable: &Executable, memory: &mut Memory, pool: Option<&Hook>, length: Duration) -> Result<Vec<f64>, Error> {
    let mut times: Vec<Vec<f64>> = vec![vec![]; executable.steps().len()];
    let clock = clock_milliseconds();
    let start = Instant::now();
    for round in 0..STEP_RUNS.end {
        if round >= STEP_RUNS.start && start.elapsed() > length {
            break;
        }
        for (times, time) in times.iter_mut().zip(executable.step_times(memory, pool)?) {
            times.push((time.as_secs_f64() * 1e3 - clock).max(1e-6));
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    Ok(times.iter().map(|t| report::percentile(t, 0.5)).collect())
}

/// The least time between two readings of the clock.
fn clock_milliseconds() -> f64 {
    let one = || {
        let start = Instant::now();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..1000).map(|_| one()).fold(f64::INFINITY, f64::min)
}

fn cpu_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |key: &str| info.lines().find(|l| l.starts_with(key)).and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned());
    field("model name").or_else(|| field("CPU part").map(|p| format!("CPU part {p}"))).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Energy that all packages have used, where the system tells it to this user.
fn energy_joules() -> Option<f64> {
    let package = |i: usize| {
        let text = fs::read_to_string(format!("/sys/class/powercap/intel-rapl:{i}/energy_uj")).ok()?;
        text.trim().parse::<f64>().ok().map(|uj| uj * 1e-6)
    };
    (0..).map_while(package).reduce(|a, b| a + b)
}
