//! `NonMaxSuppression`: the best boxes of each class, without those that overlap a better one.
//! Spec: <https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html>

use super::selection::chosen;
use crate::expr::{self, Affine, BinaryOp, CompareOp, Expr, Ix, ReduceOp, TensorId};
use crate::operator;
use crate::ops::movement::TopK;
use crate::ops::{Args, EvalError, Extent, Fact, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// Batch, class and number of each chosen box, `i64[n,3]`, best first in each class: boxes of a score above the threshold, each of
    /// which overlaps no better one by more than `iou_threshold`.
    NonMaxSuppression(boxes, scores, "max_output_boxes_per_class?", "iou_threshold?", "score_threshold?") -> (selected_indices) since [10, 11];
    /// Whether boxes are a center and two sizes, not two corners.
    center_point_box: bool = false,
}

operator! {
    /// `NonMaxSuppression` of what is not constant: as many rows as there could be, of which the first `count` are meant.
    PaddedNonMaxSuppression(boxes, scores, "max_output_boxes_per_class?", "iou_threshold?", "score_threshold?") -> (selected_indices, count)
        since [1] in "ai.tinsmith";
    /// Whether boxes are a center and two sizes, not two corners.
    center_point_box: bool = false,
}

/// Batches, classes, boxes, and the most that are chosen of each class.
fn plan(x: &Operands) -> Result<[usize; 4], InferError> {
    let (boxes, scores) = (x.dims(0)?, x.dims(1)?);
    for i in [0, 1, 3, 4].into_iter().filter(|&i| x.has(i)) {
        x.require_dtype(i, &[DType::F32])?;
    }
    if (2..5).any(|i| x.has(i) && x.dims(i).is_ok_and(|d| d.iter().any(|&d| d != 1))) {
        return Err(InferError::Invalid("a limit or threshold is not one number".to_owned()));
    }
    match (&boxes[..], &scores[..]) {
        (&[b, n, 4], &[batches, classes, m]) if b == batches && n == m => {
            let most = match x.ints(2) {
                _ if !x.has(2) => 0,
                Ok(most) => most[0].clamp(0, n as i64) as usize,
                Err(_) => n,
            };
            Ok([b, classes, n, most])
        }
        _ => Err(InferError::Invalid(format!("`{}` boxes with `{}` scores", x.ty(0)?, x.ty(1)?))),
    }
}

/// Low and high ends along both axes.
fn corners(center: bool, b: [f32; 4]) -> [f32; 4] {
    if center {
        let [x, y, w, h] = b;
        return [y - h / 2.0, x - w / 2.0, y + h / 2.0, x + w / 2.0];
    }
    [b[0].min(b[2]), b[1].min(b[3]), b[0].max(b[2]), b[1].max(b[3])]
}

