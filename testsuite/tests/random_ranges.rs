//! Random graphs with extents that a run chooses: one program for all sizes gives what the interpreter gives at each of them, 1 and 2 above
//! all. Settings as in `random_graphs`: `TINSMITH_FUZZ_SECONDS`, `TINSMITH_FUZZ_SEED`. Of `fixtures/ranged`, an extent of 29 varies.

use std::fs;

use tinsmith_testsuite::fixture;
use tinsmith_testsuite::random_graphs::{Found, Search, check_range, check_range_from, generate_range, search};

#[test]
fn ranged_fixtures_compute_what_they_mean_at_all_sizes() {
    let files: Vec<_> = fs::read_dir(fixture("ranged")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let from = |low: i64| check_range_from(low, &text, 1, 1);
        assert!(matches!(from(1), Ok(Found::Same { .. })), "{}: {:?}", file.display(), from(1));
        // From nothing on it may be refused.
        from(0).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

/// Nothing is written where there is no row, and sums are of nothing.
#[test]
fn what_has_one_row_in_some_runs_has_none_in_others() {
    let text = "graph @random(%x: f32[23,4]) -> (%y as out0, %sum as out1) {
  @start = const [15] : i64[1]
  @end = const [16] : i64[1]
  @axis = const [0] : i64[1]
  %one = Slice(%x, @start, @end, @axis)
  %y = Relu(%one)
  %sum = ReduceSum(%one, @axis) keepdims=0
}";
    let found = check_range_from(1, text, 2, 1);
    assert!(matches!(found, Ok(Found::Same { .. })), "{found:?}");
}

#[test]
fn random_graphs_serve_all_sizes() {
    let check = |text: &str, &n_varying: &usize, seed| check_range(text, n_varying, seed);
    let Search { n, refused, failures } = search(generate_range, check, |_| {});
    eprintln!("{n} graphs, {refused} refused");
    assert!(failures.is_empty(), "{} of {n} graphs are wrong\n{}", failures.len(), failures[0]);
    assert!(refused * 4 <= 3 * n, "{refused} of {n} graphs cannot be compiled for a range");
}
