//! Random graphs with axes whose extents a run chooses: drawn at marked extents, which are then replaced in the text. One program for all
//! sizes is compared, at one size after the other, with the interpreter on the graph of that size.

use std::collections::BTreeSet;

use tinsmith::codegen::{Executable, Memory};
use tinsmith::config::Config;
use tinsmith::diagnostic::{Diagnostic, Severity};
use tinsmith::graph::{self, Graph};
use tinsmith::nest;
use tinsmith::pipeline::{Compiled, Options, Probes, Tuned, compile_range, lower_and_schedule_for, run_passes};
use tinsmith::tensor::{DType, Parameter, Size, Tensor};

use super::check::{caught, compare, inputs_of, moved, read, values_of, ways};
use super::generate::{Rules, generate_from};
use super::{Found, Line, Network, Random};
use crate::pools;

/// The greatest extents of the two axes, which stand for them where a graph is drawn; neither, nor what is near, is likely otherwise.
const MARKS: [i64; 2] = [29, 23];
/// Sizes at which graphs are valid while they are drawn.
const TRIED: [i64; 3] = [1, 2, 7];

/// Extents of the axes, as many as vary.
pub type Sizes = Vec<i64>;

/// The network of a seed, and how many of its extents vary.
pub fn generate_range(seed: u64) -> (Network, usize) {
    let mut random = Random::new(seed);
    let mut shape: Vec<usize> = (0..1 + random.below(4)).map(|_| 1 + random.below(8)).collect();
    let n_varying = if shape.len() > 1 && random.one_in(3) { 2 } else { 1 };
    let first = random.below(shape.len());
    shape[first] = MARKS[0] as usize;
    if n_varying == 2 {
        let other = (first + 1 + random.below(shape.len() - 1)) % shape.len();
        shape[other] = MARKS[1] as usize;
    }
    let varies = |dims: &[usize]| dims.iter().any(|&d| MARKS[..n_varying].iter().any(|&m| near(m).iter().any(|x| x.0 == d as i64)));
    // Weights of a varying extent would be others at every size.
    let is_input = |line: &Line| {
        let v = &line.results[0];
        v.dtype == DType::F32 && !line.text.starts_with("const [") && varies(&v.dims)
    };
    let accept = |network: &Network| {
        TRIED.iter().all(|&n| {
            let values = values_of(&at(&network.text(), &vec![n; n_varying]), seed);
            values.is_ok_and(|all| all.iter().all(|t| t.to_f64s().iter().all(|x| x.is_finite())))
        })
    };
    let rules = Rules { is_input: Some(&is_input), accept: Some(&accept) };
    (generate_from(seed, random, &shape, &rules), n_varying)
}

/// Numbers of a text that depend on an extent, with their slopes and what is added.
fn near(mark: i64) -> [(i64, i64, i64); 5] {
    [(mark, 1, 0), (2 * mark, 2, 0), (3 * mark, 3, 0), (mark - 1, 1, -1), (mark + 1, 1, 1)]
}

/// The text for other sizes: every number that depends on the marked extents is replaced, but for negative ones, whose meaning changes
/// where they become 0.
fn at(text: &str, sizes: &[i64]) -> String {
    let value = |digits: &str| -> Option<i64> {
        let number: i64 = digits.parse().ok()?;
        let of = |(&mark, &n): (&i64, &i64)| near(mark).into_iter().find(|x| x.0 == number).map(|(_, slope, plus)| slope * n + plus);
        MARKS.iter().zip(sizes).find_map(of)
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        out += &rest[..start];
        let end = rest[start..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |n| start + n);
        // Parts of names and of other numbers, and seeds, stay.
        let inside = out.ends_with(|c: char| c.is_ascii_alphanumeric() || "._%@-".contains(c)) || rest[end..].starts_with(['.', '_']);
        match value(&rest[start..end]).filter(|_| !inside && !out.ends_with("rand(")) {
            Some(n) => out += &n.to_string(),
            None => out += &rest[start..end],
        }
        rest = &rest[end..];
    }
    out + rest
}

