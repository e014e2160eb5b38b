//! Makes networks: operators are drawn one by one, and those that cannot be (wrong extents, values out of hand) are dropped.

use tinsmith::tensor::{DType, Tensor};

use super::control_flow::CONTROL_FLOW;
use super::heads::HEADS;
use super::learned::LEARNED;
use super::more_operators::MORE_OPERATORS;
use super::network::{reads, renamed};
use super::operators::{Draft, Make, OPERATORS};
use super::quantized::QUANTIZED;
use super::rarer_operators::RARER_OPERATORS;
use super::{Line, Network, Random, Variable};

/// No value has more elements.
const MAX_ELEMENTS: usize = 10_000;
/// No element is greater.
const MAX_VALUE: f64 = 1e3;

/// The network of a seed.
pub fn generate(seed: u64) -> Network {
    let mut random = Random::new(seed);
    let shape = base_shape(&mut random);
    generate_from(seed, random, &shape, &Rules::default())
}

/// All families.
pub(super) fn families() -> Vec<Make> {
    [OPERATORS, MORE_OPERATORS, CONTROL_FLOW, QUANTIZED, LEARNED, HEADS, RARER_OPERATORS]
        .concat()
        .into_iter()
        .map(|(_, make)| make)
        .collect()
}

/// What a network is made of besides what is drawn.
#[derive(Clone, Copy, Default)]
pub(super) struct Rules<'a> {
    /// Which constants are inputs instead.
    pub is_input: Option<&'a dyn Fn(&Line) -> bool>,
    /// Which networks are accepted, with the last operator's results as outputs; where it is asked, there are no branches and loops.
    pub accept: Option<&'a dyn Fn(&Network) -> bool>,
}

/// The network of a seed around inputs of this shape.
pub(super) fn generate_from(seed: u64, mut random: Random, shape: &[usize], rules: &Rules<'_>) -> Network {
    let mut network = Network::default();
    let n_inputs = 1 + random.below(3);
    for i in 0..n_inputs {
        let dims = if i == 0 { shape.to_vec() } else { related_shape(&mut random, shape) };
        let dtype = if i > 0 && random.one_in(4) { random.one_of(&[DType::I64, DType::Bool, DType::I32]) } else { DType::F32 };
        network.inputs.push(Variable { name: format!("%x{i}"), dtype, dims, exact: true });
    }
    let n = if random.one_in(3) { 10 + random.below(20) } else { 1 + random.below(12) };
    // A few families for each network, so that it has many of each and they meet.
    let n_families = random.one_of(&[3, 6, 10, 20, 60]);
    let mut family = || match random.below(12) {
        0..=2 => random.one_of(MORE_OPERATORS).1,
        3 if rules.accept.is_none() => random.one_of(CONTROL_FLOW).1,
        4 => random.one_of(QUANTIZED).1,
        5 => random.one_of(&[LEARNED, HEADS].concat()).1,
        6 => random.one_of(RARER_OPERATORS).1,
        _ => random.one_of(OPERATORS).1,
    };
    let families: Vec<Make> = (0..n_families).map(|_| family()).collect();
    let (mut network, pool) = grow(network, &mut random, &Plan { families: &families, n, tag: "", seed, rules: *rules });
    let last = pool.last().expect("there is an input").name.clone();
    network.outputs = vec![last];
    for _ in 0..random.below(4) {
        let v = random.one_of(&pool);
        network.outputs.push(v.name);
    }
    // Values that nothing reads are mostly outputs.
    for v in &pool {
        let read = network.lines.iter().any(|l| reads(&l.text, &v.name));
        if !read && !network.outputs.contains(&v.name) && !random.one_in(4) {
            network.outputs.push(v.name.clone());
        }
    }
    network
}

/// How a network grows.
pub(super) struct Plan<'a> {
    /// What is drawn.
    pub families: &'a [Make],
    /// Number of operators.
    pub n: usize,
    /// In front of the numbers that make names unique.
    pub tag: &'a str,
    /// Of the inputs' elements.
    pub seed: u64,
    /// What is accepted.
    pub rules: Rules<'a>,
}

