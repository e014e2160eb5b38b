//! `PairwiseCoupling`, in the domain `tinsmith`: probabilities of classes from those of pairs. Not of ONNX: `SVMClassifier` is made of it.
//!
//! Source: Wu, Lin and Weng, Probability Estimates for Multi-class Classification by Pairwise Coupling (2004), its second method,
//! iterated as libsvm does, which decides the last digits.

use crate::expr::{self, BinaryOp, CompareOp, Expr, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `y[b,i]` is the probability of class `i` where `pairs[b,p]` is that of the first of the two classes of pair `p`; pairs are
    /// `(0,1), (0,2), .., (1,2), ..`.
    PairwiseCoupling(pairs) -> (y) since [1] in "tinsmith";
}

/// Iterations at most.
const ITERATIONS: usize = 100;
/// Probabilities of pairs are not nearer to 0 and 1.
const LEAST: f64 = 1e-7;
/// Classes at most: each is a step of the program.
const MAX_CLASSES: usize = 64;

/// Number of classes with so many pairs.
fn classes(n_pairs: usize) -> Result<usize, InferError> {
    (2..=MAX_CLASSES)
        .find(|k| k * (k - 1) / 2 == n_pairs)
        .ok_or_else(|| InferError::Unsupported(format!("probabilities of {n_pairs} pairs of at most {MAX_CLASSES} classes")))
}

/// The largest error at which it ends.
fn tolerance(k: usize) -> f64 {
    0.005 / k as f64
}

/// The position of each ordered pair of classes among the pairs; the class itself has none.
fn positions(k: usize) -> Vec<usize> {
    let mut table = vec![0; k * k];
    let pairs = (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j)));
    for (p, (i, j)) in pairs.enumerate() {
        (table[i * k + j], table[j * k + i]) = (p, p);
    }
    table
}