/// Compiles the graph of a text for all sizes, of which some ranges begin at nothing, and compares it with the interpreter at many of them,
/// the least first.
///
/// # Errors
/// What differs, also a panic.
pub fn check_range(text: &str, n_varying: usize, seed: u64) -> Result<Found, String> {
    let low = i64::from(!Random::new(seed ^ 0x2077).one_in(3));
    check_range_from(low, text, n_varying, seed)
}

/// As [`check_range`], of sizes from `low` on.
///
/// # Errors
/// What differs, also a panic.
pub fn check_range_from(low: i64, text: &str, n_varying: usize, seed: u64) -> Result<Found, String> {
    caught(|| check_or_panic(low, text, n_varying, seed))
}

fn check_or_panic(low: i64, text: &str, n_varying: usize, seed: u64) -> Result<Found, String> {
    let names = ["n", "m"];
    let parameters: Vec<Parameter> = (0..n_varying).map(|i| Parameter::new(names[i], low, MARKS[i], 1)).collect();
    let invalid = |e| vec![Diagnostic::new("invalid", Severity::Input, "", e)];
    let mut read_at = |sizes: &[i64], _: &BTreeSet<String>| Ok((read(&at(text, sizes)).map_err(invalid)?, ()));
    let everywhere = Options { threads: 7, thread_work: 0, ..Options::default() };
    let threads = if Random::new(!seed).one_in(2) { everywhere } else { Options::default() };
    let config = Config::default();
    let mut compile = |graph: Graph, (): (), probes: &Probes| {
        let (graph, _) = run_passes(graph, &config, &mut |_, _| {});
        let one = |(machine, emitter)| {
            let options = Options { emitter, ..threads };
            let compiled = lower_and_schedule_for(graph.clone(), Some(probes), &machine, options, &Tuned::default(), &[])?;
            Ok((machine, emitter, compiled))
        };
        ways().into_iter().map(one).collect::<Result<Vec<_>, Vec<Diagnostic>>>()
    };
    let all = match compile_range(&parameters, &config, &mut read_at, &mut compile, Vec::as_slice) {
        Ok(all) => all,
        Err(refused) => {
            if std::env::var_os("TINSMITH_FUZZ_REFUSED").is_some() {
                eprintln!("refused: {}", refused[0]);
            }
            return Ok(Found::Refused);
        }
    };
    let mut found = Found::Refused;
    for (machine, emitter, compiled) in all {
        let label = format!("{machine} by {emitter:?}");
        for kernel in &compiled.program.kernels {
            if let Some(e) = nest::verify(kernel).first() {
                return Err(format!("{label}: {e}\n{kernel}"));
            }
        }
        let exe = Executable::new(&compiled.program, &machine).map_err(|e| e.to_string())?;
        let needs = compiled.program.workspace_needs();
        let mut n_loops = 0;
        for sizes in sizes_of(n_varying, low, seed) {
            let graph = read(&at(text, &sizes))?;
            match run(&exe, &compiled, &needs, &graph, &sizes, seed).map_err(|e| format!("{label} at {sizes:?}: {e}"))? {
                Some(spread) => n_loops = n_loops.max(spread),
                None if sizes == MARKS[..n_varying] => return Err(format!("{label}: nothing to compare with at the greatest sizes")),
                None => {}
            }
        }
        let workspace_bytes = compiled.program.workspace_bytes;
        found = Found::Same { workspace_bytes, lower_bound_bytes: compiled.lower_bound_bytes, n_loops };
    }
    Ok(found)
}