/// A network with operators behind its inputs, and all its values that are not constants. Outputs are not chosen.
pub(super) fn grow(mut network: Network, random: &mut Random, plan: &Plan<'_>) -> (Network, Vec<Variable>) {
    let mut pool = network.inputs.clone();
    let (mut tries, mut done) = (0, 0);
    while done < plan.n && tries < 6 * plan.n {
        tries += 1;
        let tag = format!("{}{tries}", plan.tag);
        let recent = if random.one_in(3) { pool.len() } else { pool.len().min(3) };
        let x = pool[pool.len() - 1 - random.below(recent)].clone();
        let make = random.one_of(plan.families);
        let mut draft = Draft { random, pool: &pool, tag: tag.clone(), before: vec![], inputs: vec![], n_results: 1, seed: plan.seed };
        let Some((text, exact)) = make(&mut draft, &x) else { continue };
        let (mut before, mut inputs, n_results) = (draft.before, draft.inputs, draft.n_results);
        let mut text = text;
        for line in before.extract_if(.., |line| plan.rules.is_input.is_some_and(|is_input| is_input(line))) {
            let v = line.results[0].clone();
            let name = v.name.replacen('@', "%", 1);
            text = renamed(&text, &v.name, &name);
            inputs.push(Variable { name, ..v });
        }
        let exact = exact && pool.iter().all(|v| v.exact || !reads(&text, &v.name));
        let mut bigger = network.clone();
        bigger.inputs.extend(inputs.iter().cloned());
        bigger.lines.extend(before);
        let results: Vec<String> =
            (0..n_results).map(|k| if n_results == 1 { format!("%result{tag}") } else { format!("%result{tag}.{k}") }).collect();
        let blank = |name: &String| Variable { name: name.clone(), dtype: DType::F32, dims: vec![], exact };
        bigger.lines.push(Line { results: results.iter().map(blank).collect(), text });
        bigger.outputs = results.clone();
        let Some(values) = values_of(&bigger, plan.seed) else { continue };
        let fine = values.iter().all(|t| t.len() <= MAX_ELEMENTS && t.to_f64s().iter().all(|v| v.is_finite() && v.abs() <= MAX_VALUE));
        if !fine || plan.rules.accept.is_some_and(|accept| !accept(&bigger)) {
            continue;
        }
        let line = bigger.lines.last_mut().expect("just pushed");
        for (v, t) in line.results.iter_mut().zip(&values) {
            (v.dtype, v.dims) = (t.dtype(), t.dims().to_vec());
        }
        pool.extend(inputs);
        pool.extend(line.results.iter().cloned());
        network = bigger;
        done += 1;
    }
    (network, pool)
}

/// The outputs, where none has too many elements to be computed at all.
fn values_of(network: &Network, seed: u64) -> Option<Vec<Tensor>> {
    let text = network.text();
    let graph = super::check::read(&text).ok()?;
    let fits = |v| {
        graph.ty(v).dims().is_some_and(|dims| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some_and(|n| n <= MAX_ELEMENTS))
    };
    if !graph.outputs().iter().all(|&v| fits(v)) {
        return None;
    }
    super::check::values_of(&text, seed).ok()
}

fn extent(random: &mut Random) -> usize {
    let (small, middle, large) = (2 + random.below(4), 4 + random.below(14), 17 + random.below(30));
    match random.below(60) {
        0 => 0,
        1..=6 => 1,
        7..=14 => large,
        15..=34 => middle,
        _ => small,
    }
}

fn base_shape(random: &mut Random) -> Vec<usize> {
    if random.one_in(30) {
        // Long sums over a few vectors of columns: panels of those are copied.
        return if random.one_in(2) { vec![97 + random.below(20), 33] } else { vec![193 + random.below(20), 17 + random.below(2)] };
    }
    let rank = random.one_of(&[1, 2, 2, 3, 3, 4, 4, 4, 4, 5]);
    let mut dims: Vec<usize> = (0..rank).map(|_| extent(random)).collect();
    if random.one_in(40) {
        return vec![];
    }
    while dims.iter().product::<usize>() > 4000 {
        for d in &mut dims {
            *d = d.div_ceil(2);
        }
    }
    dims
}

/// A shape that broadcasts with `dims`, or shares extents with it.
fn related_shape(random: &mut Random, dims: &[usize]) -> Vec<usize> {
    match random.below(5) {
        0 | 1 => dims.to_vec(),
        2 => {
            let skip = random.below(dims.len() + 1);
            dims[skip..].iter().map(|&d| if random.one_in(3) { 1 } else { d }).collect()
        }
        3 => dims.iter().rev().copied().collect(),
        _ => base_shape(random),
    }
}
