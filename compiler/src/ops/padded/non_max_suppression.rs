//! `NonMaxSuppression`: the best boxes of each class, without those that overlap a better one.
//! Spec: <https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html>

use super::selection::chosen;
use crate::expr::{self, Affine, BinaryOp, Builder, CompareOp, Expr, Ix, ReduceOp, TensorId};
use crate::operator;
use crate::ops::sorting;
use crate::ops::{Args, Counted, EvalError, Extent, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// Batch, class and number of each chosen box, `i64[n,3]`, best first in each class: boxes of a score above the threshold, each of
    /// which overlaps no better one by more than `iou_threshold`.
    NonMaxSuppression(boxes, scores, "max_output_boxes_per_class?", "iou_threshold?", "score_threshold?") -> (selected_indices) since [10, 11];
    /// Whether boxes are a center and two sizes, not two corners.
    center_point_box: bool = false,
}

operator! {
    /// `NonMaxSuppression` of what is not constant: as many rows as there could be, of which the first `count` are meant. `extents` says
    /// how much of `boxes` is meant.
    PaddedNonMaxSuppression(boxes, scores, "max_output_boxes_per_class?", "iou_threshold?", "score_threshold?", "extents?")
        -> (selected_indices, count)
        since [1] in "ai.tinsmith";
    /// Whether boxes are a center and two sizes, not two corners.
    center_point_box: bool = false,
    /// Whether there are as many rows of each class as a constant limit says, also where boxes are fewer.
    up_to_limit: bool = false,
}

/// No class has more rows than there are boxes where its limit is greater.
const MAX_ROWS_OF_A_CLASS: i64 = 1 << 10;

/// Places before the boxes, a line of the cache, that stand for none of them.
const BEFORE: usize = 16;