/// The sizes at which a program is compared: the least, some between, the greatest.
fn sizes_of(n_varying: usize, low: i64, seed: u64) -> Vec<Sizes> {
    let mut random = Random::new(seed ^ 0x5123);
    let greatest = MARKS[..n_varying].to_vec();
    let mut list: Vec<Sizes> = (1..=8).map(|n| vec![n; n_varying]).chain([greatest.clone()]).collect();
    if n_varying == 2 {
        list.extend([vec![1, 2], vec![2, 1], vec![1, MARKS[1]], vec![MARKS[0], 1], vec![3, 1], vec![1, 5]]);
    }
    if low == 0 {
        list.insert(0, vec![0; n_varying]);
        if n_varying == 2 {
            list.extend([vec![0, 2], vec![2, 0], vec![0, MARKS[1]], vec![MARKS[0], 0]]);
        }
    }
    list.extend((0..5).map(|_| greatest.iter().map(|&high| random.within(1, high)).collect()));
    list
}

/// Compares at one size; the most loops that threads shared, or nothing where the graph has no value there: indices of a text may be
/// outside an axis that is shorter than the one they were drawn for.
fn run(exe: &Executable, compiled: &Compiled, needs: &[Size], graph: &Graph, sizes: &[i64], seed: u64) -> Result<Option<usize>, String> {
    let inputs = inputs_of(graph, seed);
    let near: Vec<Tensor> = inputs.iter().map(moved).collect();
    let (Ok(want), Ok(near)) = (graph::eval(graph, &inputs), graph::eval(graph, &near)) else { return Ok(None) };
    let mut memory: Memory = exe.memory();
    memory.sizes = sizes.to_vec();
    // Neither what memory held before may matter, nor what lies behind what a run has.
    memory.workspace.as_mut_slice().fill(0xFF);
    for (to, from) in memory.inputs.iter_mut().zip(&inputs) {
        to.as_mut_slice().fill(0xFF);
        to.as_mut_slice()[..from.bytes().len()].copy_from_slice(from.bytes());
    }
    memory.outputs.iter_mut().for_each(|o| o.as_mut_slice().fill(0x55));
    exe.run(&mut memory).map_err(|s| s.to_string())?;
    for (port, (want, memory)) in compiled.program.outputs.iter().zip(want.iter().zip(&memory.outputs)) {
        let dims: Vec<i64> = port.dims.iter().map(|s| s.value(sizes)).collect();
        let told = port.dims.is_empty() || dims.iter().zip(want.dims()).all(|(&a, &b)| a == b as i64);
        if !told || want.bytes().len() > memory.as_slice().len() {
            return Err(format!("output `{}` is told to be {dims:?}, and is {:?}", port.name, want.dims()));
        }
        if memory.as_slice()[want.bytes().len()..].iter().any(|&b| b != 0x55) {
            return Err(format!("output `{}` is written past its end", port.name));
        }
    }
    compare(&memory, &want, &near)?;
    let need = needs.iter().map(|n| n.value(sizes)).max().unwrap_or(0).max(0) as usize;
    if memory.workspace.as_slice().iter().skip(need).any(|&b| b != 0xFF) {
        return Err(format!("{need} bytes of workspace are not all that is written"));
    }
    let same = |(m, t): (&tinsmith::codegen::AlignedBytes, &Tensor)| m.as_slice()[..t.bytes().len()] == *t.bytes();
    if !memory.inputs.iter().zip(&inputs).all(same) {
        return Err("an input was changed".to_owned());
    }
    pools::same_bits(exe, &mut memory, &[3]).map(Some)
}

#[cfg(test)]
mod tests {
    use super::at;

    #[test]
    fn numbers_of_a_text_follow_the_sizes() {
        let text = "@c29 = const [-1,58,23] : i64[3]\n%v28 = Slice(%x: f32[29,30,0.29]) alpha=29.5 rand(29) pads=[28]";
        let expected = "@c29 = const [-1,10,23] : i64[3]\n%v28 = Slice(%x: f32[5,6,0.29]) alpha=29.5 rand(29) pads=[4]";
        assert_eq!(at(text, &[5]), expected);
        assert!(at(text, &[5, 3]).contains("[-1,10,3]"));
    }
}