impl Operator for PairwiseCoupling {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, &[DType::F32])?;
        match x.dims(0)?[..] {
            [rows, pairs] => Ok(vec![Type::fixed(DType::F32, &[rows, classes(pairs)?])]),
            _ => Err(InferError::Invalid(format!("pairs of type {}", x.ty(0)?))),
        }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (rows, n_pairs) = (x.tensor(0).dims()[0], x.tensor(0).dims()[1]);
        let k = classes(n_pairs).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (pairs, at) = (x.tensor(0).to_f64s(), positions(k));
        let mut out = vec![];
        for row in 0..rows {
            // Of the first class against the second.
            let r = |i: usize, j: usize| {
                let p = pairs[row * n_pairs + at[i * k + j]].clamp(LEAST, 1.0 - LEAST);
                if i < j { p } else { 1.0 - p }
            };
            let q = |t: usize, j: usize| {
                if t == j { (0..k).filter(|&i| i != t).map(|i| r(i, t) * r(i, t)).sum() } else { -r(j, t) * r(t, j) }
            };
            let mut p = vec![1.0 / k as f64; k];
            for _ in 0..ITERATIONS {
                let mut qp: Vec<f64> = (0..k).map(|t| (0..k).map(|j| q(t, j) * p[j]).sum()).collect();
                let mut pqp: f64 = (0..k).map(|t| p[t] * qp[t]).sum();
                if qp.iter().all(|v| (v - pqp).abs() < tolerance(k)) {
                    break;
                }
                for t in 0..k {
                    let d = (pqp - qp[t]) / q(t, t);
                    p[t] += d;
                    pqp = (pqp + d * (d * q(t, t) + 2.0 * qp[t])) / (1.0 + d) / (1.0 + d);
                    for j in 0..k {
                        qp[j] = (qp[j] + d * q(t, j)) / (1.0 + d);
                        p[j] /= 1.0 + d;
                    }
                }
            }
            out.extend(p);
        }
        Ok(vec![Tensor::from_f64s(DType::F32, &[rows, k], &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (rows, n_pairs) = (x.dims(0)[0], x.dims(0)[1]);
        let k = classes(n_pairs)?;
        let pairs = x.tensor(0);
        let number = |v: f64| Expr::constant(DType::F64, v);
        let at: Vec<i64> = positions(k).into_iter().map(|p| p as i64).collect();
        let at = b.constant("positions", Tensor::from_slice(&[k, k], &at));
        let r = b.compute(&[rows, k, k], |b, i| {
            let place = b.load(at, i[1..].to_vec());
            let p = b.load(pairs, [expr::Ix::from(&i[0]), expr::Ix::Clamped(place)]).cast(DType::F64);
            let p = p.binary(BinaryOp::Max, &number(LEAST)).binary(BinaryOp::Min, &number(1.0 - LEAST));
            let (first, second) = (Expr::index(&i[1]), Expr::index(&i[2]));
            let ordered = first.compare(CompareOp::Lt, &second).select(&p, &(number(1.0) - p.clone()));
            first.compare(CompareOp::Eq, &second).select(&number(0.0), &ordered)
        });
        let squares = b.reduce(
            ReduceOp::Sum,
            &[rows, k],
            &[k],
            |b, i, over| {
                let v = b.load(r, [i[0].clone(), over[0].clone(), i[1].clone()]);
                &v * &v
            },
            |_, _, sum| sum,
        );
        let q = b.compute(&[rows, k, k], |b, i| {
            let [n, t, j] = [0, 1, 2].map(|a| i[a].clone());
            let product = b.load(r, [n.clone(), j.clone(), t.clone()]) * b.load(r, [n.clone(), t.clone(), j.clone()]);
            let same = Expr::index(&t).compare(CompareOp::Eq, &Expr::index(&j));
            same.select(&b.load(squares, [n, t]), &(number(0.0) - product))
        });

        let p = b.compute(&[rows, k], |_, _| number(1.0 / k as f64));
        // 1 until the error is small.
        let going = b.compute(&[rows], |_, _| number(1.0));
        b.repeat(ITERATIONS, |b, _| {
            let qp = b.reduce(
                ReduceOp::Sum,
                &[rows, k],
                &[k],
                |b, i, over| b.load(q, [i[0].clone(), i[1].clone(), over[0].clone()]) * b.load(p, [i[0].clone(), over[0].clone()]),
                |_, _, sum| sum,
            );
            let pqp = b.reduce(
                ReduceOp::Sum,
                &[rows],
                &[k],
                |b, i, over| {
                    let place = [i[0].clone(), over[0].clone()];
                    b.load(p, place.clone()) * b.load(qp, place)
                },
                |_, _, sum| sum,
            );
            let error = b.reduce(
                ReduceOp::Max,
                &[rows],
                &[k],
                |b, i, over| (b.load(qp, [i[0].clone(), over[0].clone()]) - b.load(pqp, [i[0].clone()])).unary(UnaryOp::Abs),
                |_, _, max| max,
            );
            b.write(going, &[rows], |b, i| {
                let small = b.load(error, [i[0].clone()]).compare(CompareOp::Lt, &number(tolerance(k)));
                (i.to_vec(), small.select(&number(0.0), &b.load(going, i.to_vec())))
            });
            for t in 0..k as i64 {
                let class = expr::Affine::constant(t);
                let own = |b: &expr::Builder, n: &expr::Affine| b.load(q, [n.clone(), class.clone(), class.clone()]);
                let d = b.compute(&[rows], |b, i| {
                    let step = (b.load(pqp, [i[0].clone()]) - b.load(qp, [i[0].clone(), class.clone()])) / own(b, &i[0]);
                    let going = b.load(going, [i[0].clone()]).compare(CompareOp::Gt, &number(0.0));
                    going.select(&step, &number(0.0))
                });
                b.write(pqp, &[rows], |b, i| {
                    let (d, old) = (b.load(d, i.to_vec()), b.load(pqp, i.to_vec()));
                    let grown = &d * &(&(&d * &own(b, &i[0])) + &(b.load(qp, [i[0].clone(), class.clone()]) * 2.0));
                    let below = &d + 1.0;
                    (i.to_vec(), (old + grown) / below.clone() / below)
                });
                b.write(qp, &[rows, k], |b, i| {
                    let d = b.load(d, [i[0].clone()]);
                    let row = b.load(q, [i[0].clone(), class.clone(), i[1].clone()]);
                    (i.to_vec(), (b.load(qp, i.to_vec()) + &d * &row) / (&d + 1.0))
                });
                b.write(p, &[rows, k], |b, i| {
                    let d = b.load(d, [i[0].clone()]);
                    let own = Expr::index(&i[1]).compare(CompareOp::Eq, &Expr::int(DType::I64, t));
                    let moved = b.load(p, i.to_vec()) + own.select(&d, &number(0.0));
                    (i.to_vec(), moved / (&d + 1.0))
                });
            }
        });
        Ok(vec![b.compute(&[rows, k], |b, i| b.load(p, i.to_vec()).cast(DType::F32))])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, assert_close, check_error, t};

    #[test]
    fn probabilities() {
        let y = Check::new("tinsmith.PairwiseCoupling").run([t("f32[2,3] 0.5 0.5 0.5 0.9 0.8 0.3")]);
        assert_eq!(y[0].dims(), [2, 3]);
        assert_close(&super::Tensor::from_slice(&[3], &y[0].as_slice::<f32>()[..3]), &t("f32[3] 0.33333334 0.33333334 0.33333334"));
        let rows: Vec<f64> = y[0].to_f64s().chunks(3).map(|row| row.iter().sum()).collect();
        assert!(rows.iter().all(|sum| (sum - 1.0).abs() < 1e-6), "{rows:?}");
        Check::new("tinsmith.PairwiseCoupling").run([t("f32[3,1] 0.1 0.97 0")]);
        assert!(check_error("tinsmith.PairwiseCoupling", [t("f32[1,2]")]).starts_with("probabilities of 2 pairs"));
    }
}
