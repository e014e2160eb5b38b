//! Updates at places that data says, written one after the other, against the operators' own values.

use super::windows::picks;
use super::{DType, Emitter, Level, Machine, Net, Options, Type, Value, random};
use crate::ops::Attribute;
use crate::tensor::Tensor;

/// Indices along an axis of `extent`, from both ends and some twice.
fn places(dims: &[usize], extent: usize, seed: usize) -> Tensor {
    let n = extent as i64;
    let values: Vec<i64> = (0..dims.iter().product::<usize>()).map(|i| ((i * i + 7 * i + seed) as i64 * 13) % (2 * n) - n).collect();
    Tensor::from_slice(dims, &values)
}

/// The number of an element type in ONNX's files.
const TYPES: [(DType, i64); 6] = [(DType::F32, 1), (DType::U8, 2), (DType::I32, 6), (DType::I64, 7), (DType::Bool, 9), (DType::F16, 10)];

fn cast(net: &mut Net, v: Value, to: i64) -> Value {
    net.op("Cast", &[v], &[("to", Attribute::Int(to))])
}

#[test]
fn updates_of_any_rank_and_type() {
    for seed in 0..24u64 {
        let mut pick = picks(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let rank = 1 + pick(3);
        let dims: Vec<usize> = (0..rank).map(|_| [1, 3, 5, 16, 35, 70][pick(6)]).collect();
        let reduction = ["none", "none", "add", "mul", "max", "min"][pick(6)];
        let (dtype, code) = TYPES[pick(9).saturating_sub(3)];
        let (axis, tuples) = (pick(rank), pick(2) == 0);
        let depth = 1 + pick(rank);
        let m = 1 + pick(40);
        eprintln!("seed {seed}: {dims:?} of {dtype}, axis {axis}, {reduction}, {tuples}, depth {depth}, {m} updates");
        let mut net = Net::new();
        let (index_dims, update_dims) = if tuples {
            (vec![m, depth], [&[m], &dims[depth..]].concat())
        } else {
            let of: Vec<usize> = dims.iter().enumerate().map(|(k, &n)| if k == axis { m } else { n - pick(2).min(n - 1) }).collect();
            (of.clone(), of)
        };
        let (x, u) = (net.input(&dims), net.input(&update_dims));
        let at = net.graph.add_input("at", Type::fixed(DType::I64, &index_dims));
        let (x_of, u_of) = (cast(&mut net, x, code), cast(&mut net, u, code));
        let reduction = ("reduction", Attribute::String(reduction.to_owned()));
        let y = match tuples {
            true => net.op("ScatterND", &[x_of, at, u_of], &[reduction]),
            false => net.op("ScatterElements", &[x_of, at, u_of], &[reduction, ("axis", Attribute::Int(axis as i64))]),
        };
        let least = if tuples { *dims[..depth].iter().min().unwrap() } else { dims[axis] };
        let y = cast(&mut net, y, 1);
        net.check_with(&[y], &[random(seed, &dims), random(seed + 1, &update_dims), places(&index_dims, least, seed as usize)]);
    }
}

/// The kernels of updates of rows for a machine.
fn of_rows(machine: &Machine, between: bool) -> String {
    let mut net = Net::new();
    let x = net.input(&[32, 40]);
    let x = if between { net.op("Relu", &[x], &[]) } else { x };
    let u = net.input(&[5, 40]);
    let at = net.graph.add_input("at", Type::fixed(DType::I64, &[5, 1]));
    let y = net.op("ScatterND", &[x, at, u], &[("reduction", Attribute::String("max".to_owned()))]);
    let y = if between { net.op("Neg", &[y], &[]) } else { y };
    net.set_outputs(&[y]);
    let compiled = net.compile(machine, Options { emitter: Emitter::Wide, ..Options::default() });
    compiled.program.kernels.iter().map(ToString::to_string).collect()
}

#[test]
fn rows_are_updated_in_lanes_and_nothing_else_where_they_are() {
    insta::assert_snapshot!("alone", of_rows(&Machine::x86_64(Level::V3), false));
    // In the memory of what is updated no element is copied.
    insta::assert_snapshot!("in_place", of_rows(&Machine::x86_64(Level::V4), true));
}