/// Batches, classes, boxes, and the most that are chosen of each class.
fn plan(x: &Operands, up_to_limit: bool) -> Result<[usize; 4], InferError> {
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
                Ok(most) if up_to_limit && most[0] <= MAX_ROWS_OF_A_CLASS => most[0].max(0) as usize,
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

/// Corners and the area of a box, NaN for one that is not positive: such a box overlaps none.
type Covered = [Expr; 5];

/// Whether boxes share more than this part of what either covers, as expressions. Where both areas are positive, so is the union.
fn overlaps(a: &Covered, b: &Covered, threshold: &Expr) -> Expr {
    let zero = threshold.like(0.0);
    let side = |k: usize| {
        let (low, high) = (a[k].binary(BinaryOp::Max, &b[k]), a[k + 2].binary(BinaryOp::Min, &b[k + 2]));
        high.binary(BinaryOp::Sub, &low).binary(BinaryOp::Max, &zero)
    };
    let common = side(0).binary(BinaryOp::Mul, &side(1));
    let union = a[4].binary(BinaryOp::Add, &b[4]).binary(BinaryOp::Sub, &common);
    common.binary(BinaryOp::Div, &union).compare(CompareOp::Gt, threshold)
}

/// The boxes of one class in one batch.
struct Class {
    batch: i64,
    class: i64,
    /// Those that no better one suppresses, best first.
    kept: Vec<i64>,
}

/// What is kept of every class, without a limit.
fn classes(center: bool, x: &Operands) -> Result<Vec<Class>, EvalError> {
    let [batches, classes, n, _] = plan(x, false).map_err(|e| EvalError::Invalid(e.to_string()))?;
    let (boxes, scores) = (x.tensor(0).as_slice::<f32>(), x.tensor(1).as_slice::<f32>());
    let number = |i: usize| x.tensor_opt(i).map(|t| t.as_slice::<f32>()[0]);
    let mut all = vec![];
    for batch in 0..batches {
        let corner: Vec<[f32; 4]> = (0..n).map(|i| corners(center, std::array::from_fn(|k| boxes[(batch * n + i) * 4 + k]))).collect();
        for class in 0..classes {
            let score = |i: usize| scores[(batch * classes + class) * n + i];
            let n = x.tensor_opt(5).map_or(n, |t| (t.to_ints()[1].max(0) as usize).min(n));
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| score(b).partial_cmp(&score(a)).unwrap_or_else(|| score(b).is_nan().cmp(&score(a).is_nan())));
            let mut kept: Vec<usize> = vec![];
            for i in order {
                let good = number(4).is_none_or(|least| score(i) > least);
                if good && !kept.iter().any(|&k| overlap(corner[k], corner[i], number(3).unwrap_or(0.0))) {
                    kept.push(i);
                }
            }
            all.push(Class { batch: batch as i64, class: class as i64, kept: kept.into_iter().map(|i| i as i64).collect() });
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
        plan(x, false)?;
        for i in (0..5).filter(|&i| x.has(i)) {
            x.value(i)?;
        }
        let rows = select(&classes(self.center_point_box, x).map_err(|e| InferError::Invalid(e.to_string()))?, x);
        Ok(vec![Type::fixed(DType::I64, &[rows.len(), 3])])
    }

    fn padded(&self, _: &Operands, _: &[Interval]) -> Option<Box<dyn Operator>> {
        Some(Box::new(PaddedNonMaxSuppression { center_point_box: self.center_point_box, up_to_limit: false }))
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
        let [batches, classes, _, most] = plan(x, self.up_to_limit)?;
        Ok(vec![Type::fixed(DType::I64, &[batches * classes * most, 3]), Type::fixed(DType::I64, &[1])])
    }

    fn at_any_size(&self) -> Option<Box<dyn Operator>> {
        Some(Box::new(PaddedNonMaxSuppression { up_to_limit: true, ..self.clone() }))
    }

    fn interval(&self, x: &Operands, _: &[Interval]) -> Interval {
        let greatest = plan(x, self.up_to_limit).map_or(0, |[batches, classes, n, _]| batches.max(classes).max(n));
        Interval::new(0.0, greatest.saturating_sub(1) as f64)
    }

    fn counted(&self, x: &Operands) -> Option<Counted> {
        (!x.has(5)).then(|| Counted { op: Box::new(self.clone()), of: vec![0], at: 5 })
    }

    fn heeds(&self, x: &Operands, operand: usize, axis: usize, _: &[Interval]) -> bool {
        x.has(5) && matches!((operand, axis), (0, 1) | (1, 2))
    }

    fn sizes(&self, _: &Operands) -> Vec<Extent> {
        vec![Extent { result: 0, axis: 0, count: 1 }]
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let [batches, n_classes, _, most] = plan(x, self.up_to_limit).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let classes = classes(self.center_point_box, x)?;
        let mut rows = select(&classes, x);
        let count = rows.len() as i64;
        // Padding is the best box of the first class, or its first.
        let first = classes.first().map_or([0; 3], |c| [0, 0, c.kept.first().copied().unwrap_or(0)]);
        rows.resize(batches * n_classes * most, first);
        Ok(vec![Tensor::from_slice(&[rows.len(), 3], &rows.concat()), Tensor::from_slice(&[1], &[count])])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let [batches, classes, n, most] = plan(x.facts, self.up_to_limit)?;
        let int = |n: usize| Expr::int(DType::I64, n as i64);
        let rows = batches * classes * most;
        if rows == 0 || n == 0 {
            return Ok(vec![b.compute(&[rows, 3], |_, _| int(0)), b.compute(&[1], |_, _| int(0))]);
        }
        let only = |b: &Builder, i: usize| x.get(i).map(|t| b.load(t, vec![0i64; b.dims(t).len()]));
        let float = |x: f64| Expr::constant(DType::F32, x);
        let boxes = x.tensor(0);
        let corner = |b: &mut Builder, k: usize| {
            b.compute(&[batches, n], |b, at| {
                let part = |k: usize| b.load(boxes, [&at[0], &at[1], &Affine::constant(k as i64)]);
                let (along, high) = (k % 2, k >= 2);
                if self.center_point_box {
                    let (middle, size) = (part(1 - along), part(3 - along).binary(BinaryOp::Div, &float(2.0)));
                    return middle.binary(if high { BinaryOp::Add } else { BinaryOp::Sub }, &size);
                }
                part(along).binary(if high { BinaryOp::Max } else { BinaryOp::Min }, &part(2 + along))
            })
        };
        let [low_y, low_x, high_y, high_x] = [0, 1, 2, 3].map(|k| corner(b, k));
        let area = b.map(&[low_y, low_x, high_y, high_x], |c| {
            let area = c[2].binary(BinaryOp::Sub, &c[0]).binary(BinaryOp::Mul, &c[3].binary(BinaryOp::Sub, &c[1]));
            area.compare(CompareOp::Gt, &float(0.0)).select(&area, &float(f64::NAN))
        });
        let covered = [low_y, low_x, high_y, high_x, area];

        // Boxes that may still be chosen have the order of their score; the rest the least number, which is no score's. What stands before
        // the boxes has it too, and is the first of all when no box may be chosen.
        let (least, before) = (Expr::int(DType::I32, i32::MIN.into()), Affine::constant(BEFORE as i64));
        let (greatest, varies) = b.spread(x.tensor(1), 2);
        let numbers: Vec<i32> = (0..greatest as i32).collect();
        let numbers = b.constant("numbers", Tensor::from_slice(&[greatest], &numbers));
        let order = |b: &Builder, batch: &Affine, class: &Affine, place: &Affine| {
            let score = b.load(x.tensor(1), [batch, class, place]);
            let order = sorting::narrow_order_of(&score);
            let order = match x.get(5) {
                Some(extents) => {
                    let end = b.load(extents, [1i64]).binary(BinaryOp::Min, &int(n)).cast(DType::I32);
                    b.load(numbers, [place]).compare(CompareOp::Lt, &end).select(&order, &least)
                }
                None => order,
            };
            match only(b, 4) {
                Some(threshold) => score.compare(CompareOp::Gt, &threshold).select(&order, &least),
                None => order,
            }
        };
        // Places of the chosen ones, negative for none.
        let picked = b.declare(DType::I64, &[batches, classes, most]);
        let pick = |b: &mut Builder, batch: &Affine, class: &Affine| {
            let orders = b.declare(DType::I32, &[BEFORE + n]);
            b.write(orders, &[BEFORE], |_, at| (at.to_vec(), least.clone()));
            b.write(orders, &[n], |b, at| (vec![at[0].plus(&before)], order(b, batch, class, &at[0])));
            b.repeat(most, |b, r| {
                let best = b.arg(ReduceOp::Max, false, &[1], BEFORE + n, |b, _, over| b.load(orders, [over]));
                let place = b.map(&[best], |best| best[0].binary(BinaryOp::Sub, &int(BEFORE)));
                b.write(picked, &[1], |b, at| (vec![batch.clone(), class.clone(), r.plus(&at[0])], b.load(place, at)));
                let chosen = covered.map(|t| {
                    b.compute(&[1], |b, at| {
                        let (batch, place) = (Ix::from(batch), b.load(place, at));
                        // There may be no boxes at all.
                        if varies {
                            b.load_padded(t, [batch, Ix::Checked(place)], float(0.0))
                        } else {
                            b.load(t, [batch, Ix::Clamped(place)])
                        }
                    })
                });
                b.write(orders, &[n], |b, at| {
                    let here = covered.map(|t| b.load(t, [batch, &at[0]]));
                    let there = chosen.map(|t| b.load(t, [0i64]));
                    let is_it = b.load(numbers, at).compare(CompareOp::Eq, &b.load(place, [0i64]).cast(DType::I32));
                    let lost = is_it.binary(BinaryOp::Or, &overlaps(&here, &there, &only(b, 3).unwrap_or_else(|| float(0.0))));
                    let at = vec![at[0].plus(&before)];
                    let order = b.load(orders, &at);
                    (at, lost.select(&least, &order))
                });
            });
        };
        b.repeat(batches, |b, batch| b.repeat(classes, |b, class| pick(b, &batch, &class)));
        let firsts = [batches, classes, most];
        let number = b.map(&[picked], |place| place[0].binary(BinaryOp::Max, &int(0)));
        let meant = b.compute(&firsts, |b, at| {
            let limit = only(b, 2).map_or_else(|| int(0), |limit| limit.cast(DType::I64));
            let inside = Expr::index(&at[2]).compare(CompareOp::Lt, &limit);
            let is_one = b.load(picked, at).compare(CompareOp::Ge, &int(0));
            inside.binary(BinaryOp::And, &is_one).select(&int(1), &int(0))
        });
        let flat = [rows];
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
    use crate::ops::check::{Check, check_op, random, t};
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
        let mut of_two = limits(3).to_vec();
        of_two.push(t("i64[3] 1 2 4"));
        assert_eq!(check("").run(of_two)[1], t("i64[1] 1"));
        for seed in 0..3 {
            let scores = random("f32[2,3,11]", seed);
            for center in ["", "center_point_box=1"] {
                let most = Tensor::from_slice(&[], &[11i64]);
                check(center).run([boxes(11, seed), scores.clone(), most, t("f32[] 0.25"), t("f32[1] -1")]);
            }
        }
        // Equal scores, those that are no numbers or have no end, boxes whose ends are the other way round, and no thresholds.
        let scores = t("f32[1,2,4] nan -inf 1 nan -inf -inf inf -inf");
        let b = t("f32[1,4,4] 0 0 1 1 2 2 -1 -1 0 0 1 1 1 1 1 1");
        for center in ["", "center_point_box=1"] {
            check(center).run([b.clone(), scores.clone(), t("i64[1] 4")]);
            check(center).run([b.clone(), scores.clone(), t("i64[1] 4"), t("f32[1] -1"), t("f32[1] -inf")]);
        }
    }
}
