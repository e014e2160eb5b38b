//! Kernels that tests of emitters share: every operation on every type, register tiles, tails.

use crate::nest::{Access, Affine, BinaryOp, Builder, CompareOp, Index, Kernel, Op, Reg, Scalar, Shuffle, UnaryOp, VecType};
use crate::tensor::DType;

const F: DType = DType::F32;

pub(in crate::codegen) fn contraction(lanes: u32, mr: usize, nv: usize, unroll: usize, k: usize) -> Kernel {
    let l = lanes as usize;
    let n = nv * l;
    let mut b = Builder::new("contract", format!("contract(mr={mr} nr={n})"));
    let (a, w, c) =
        (b.buffer("a", F, mr * k, Access::Read), b.buffer("b", F, k * n, Access::Read), b.buffer("c", F, mr * n, Access::Write));
    let ty = VecType { dtype: F, lanes };
    let acc: Vec<Reg> = (0..mr * nv).map(|_| b.float(ty, 0.0)).collect();
    b.for_loop("k", 0..k as i64, unroll as i64, |b, kv| {
        for u in 0..unroll {
            let ws: Vec<Reg> = (0..nv).map(|v| b.load(w, Affine::var(kv).times(n as i64).offset((u * n + v * l) as i64), lanes)).collect();
            for r in 0..mr {
                let x = b.load(a, Affine::var(kv).offset((r * k + u) as i64), 1);
                let x = b.splat(x, lanes);
                for v in 0..nv {
                    b.set(acc[r * nv + v], Op::Fma(x, ws[v], acc[r * nv + v]));
                }
            }
        }
    });
    for r in 0..mr {
        for v in 0..nv {
            b.store(c, Affine::constant((r * n + v * l) as i64), acc[r * nv + v]);
        }
    }
    b.finish()
}

/// Loads and stores of the first lanes only, as schedules write them.
pub(in crate::codegen) fn tail(lanes: u32, valid: u32) -> Kernel {
    let mut b = Builder::new(format!("tail_{lanes}_{valid}"), "");
    let (x, y) = (b.buffer("x", F, valid as usize, Access::Read), b.buffer("y", F, valid as usize, Access::Write));
    let zero = b.float(VecType::scalar(F), 0.0);
    let mut regs: Vec<Reg> = (0..valid).map(|i| b.load(x, Affine::constant(i.into()), 1)).collect();
    regs.resize(lanes as usize, zero);
    let v = b.op(VecType { dtype: F, lanes }, Op::Pack(regs));
    let v = b.binary(BinaryOp::Add, v, v);
    for i in 0..valid {
        let lane = b.op(VecType::scalar(F), Op::Lane(v, i));
        b.store(y, Affine::constant(i.into()), lane);
    }
    b.finish()
}

/// Elements at places of a type that are checked, after they have been counted from the front where they are negative.
pub(in crate::codegen) fn gather(dtype: DType, places: DType, lanes: u32, end: i64) -> Kernel {
    let mut b = Builder::new(format!("gather_{dtype}_{places}_{lanes}_{end}"), "");
    let x = b.buffer("x", dtype, 3 * end as usize + 5, Access::Read);
    let at = b.buffer("at", places, N, Access::Read);
    let y = b.buffer("y", dtype, 3 * N, Access::Write);
    b.for_loop("i", 0..3, 1, |b, i| {
        b.for_loop("j", 0..N as i64, i64::from(lanes), |b, j| {
            let place = b.load(at, Affine::var(j), lanes);
            let ty = b.ty(place);
            let (zero, extent) = (b.int(ty, 0), b.int(ty, end));
            let (negative, moved) = (b.compare(CompareOp::Lt, place, zero), b.binary(BinaryOp::Add, place, extent));
            let place = b.select(negative, moved, place);
            let place = b.op(ty, Op::Check(place, end));
            let place = b.convert(place, DType::I32);
            let row = b.index(Affine::var(i));
            let index = Index { affine: Affine::var(i).times(end - 1).offset(5), dynamic: vec![(row, 1)] };
            let value = b.gather(x, index, place);
            b.store(y, Affine::var(i).times(N as i64).plus(&Affine::var(j)), value);
        });
    });
    b.finish()
}

