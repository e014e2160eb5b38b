//! The harness of the test suite: fixtures, the command line, and compile-link-run.

pub mod c_program;
pub mod pools;
pub mod random_graphs;
pub mod tool;

use std::path::{Path, PathBuf};

use tinsmith::codegen::{Level, Machine};
use tinsmith::tensor::{DType, Tensor};

/// The project's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// A fixture by its path under `testsuite/fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// An empty folder of one test, under the target folder.
///
/// # Panics
/// If it cannot be made.
pub fn scratch(test: &str) -> PathBuf {
    let folder = tool::target_folder().join("testsuite").join(test);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("the last run's folder can be removed");
    }
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

/// Says on standard error, captured or not, that a test could not run here, and why.
pub fn skip(test: &str, why: &str) {
    use std::io::Write;
    // Unlike `eprintln!`, this is shown for tests that pass.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// Whether programs for x86-64 Linux run here; where not, says that the test is skipped.
pub fn is_x86_64_linux(test: &str) -> bool {
    let here = cfg!(all(target_arch = "x86_64", target_os = "linux"));
    if !here {
        skip(test, "not x86-64 Linux");
    }
    here
}

/// The levels whose programs run here, by name; says which of the others the test skips.
pub fn x86_64_levels(test: &str) -> Vec<&'static str> {
    if !is_x86_64_linux(test) {
        return vec![];
    }
    let runs = |&level: &Level| {
        let machine = Machine::x86_64(level);
        let runs = machine.check_host().is_ok();
        if !runs {
            skip(test, &format!("this machine is no {machine}"));
        }
        runs
    };
    Level::X86_64.into_iter().filter(runs).map(|level| level.name(Machine::x86_64(level).target.arch)).collect()
}

/// Whether programs for 64-bit Arm can be linked and emulated here; where not, says that the test is skipped.
pub fn has_aarch64(test: &str) -> bool {
    let here = tool::exists("aarch64-linux-gnu-gcc") && tool::exists("qemu-aarch64");
    if !here {
        skip(test, "there is no aarch64-linux-gnu-gcc or no qemu-aarch64");
    }
    here
}

/// Deterministic elements: floats in -1..1, integers 0 to 3.
pub fn random(dtype: DType, dims: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let n: usize = dims.iter().product();
    let values: Vec<f64> = (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let unit = (state >> 40) as f64 / (1u64 << 24) as f64;
            if dtype.is_float() { 2.0 * unit - 1.0 } else { (4.0 * unit).floor() }
        })
        .collect();
    Tensor::from_f64s(dtype, dims, &values)
}
