//! Graphs, compiled, give what the interpreter gives: those of `fixtures/compiled`, and random ones. A few seconds here; `TINSMITH_FUZZ_SECONDS=N` searches for longer,
//! `TINSMITH_FUZZ_SEED=N` starts elsewhere. A failure prints its seed and a small graph that can become a fixture.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use tinsmith_testsuite::fixture;
use tinsmith_testsuite::random_graphs::{Found, check, generate, shrink};

const SECONDS: u64 = 10;
/// Graphs that run even on a slow machine.
const AT_LEAST: u64 = 20;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn compiled_fixtures_compute_what_they_mean() {
    let mut files: Vec<_> = fs::read_dir(fixture("compiled")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let found = check(&fs::read_to_string(&file).unwrap(), 1);
        assert!(matches!(found, Ok(Found::Same { .. })), "{}: {found:?}", file.display());
    }
}

#[test]
fn random_graphs_compile_to_what_they_mean() {
    let long = setting("TINSMITH_FUZZ_SECONDS");
    let time = Duration::from_secs(long.unwrap_or(SECONDS));
    let first = setting("TINSMITH_FUZZ_SEED").unwrap_or(1);
    let start = Instant::now();
    let (mut refused, mut spread, mut worst, mut seed) = (0, 0, 0.0f64, first);
    let mut failures: Vec<String> = vec![];
    let mut kinds = HashSet::new();
    while start.elapsed() < time || (long.is_none() && seed < first + AT_LEAST) {
        let network = generate(seed);
        if std::env::var_os("TINSMITH_FUZZ_SHOW").is_some() {
            eprintln!("seed {seed}\n{}", network.text());
        }
        match check(&network.text(), seed) {
            Ok(Found::Refused) => refused += 1,
            Ok(Found::Same { workspace_bytes, lower_bound_bytes, n_loops }) => {
                spread += u64::from(n_loops > 0);
                worst = worst.max(workspace_bytes as f64 / lower_bound_bytes.max(1024) as f64);
            }
            Err(why) => {
                let small = shrink(&network, seed, &|n| check(&n.text(), seed).is_err());
                let reason = check(&small.text(), seed).err().unwrap_or_else(|| why.clone());
                let text = format!("seed {seed}: {}\n{}", reason.chars().take(3000).collect::<String>(), small.text());
                if kinds.insert(reason.chars().filter(|c| !c.is_ascii_digit()).take(60).collect::<String>()) || long.is_none() {
                    eprintln!("{text}");
                }
                failures.push(text);
            }
        }
        if long.is_none() && !failures.is_empty() {
            break;
        }
        seed += 1;
    }
    let n = seed - first;
    eprintln!("{n} graphs, {refused} refused, {spread} on several threads, workspace at most {worst:.2} of the bound");
    assert!(failures.is_empty(), "{} of {n} graphs are wrong\n{}", failures.len(), failures[0]);
    assert!(refused * 4 <= n, "{refused} of {n} graphs cannot be compiled");
    assert!(spread > 0 || n < AT_LEAST, "none of {n} graphs has loops for several threads");
}