fn overlap(a: [f32; 4], b: [f32; 4], threshold: f32) -> bool {
    let area = |c: [f32; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let (h, w) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    let common = h.max(0.0) * w.max(0.0);
    let all = area(a) + area(b) - common;
    area(a) > 0.0 && area(b) > 0.0 && all > 0.0 && common / all > threshold
}

/// The boxes of one class in one batch.
struct Class {
    batch: i64,
    class: i64,
    /// Those that no better one suppresses, best first.
    kept: Vec<i64>,
    /// That of the greatest score.
    best: i64,
}

/// What is kept of every class, without a limit.
fn classes(center: bool, x: &Operands) -> Result<Vec<Class>, EvalError> {
    let [batches, classes, n, _] = plan(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
    let (boxes, scores) = (x.tensor(0).as_slice::<f32>(), x.tensor(1).as_slice::<f32>());
    let number = |i: usize| x.tensor_opt(i).map(|t| t.as_slice::<f32>()[0]);
    let mut all = vec![];
    for batch in 0..batches {
        let corner: Vec<[f32; 4]> = (0..n).map(|i| corners(center, std::array::from_fn(|k| boxes[(batch * n + i) * 4 + k]))).collect();
        for class in 0..classes {
            let score = |i: usize| scores[(batch * classes + class) * n + i];
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| score(b).partial_cmp(&score(a)).unwrap_or_else(|| score(b).is_nan().cmp(&score(a).is_nan())));
            let best = order.first().map_or(0, |&i| i as i64);
            let mut kept: Vec<usize> = vec![];
            for i in order {
                let good = number(4).is_none_or(|least| score(i) > least);
                if good && !kept.iter().any(|&k| overlap(corner[k], corner[i], number(3).unwrap_or(0.0))) {
                    kept.push(i);
                }
            }
            all.push(Class { batch: batch as i64, class: class as i64, kept: kept.into_iter().map(|i| i as i64).collect(), best });
        }
    }
    Ok(all)
}

/// The rows that are meant.
fn select(classes: &[Class], x: &Operands) -> Vec<[i64; 3]> {
    let most = x.tensor_opt(2).map_or(0, |t| t.to_ints()[0].max(0)) as usize;
    classes.iter().flat_map(|c| c.kept.iter().take(most).map(|&i| [c.batch, c.class, i])).collect()
}

impl Operator for NonMaxSuppression {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        plan(x)?;
        for i in (0..5).filter(|&i| x.has(i)) {
            x.value(i)?;
        }
        let rows = select(&classes(self.center_point_box, x).map_err(|e| InferError::Invalid(e.to_string()))?, x);
        Ok(vec![Type::fixed(DType::I64, &[rows.len(), 3])])
    }

    fn padded(&self, _: &Operands) -> Option<Box<dyn Operator>> {
        Some(Box::new(PaddedNonMaxSuppression { center_point_box: self.center_point_box }))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let rows = select(&classes(self.center_point_box, x)?, x);
        Ok(vec![Tensor::from_slice(&[rows.len(), 3], &rows.concat())])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let value = self.eval(x.facts).map_err(|e| LowerError::Unsupported(e.to_string()))?.remove(0);
        let dims = value.dims().to_vec();
        let table = b.constant("selected", value);
        Ok(vec![b.compute(&dims, |b, at| b.load(table, at))])
    }
}

