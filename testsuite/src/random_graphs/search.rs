//! Tries seed after seed for a while, and makes what fails smaller. `TINSMITH_FUZZ_SECONDS=N` searches for longer,
//! `TINSMITH_FUZZ_SEED=N` starts elsewhere, `TINSMITH_FUZZ_SHOW=1` prints every network.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Found, Network, shrink};

const SECONDS: u64 = 10;
/// Networks that are tried even on a slow machine.
pub const AT_LEAST: u64 = 20;

/// Characters that tell kinds of failures apart: for a smaller network, and for the reports of one search.
const ALIKE: usize = 16;
const REPORTED: usize = 60;

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Search {
    /// Networks that were tried.
    pub n: u64,
    /// Those that the compiler does not take.
    pub refused: u64,
    /// What is wrong: the seed, the reason, and the smallest network found that still fails. A short search ends with the first.
    pub failures: Vec<String>,
}

/// How a reason begins, without numbers.
fn kind(reason: &str, length: usize) -> String {
    reason.chars().filter(|c| !c.is_ascii_digit()).take(length).collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Checks the network of each seed, by its text and what else `generate` says of it. `see` gets what comes out right.
pub fn search<I>(
    generate: impl Fn(u64) -> (Network, I),
    check: impl Fn(&str, &I, u64) -> Result<Found, String>,
    mut see: impl FnMut(Found),
) -> Search {
    let long = setting("TINSMITH_FUZZ_SECONDS");
    let time = Duration::from_secs(long.unwrap_or(SECONDS));
    let first = setting("TINSMITH_FUZZ_SEED").unwrap_or(1);
    let start = Instant::now();
    let (mut refused, mut seed) = (0, first);
    let mut failures: Vec<String> = vec![];
    let mut kinds = HashSet::new();
    while start.elapsed() < time || (long.is_none() && seed < first + AT_LEAST) {
        let (network, info) = generate(seed);
        if std::env::var_os("TINSMITH_FUZZ_SHOW").is_some() {
            eprintln!("seed {seed}\n{}", network.text());
        }
        match check(&network.text(), &info, seed) {
            Ok(Found::Refused) => refused += 1,
            Ok(found) => see(found),
            Err(why) => {
                let alike = |other: &str| kind(other, ALIKE) == kind(&why, ALIKE);
                let small = shrink(&network, seed, &|n| check(&n.text(), &info, seed).is_err_and(|other| alike(&other)));
                let reason = check(&small.text(), &info, seed).err().unwrap_or_else(|| why.clone());
                let text = format!("seed {seed}: {}\n{}", reason.chars().take(3000).collect::<String>(), small.text());
                if kinds.insert(kind(&reason, REPORTED)) || long.is_none() {
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
    Search { n: seed - first, refused, failures }
}