pub(in crate::codegen) const LANES: [u32; 5] = [1, 2, 4, 8, 16];
/// Elements of a buffer.
pub(super) const N: usize = 64;

/// One operation at every number of lanes: `out[case * N + i] = op(inputs[..][i])`.
pub(in crate::codegen) fn op_kernel(
    lanes: &[u32],
    name: &str,
    inputs: &[DType],
    result: DType,
    scalar_result: bool,
    make: impl Fn(&mut Builder, VecType, &[Reg]) -> Op,
) -> Kernel {
    let mut b = Builder::new(name, "");
    let buffers: Vec<_> = inputs.iter().enumerate().map(|(i, &d)| b.buffer(format!("in{i}"), d, N, Access::Read)).collect();
    let out = b.buffer("out", result, N * lanes.len(), Access::Write);
    for (case, &lanes) in lanes.iter().enumerate() {
        let ty = VecType { dtype: result, lanes: if scalar_result { 1 } else { lanes } };
        b.for_loop("i", 0..N as i64, i64::from(lanes), |b, i| {
            let operands: Vec<Reg> = buffers.iter().map(|&x| b.load(x, Affine::var(i), lanes)).collect();
            let op = make(b, ty, &operands);
            let r = b.op(ty, op);
            b.store(out, Affine::var(i).offset((case * N) as i64), r);
        });
    }
    b.finish()
}

/// Dot products of bytes, or of pairs of `i16`: of vectors, and of one word with each word of a vector.
fn dot_kernel(name: &str, [first, second]: [DType; 2], lanes: u32) -> Kernel {
    let mut b = Builder::new(format!("{name}_{lanes}"), "");
    let per_word = 4 / first.size_bytes() as u32;
    let n = per_word as usize * N + 64;
    let x = b.buffer("x", first, n, Access::Read);
    let w = b.buffer("w", second, n, Access::Read);
    let y = b.buffer("y", DType::I32, 2 * N, Access::ReadWrite);
    b.for_loop("i", 0..N as i64, i64::from(lanes), |b, i| {
        let place = Affine::var(i).times(per_word.into());
        let (u, s) = (b.load(x, place.clone(), per_word * lanes), b.load(w, place.offset(i64::from(per_word) - 1), per_word * lanes));
        let acc = b.load(y, Affine::var(i), lanes);
        let acc = b.dot(acc, u, s);
        b.store(y, Affine::var(i), acc);
        let one = b.load(x, Affine::var(i).offset(1), per_word);
        let word = b.op(VecType::scalar(DType::I32), Op::Bitcast(one));
        let words = if lanes == 1 { word } else { b.splat(word, lanes) };
        let u = b.op(VecType { dtype: first, lanes: per_word * lanes }, Op::Bitcast(words));
        let acc = b.dot(acc, u, s);
        b.store(y, Affine::var(i).offset(N as i64), acc);
    });
    b.finish()
}

