//! Which operators are drawn at all.

use std::collections::BTreeSet;

use tinsmith::tensor::DType;

use super::generate::{Plan, Rules, families, grow};
use super::{Network, Random, Variable};

/// Networks that each family makes at most.
const TRIES: u64 = 300;

/// Those of these operators, by their names with domains, that no family draws in a form that the interpreter takes.
pub fn not_drawn(mut names: BTreeSet<String>) -> BTreeSet<String> {
    let inputs: [(DType, &[usize]); 11] = [
        (DType::F32, &[2, 4, 6, 6]),
        (DType::F32, &[3, 8]),
        (DType::F32, &[24]),
        (DType::F32, &[2, 4, 8]),
        (DType::F32, &[4, 2]),
        (DType::F32, &[3, 3]),
        (DType::I64, &[3, 8]),
        (DType::I64, &[1]),
        (DType::I32, &[6]),
        (DType::Bool, &[3, 8]),
        (DType::F64, &[2, 5]),
    ];
    let variable = |(i, (dtype, dims)): (usize, &(DType, &[usize]))| Variable {
        name: format!("%x{i}"),
        dtype: *dtype,
        dims: dims.to_vec(),
        exact: true,
    };
    let inputs: Vec<Variable> = inputs.iter().enumerate().map(variable).collect();
    let (families, n_inputs) = (families(), inputs.len());
    for seed in 0..TRIES {
        for (i, &family) in families.iter().enumerate() {
            // The last values are drawn on most.
            let mut inputs = inputs.clone();
            inputs.rotate_left((seed as usize + i) % n_inputs);
            let network = Network { inputs, ..Network::default() };
            let plan = Plan { families: &[family], n: 1, tag: "", seed, rules: Rules::default() };
            let (network, _) = grow(network, &mut Random::new(1000 * seed + i as u64), &plan);
            for line in &network.lines {
                line.text.split_once('(').map(|(name, _)| names.remove(name));
            }
        }
        if names.is_empty() {
            break;
        }
    }
    names
}
