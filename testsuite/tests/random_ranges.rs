//! Random graphs with extents that a run chooses: one program for all sizes gives what the interpreter gives at each of them, 1 and 2 above
//! all. Settings as in `random_graphs`: `TINSMITH_FUZZ_SECONDS`, `TINSMITH_FUZZ_SEED`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tinsmith_testsuite::random_graphs::{Found, check_range, generate_range, shrink};

const SECONDS: u64 = 10;
/// Graphs that run even on a slow machine.
const AT_LEAST: u64 = 20;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_graphs_serve_all_sizes() {
    let long = setting("TINSMITH_FUZZ_SECONDS");
    let time = Duration::from_secs(long.unwrap_or(SECONDS));
    let first = setting("TINSMITH_FUZZ_SEED").unwrap_or(1);
    let start = Instant::now();
    let (mut refused, mut seed) = (0, first);
    let mut failures: Vec<String> = vec![];
    let mut kinds = HashSet::new();
    while start.elapsed() < time || (long.is_none() && seed < first + AT_LEAST) {
        let (network, n_varying) = generate_range(seed);
        if std::env::var_os("TINSMITH_FUZZ_SHOW").is_some() {
            eprintln!("seed {seed}\n{}", network.text());
        }
        match check_range(&network.text(), n_varying, seed) {
            Ok(Found::Refused) => refused += 1,
            Ok(Found::Same { .. }) => {}
            Err(why) => {
                let small = shrink(&network, seed, &|n| check_range(&n.text(), n_varying, seed).is_err());
                let reason = check_range(&small.text(), n_varying, seed).err().unwrap_or_else(|| why.clone());
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
    eprintln!("{n} graphs, {refused} refused");
    assert!(failures.is_empty(), "{} of {n} graphs are wrong\n{}", failures.len(), failures[0]);
    assert!(refused * 4 <= 3 * n, "{refused} of {n} graphs cannot be compiled for a range");
}