/// Every operation on every type, each at these numbers of lanes.
pub(in crate::codegen) fn op_kernels(lanes: &[u32]) -> Vec<Kernel> {
    use BinaryOp as B;
    use UnaryOp as U;
    let mut all: Vec<Kernel> =
        lanes.iter().flat_map(|&n| [dot_kernel("dot", [DType::U8, DType::I8], n), dot_kernel("pairs", [DType::I16; 2], n)]).collect();
    for d in DType::ALL {
        let mut add = |name: String, inputs: &[DType], result: DType, scalar: bool, make: &dyn Fn(&mut Builder, VecType, &[Reg]) -> Op| {
            all.push(op_kernel(lanes, &format!("{name}_{d}"), inputs, result, scalar, make));
        };
        for op in [U::Neg, U::Abs, U::Sqrt, U::Floor, U::Ceil, U::Trunc, U::Round, U::Not] {
            let applies = match op {
                U::Not => !d.is_float(),
                U::Neg | U::Abs => d != DType::Bool,
                _ => d.is_float(),
            };
            if applies {
                add(format!("{op:?}"), &[d], d, false, &|_, _, r| Op::Unary(op, r[0]));
            }
        }
        for op in [B::Add, B::Sub, B::Mul, B::Div, B::Rem, B::Min, B::Max, B::And, B::Or, B::Xor] {
            let applies = match op {
                B::And | B::Or | B::Xor => !d.is_float(),
                B::Rem => d.is_int(),
                _ => d != DType::Bool,
            };
            if applies {
                add(format!("{op:?}"), &[d, d], d, false, &|_, _, r| Op::Binary(op, r[0], r[1]));
                let by = if d == DType::U8 { 3 } else { -3 };
                if d.is_int() && d.is_signed() {
                    add(format!("{op:?}_by_constant"), &[d], d, false, &|b, ty, r| Op::Binary(op, r[0], b.int(ty, by)));
                }
                if matches!(op, B::Add | B::Mul | B::Min | B::Max) {
                    add(format!("all_{op:?}"), &[d], d, true, &|_, _, r| Op::Horizontal(op, r[0]));
                }
            }
        }
        if d.is_int() {
            for op in [B::Shl, B::Shr] {
                for by in [0, 1, 3, i64::from(d.bits()) - 1] {
                    add(format!("{op:?}_{by}"), &[d], d, false, &|b, ty, r| Op::Binary(op, r[0], b.int(ty, by)));
                }
            }
        }
        use CompareOp as C;
        for op in [C::Eq, C::Ne, C::Lt, C::Le, C::Gt, C::Ge] {
            if d != DType::Bool || matches!(op, C::Eq | C::Ne) {
                add(format!("{op:?}"), &[d, d], DType::Bool, false, &|_, _, r| Op::Compare(op, r[0], r[1]));
                add(format!("{op:?}_select"), &[d, d], d, false, &|b, _, r| {
                    let c = b.compare(op, r[0], r[1]);
                    Op::Select(c, r[1], r[0])
                });
            }
        }
        add("select".into(), &[DType::Bool, d, d], d, false, &|_, _, r| Op::Select(r[0], r[1], r[2]));
        if d != DType::Bool {
            for order in Shuffle::ALL {
                add(order.name().into(), &[d, d], d, false, &|_, ty, r| match ty.lanes {
                    1 => Op::Copy(r[0]),
                    _ => Op::Shuffle(order, r[0], r[1]),
                });
            }
        }
        add("copy".into(), &[d], d, false, &|_, _, r| Op::Copy(r[0]));
        add("last_lane".into(), &[d], d, true, &|b, _, r| Op::Lane(r[0], b.ty(r[0]).lanes - 1));
        add("splat_lane".into(), &[d], d, false, &|b, ty, r| {
            let lane = b.op(VecType::scalar(d), Op::Lane(r[0], ty.lanes / 2));
            if ty.lanes == 1 { Op::Copy(lane) } else { Op::Splat(lane) }
        });
        add("reverse".into(), &[d], d, false, &|b, ty, r| {
            Op::Pack((0..ty.lanes).rev().map(|i| b.op(VecType::scalar(d), Op::Lane(r[0], i))).collect())
        });
        add("constant".into(), &[d], d, false, &|_, _, _| Op::Const(if d.is_float() { Scalar::Float(1.5) } else { Scalar::Int(1) }));
        if !matches!(d, DType::Bool | DType::F16 | DType::BF16) {
            add("fma".into(), &[d, d, d], d, false, &|_, _, r| Op::Fma(r[0], r[1], r[2]));
        }
        for to in DType::ALL {
            let twice_rounded =
                matches!((d, to), (DType::F64, DType::F16 | DType::BF16)) || (to == DType::BF16 && d.is_int() && d.size_bytes() >= 4);
            if !twice_rounded {
                add(format!("to_{to}_from"), &[d], to, false, &|_, _, r| Op::Convert(r[0]));
            }
            if d != DType::Bool && to != DType::Bool && to.bits() == d.bits() {
                add(format!("as_{to}"), &[d], to, false, &|_, _, r| Op::Bitcast(r[0]));
            }
        }
    }
    all
}