impl Operator for PaddedNonMaxSuppression {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let [batches, classes, _, most] = plan(x)?;
        Ok(vec![Type::fixed(DType::I64, &[batches * classes * most, 3]), Type::fixed(DType::I64, &[1])])
    }

    fn sizes(&self, _: &Operands) -> Vec<Extent> {
        vec![Extent { result: 0, axis: 0, count: 1 }]
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let [batches, n_classes, _, most] = plan(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let classes = classes(self.center_point_box, x)?;
        let mut rows = select(&classes, x);
        let count = rows.len() as i64;
        // Padding is the best box of the first class.
        let first = classes.first().map_or([0; 3], |c| [0, 0, c.kept.first().copied().unwrap_or(c.best)]);
        rows.resize(batches * n_classes * most, first);
        Ok(vec![Tensor::from_slice(&[rows.len(), 3], &rows.concat()), Tensor::from_slice(&[1], &[count])])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let [batches, classes, n, most] = plan(x.facts)?;
        let int = |n: usize| Expr::int(DType::I64, n as i64);
        if batches * classes * most == 0 {
            return Ok(vec![b.compute(&[0, 3], |_, _| int(0)), b.compute(&[1], |_, _| int(0))]);
        }
        let all = [batches, classes, n];
        let k = Fact::from(Tensor::from_slice(&[1], &[n as i64]));
        let facts = Operands { facts: vec![x.facts.facts[1].clone(), Some(k)], n_results: 2 };
        let types = [Type::fixed(DType::F32, &all), Type::fixed(DType::I64, &all)];
        let sorted = TopK { axis: 2, largest: true, sorted: true };
        let sorted = sorted.lower(b, &Args { facts: &facts, tensors: vec![x.tensors[1], None], results: &types })?;
        let (scores, order) = (sorted[0], sorted[1]);
        let only = |b: &expr::Builder, i: usize| x.get(i).map(|t| b.load(t, vec![0i64; b.dims(t).len()]));

        // Corners of the boxes in the order of their scores.
        let boxes = x.tensor(0);
        let corners: Vec<TensorId> = (0..4)
            .map(|k| {
                b.compute(&all, |b, at| {
                    let part = |k: i64| b.load(boxes, [Ix::from(&at[0]), Ix::Clamped(b.load(order, at)), Ix::from(k)]);
                    let half = Expr::constant(DType::F32, 2.0);
                    let (along, high) = (k % 2, k >= 2);
                    if self.center_point_box {
                        let (middle, size) = (part(1 - along), part(3 - along).binary(BinaryOp::Div, &half));
                        return middle.binary(if high { BinaryOp::Add } else { BinaryOp::Sub }, &size);
                    }
                    part(along).binary(if high { BinaryOp::Max } else { BinaryOp::Min }, &part(2 + along))
                })
            })
            .collect();

        // One box after the other: it stays if it overlaps none that stayed.
        let keep = b.declare(DType::I64, &all);
        b.write(keep, &all, |_, at| (at.to_vec(), int(0)));
        b.repeat(n, |b, r| {
            let value = |b: &expr::Builder, at: &[Affine], over: &[Affine]| {
                let corner = |k: usize, place: &Affine| b.load(corners[k], [&at[0], &at[1], place]);
                let (here, there) = ([0, 1, 2, 3].map(|k| corner(k, &r)), [0, 1, 2, 3].map(|k| corner(k, &over[0])));
                let zero = Expr::constant(DType::F32, 0.0);
                let side = |k: usize| {
                    let (low, high) = (here[k].binary(BinaryOp::Max, &there[k]), here[k + 2].binary(BinaryOp::Min, &there[k + 2]));
                    high.binary(BinaryOp::Sub, &low).binary(BinaryOp::Max, &zero)
                };
                let area = |c: &[Expr; 4]| c[2].binary(BinaryOp::Sub, &c[0]).binary(BinaryOp::Mul, &c[3].binary(BinaryOp::Sub, &c[1]));
                let common = side(0).binary(BinaryOp::Mul, &side(1));
                let union = area(&there).binary(BinaryOp::Add, &area(&here)).binary(BinaryOp::Sub, &common);
                let threshold = only(b, 3).unwrap_or_else(|| zero.clone());
                let positive = |e: &Expr| e.compare(CompareOp::Gt, &zero);
                let mut crossed = common.binary(BinaryOp::Div, &union).compare(CompareOp::Gt, &threshold);
                for e in [&area(&here), &area(&there), &union] {
                    crossed = crossed.binary(BinaryOp::And, &positive(e));
                }
                let better = Expr::index(&over[0]).compare(CompareOp::Lt, &Expr::index(&r));
                let kept = b.load(keep, [&at[0], &at[1], &over[0]]);
                better.binary(BinaryOp::And, &crossed).select(&kept, &int(0))
            };
            let lost = b.reduce(ReduceOp::Max, &all[..2], &[n], value, |_, _, lost| lost);
            b.write(keep, &all[..2], |b, at| {
                let good = b.load(lost, at).compare(CompareOp::Le, &int(0));
                let good = match only(b, 4) {
                    Some(least) => good.binary(BinaryOp::And, &b.load(scores, [&at[0], &at[1], &r]).compare(CompareOp::Gt, &least)),
                    None => good,
                };
                (vec![at[0].clone(), at[1].clone(), r.clone()], good.select(&int(1), &int(0)))
            });
        });

        // The first of each class, then those of all classes.
        let before = b.reduce(
            ReduceOp::Sum,
            &all,
            &[n],
            |b, at, over| {
                let earlier = Expr::index(&over[0]).compare(CompareOp::Lt, &Expr::index(&at[2]));
                earlier.select(&b.load(keep, [&at[0], &at[1], &over[0]]), &int(0))
            },
            |_, _, sum| sum,
        );
        let total = b.reduce(ReduceOp::Sum, &all[..2], &[n], |b, at, over| b.load(keep, [&at[0], &at[1], &over[0]]), |_, _, sum| sum);
        let firsts = [batches, classes, most];
        let picked = b.reduce(
            ReduceOp::Max,
            &firsts,
            &[n],
            |b, at, over| {
                let place = [&at[0], &at[1], &over[0]];
                let is_it = b.load(before, place).compare(CompareOp::Eq, &Expr::index(&at[2]));
                let is_it = is_it.binary(BinaryOp::And, &b.load(keep, place).compare(CompareOp::Ne, &int(0)));
                is_it.select(&Expr::index(&over[0]), &int(0))
            },
            |_, _, place| place,
        );
        let number = b.compute(&firsts, |b, at| b.load(order, [Ix::from(&at[0]), Ix::from(&at[1]), Ix::Clamped(b.load(picked, at))]));
        let meant = b.compute(&firsts, |b, at| {
            let limit = match only(b, 2) {
                Some(limit) => limit.cast(DType::I64).binary(BinaryOp::Min, &b.load(total, &at[..2])),
                None => int(0),
            };
            Expr::index(&at[2]).compare(CompareOp::Lt, &limit).select(&int(1), &int(0))
        });
        let flat = [batches * classes * most];
        let (meant, number) = (b.reshape(meant, &flat), b.reshape(number, &flat));
        let (places, count) = chosen(b, meant);
        let y = b.declare(DType::I64, &[flat[0], 3]);
        for column in 0..3 {
            b.write(y, &flat, |b, at| {
                let place = b.load(places, at);
                let value = match column {
                    0 => place.binary(BinaryOp::Div, &int(classes * most)),
                    1 => place.binary(BinaryOp::Div, &int(most)).binary(BinaryOp::Rem, &int(classes)),
                    _ => b.load(number, [Ix::Clamped(place)]),
                };
                (vec![at[0].clone(), Affine::constant(column)], value)
            });
        }
        Ok(vec![y, count])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_op, t};
    use crate::tensor::Tensor;

    /// Boxes of two corners near each other, in steps of a quarter.
    fn boxes(n: usize, seed: u64) -> Tensor {
        let mut state = seed;
        let values: Vec<f32> = (0..2 * n)
            .flat_map(|_| {
                let mut next = |m: u64| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) % m
                };
                let (y, x, h, w) = (next(9), next(9), next(9), next(9));
                [y, x, y + h, x + w].map(|v| v as f32 / 4.0)
            })
            .collect();
        Tensor::from_slice(&[2, n, 4], &values)
    }

    #[test]
    fn better_boxes_suppress_those_they_overlap() {
        let b = || t("f32[1,3,4] 0 0 1 1 0 0.1 1 1.1 0 10 1 11");
        let s = || t("f32[1,1,3] 0.75 0.9 0.5");
        let limits = |most: i64| [b(), s(), Tensor::from_slice(&[1], &[most]), t("f32[1] 0.5"), t("f32[1] 0.1")];
        assert_eq!(check_op("NonMaxSuppression", limits(3)), [t("i64[2,3] 0 0 1 0 0 2")]);
        assert_eq!(check_op("NonMaxSuppression", limits(1)), [t("i64[1,3] 0 0 1")]);
        let check = |text: &str| Check::new(&format!("ai.tinsmith.PaddedNonMaxSuppression {text}")).results(2);
        assert_eq!(check("").run(limits(3))[1], t("i64[1] 2"));
        for seed in 0..3 {
            let scores = crate::ops::check::random("f32[2,3,11]", seed);
            for center in ["", "center_point_box=1"] {
                let most = Tensor::from_slice(&[], &[11i64]);
                check(center).run([boxes(11, seed), scores.clone(), most, t("f32[] 0.25"), t("f32[1] -1")]);
            }
        }
    }
}
