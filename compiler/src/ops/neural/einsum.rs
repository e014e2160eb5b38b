//! `Einsum`: sums of products by the letters of an equation; more than two operands are contracted pair by pair.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Einsum.html>

use std::collections::BTreeMap;

use super::widen::{NUMBERS, Number, wide};
use crate::expr::{self, Affine, Expr, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type, for_each_index, n_elements, row_major_strides};

operator! {
    /// Sums of products of elements: axes with one letter run together, letters that the output lacks are summed over.
    Einsum("inputs*") -> (output) since [12, 28];
    /// As in `bij,bjk->bik`; `...` stands for any axes.
    equation: String,
}

/// An axis of the equation: a letter, or an axis of the ellipsis counted from its end (above all letters).
type Label = u32;

const ELLIPSIS: Label = 1 << 16;

/// The equation for operands of given ranks.
#[derive(Debug)]
struct Equation {
    operands: Vec<Vec<Label>>,
    output: Vec<Label>,
}

impl Einsum {
    fn parse(&self, x: &Operands) -> Result<Equation, InferError> {
        let invalid = |why: &str| InferError::Invalid(format!("`equation` is `{}`: {why}", self.equation));
        let text: String = self.equation.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (&*text, None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != x.len() {
            return Err(invalid(&format!("{} terms for {} operands", terms.len(), x.len())));
        }
        let letters = |term: &str| -> Result<(Vec<Label>, Option<Vec<Label>>), InferError> {
            let side = |s: &str| match s.chars().find(|c| !c.is_ascii_alphabetic()) {
                Some(c) => Err(invalid(&format!("unexpected `{c}`"))),
                None => Ok(s.chars().map(u32::from).collect()),
            };
            Ok(match term.split_once("...") {
                Some((before, after)) => (side(before)?, Some(side(after)?)),
                None => (side(term)?, None),
            })
        };
        // Axes of an ellipsis are matched from the last on.
        let ellipsis = |n: usize| (0..n as u32).rev().map(|i| ELLIPSIS + i);
        let (mut operands, mut widest) = (vec![], 0);
        for (i, term) in terms.iter().enumerate() {
            let rank = x.rank(i)?;
            let (before, after) = letters(term)?;
            let named = before.len() + after.as_ref().map_or(0, Vec::len);
            if named > rank || (after.is_none() && named < rank) {
                return Err(invalid(&format!("term `{term}` for an operand of rank {rank}")));
            }
            widest = widest.max(rank - named);
            operands.push(before.into_iter().chain(ellipsis(rank - named)).chain(after.into_iter().flatten()).collect::<Vec<_>>());
        }
        let output: Vec<Label> = match right {
            Some(term) => {
                let (before, after) = letters(term)?;
                let n = if after.is_some() { widest } else { 0 };
                before.into_iter().chain(ellipsis(n)).chain(after.into_iter().flatten()).collect()
            }
            None => {
                let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
                operands.iter().flatten().for_each(|&l| *counts.entry(l).or_default() += 1);
                ellipsis(widest).chain(counts.into_iter().filter(|&(l, n)| n == 1 && l < ELLIPSIS).map(|(l, _)| l)).collect()
            }
        };
        for (i, label) in output.iter().enumerate() {
            let known = operands.iter().any(|o| o.contains(label));
            if !known || output[..i].contains(label) {
                let why = if known { "repeated in the output" } else { "in no operand" };
                return Err(invalid(&format!("`{}` is {why}", char::from_u32(*label).unwrap_or('.'))));
            }
        }
        Ok(Equation { operands, output })
    }
}

impl Equation {
    /// The extent of every label; 1 gives way to anything.
    fn extents(&self, x: &Operands) -> Result<BTreeMap<Label, Dim>, InferError> {
        let mut extents: BTreeMap<Label, Dim> = BTreeMap::new();
        for (i, labels) in self.operands.iter().enumerate() {
            for (&label, dim) in labels.iter().zip(&x.ty(i)?.shape.0) {
                let known = extents.entry(label).or_insert_with(|| dim.clone());
                *known = match (&*known, dim) {
                    (a, b) if a == b => continue,
                    (Dim::Fixed(1), d) | (d, Dim::Fixed(1)) => d.clone(),
                    (Dim::Fixed(a), Dim::Fixed(b)) => {
                        return Err(InferError::Invalid(format!("operand {i} has extent {b} where another has {a} for the same letter")));
                    }
                    (d @ Dim::Fixed(_), _) | (_, d @ Dim::Fixed(_)) => d.clone(),
                    _ => Dim::Unknown,
                };
            }
        }
        Ok(extents)
    }
}

impl Operator for Einsum {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        if x.is_empty() {
            return Err(InferError::MissingOperand { operand: 0 });
        }
        let dtype = x.require_dtype(0, NUMBERS)?;
        for i in 1..x.len() {
            x.require_same_dtype(i, 0)?;
        }
        let equation = self.parse(x)?;
        let extents = equation.extents(x)?;
        Ok(vec![Type::new(dtype, equation.output.iter().map(|l| extents[l].clone()).collect())])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let Ok(equation) = self.parse(x) else { return Axes::unlinked(x) };
        let Ok(extents) = equation.extents(x) else { return Axes::unlinked(x) };
        let operands = equation.operands.iter().zip(&x.facts).map(|(labels, fact)| {
            let dims = fact.as_ref().map_or(&[][..], |f| &f.ty.shape.0);
            let once = |l: Label| labels.iter().filter(|&&m| m == l).count() == 1;
            labels.iter().zip(dims).map(|(&l, d)| (once(l) && equation.output.contains(&l) && *d == extents[&l]).then_some(l)).collect()
        });
        // A letter that is linked in one operand and repeated or broadcast in another is not sliced alike: broadcast is harmless, a diagonal is not.
        let mut axes =
            Axes { operands: operands.collect(), results: vec![equation.output.iter().copied().map(Some).collect()], elementwise: false };
        let diagonal: Vec<Label> = equation
            .operands
            .iter()
            .flat_map(|labels| labels.iter().filter(|l| labels.iter().filter(|m| m == l).count() > 1).copied().collect::<Vec<_>>())
            .collect();
        for label in axes.operands.iter_mut().chain(&mut axes.results).flatten() {
            *label = label.filter(|l| !diagonal.contains(l));
        }
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let invalid = |e: InferError| EvalError::Invalid(e.to_string());
        let equation = self.parse(x).map_err(invalid)?;
        let extents: BTreeMap<Label, usize> =
            equation.extents(x).map_err(invalid)?.into_iter().map(|(l, d)| (l, d.fixed().expect("extents of values"))).collect();
        Ok(vec![if x.tensor(0).dtype().is_float() { sum::<f64>(&equation, &extents, x) } else { sum::<i64>(&equation, &extents, x) }])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let equation = self.parse(x.facts)?;
        let dtype = b.dtype(x.tensor(0));
        let mut operands: Vec<Labelled> =
            equation.operands.into_iter().enumerate().map(|(i, labels)| Labelled { tensor: x.tensor(i), labels }).collect();
        let output = equation.output;
        let mut left = operands.remove(0);
        if operands.is_empty() {
            return Ok(vec![sum_of_products(b, &[&left], &output, dtype)]);
        }
        while !operands.is_empty() {
            let mut right = operands.remove(0);
            let later: Vec<Label> = operands.iter().flat_map(|o| &o.labels).chain(&output).copied().collect();
            // What only one of the two has, and nothing later needs, is summed first.
            left = sum_first(b, left, |l| right.labels.contains(&l) || later.contains(&l));
            right = sum_first(b, right, |l| left.labels.contains(&l) || later.contains(&l));
            if operands.is_empty() {
                return Ok(vec![sum_of_products(b, &[&left, &right], &output, dtype)]);
            }
            let mut kept: Vec<Label> = vec![];
            for &l in left.labels.iter().chain(&right.labels) {
                if later.contains(&l) && !kept.contains(&l) {
                    kept.push(l);
                }
            }
            let tensor = sum_of_products(b, &[&left, &right], &kept, sum_type(dtype));
            left = Labelled { tensor, labels: kept };
        }
        Ok(vec![left.tensor])
    }
}

/// The type that products are summed in; the low bits of sums do not depend on those above.
fn sum_type(dtype: DType) -> DType {
    if dtype.is_int() && dtype.bits() < 32 { DType::I32 } else { wide(dtype) }
}

/// A tensor with the label of each axis.
#[derive(Clone, Debug)]
struct Labelled {
    tensor: TensorId,
    labels: Vec<Label>,
}

/// Sums over the labels that are not `needed`, where that makes the operand smaller.
fn sum_first(b: &mut expr::Builder, x: Labelled, needed: impl Fn(Label) -> bool) -> Labelled {
    let dims = b.dims(x.tensor);
    if !x.labels.iter().zip(dims).any(|(&l, &d)| !needed(l) && d != 1) {
        return x;
    }
    let mut kept: Vec<Label> = vec![];
    for &l in &x.labels {
        if needed(l) && !kept.contains(&l) {
            kept.push(l);
        }
    }
    let dtype = sum_type(b.dtype(x.tensor));
    Labelled { tensor: sum_of_products(b, &[&x], &kept, dtype), labels: kept }
}

/// One stage: the product of one or two operands, summed over the labels that `output` lacks.
fn sum_of_products(b: &mut expr::Builder, operands: &[&Labelled], output: &[Label], dtype: DType) -> TensorId {
    let mut extents: BTreeMap<Label, usize> = BTreeMap::new();
    let mut summed: Vec<Label> = vec![];
    for o in operands {
        for (&l, &d) in o.labels.iter().zip(b.dims(o.tensor)) {
            let known = extents.entry(l).or_insert(d);
            if *known == 1 {
                *known = d;
            }
            if !output.contains(&l) && !summed.contains(&l) {
                summed.push(l);
            }
        }
    }
    summed.retain(|l| extents[l] != 1);
    let dims: Vec<usize> = output.iter().map(|l| extents[l]).collect();
    let reduce: Vec<usize> = summed.iter().map(|l| extents[l]).collect();
    let product = |b: &expr::Builder, at: &[Affine], over: &[Affine]| {
        let place = |l: Label| -> Affine {
            let find = |labels: &[Label]| labels.iter().position(|&m| m == l);
            find(output).map(|i| at[i].clone()).or_else(|| find(&summed).map(|i| over[i].clone())).unwrap_or_default()
        };
        let load = |o: &Labelled| -> Expr {
            let index = o.labels.iter().zip(b.dims(o.tensor)).map(|(&l, &d)| if d == 1 { Affine::default() } else { place(l) });
            b.load(o.tensor, index).cast(sum_type(b.dtype(o.tensor)))
        };
        operands.iter().map(|o| load(o)).reduce(|a, b| a * b).expect("an operand")
    };
    if reduce.is_empty() {
        return b.compute(&dims, |b, at| product(b, at, &[]).cast(dtype));
    }
    b.reduce(ReduceOp::Sum, &dims, &reduce, product, |_, _, sum| sum.cast(dtype))
}

fn sum<T: Number>(equation: &Equation, extents: &BTreeMap<Label, usize>, x: &Operands) -> Tensor {
    let summed: Vec<Label> = extents.keys().copied().filter(|l| !equation.output.contains(l)).collect();
    let dims_of = |labels: &[Label]| labels.iter().map(|l| extents[l]).collect::<Vec<usize>>();
    let values: Vec<Vec<T>> = (0..x.len()).map(|i| T::read(x.tensor(i))).collect();
    // Stride of every operand along the given labels; repeated ones add up, broadcast ones are 0.
    let strides = |labels: &[Label]| -> Vec<Vec<usize>> {
        let of = |i: usize, label: Label| -> usize {
            let dims = x.tensor(i).dims();
            let axes = equation.operands[i].iter().zip(row_major_strides(dims)).zip(dims);
            axes.filter(|((l, _), d)| **l == label && **d != 1).map(|((_, s), _)| s).sum()
        };
        (0..x.len()).map(|i| labels.iter().map(|&l| of(i, l)).collect()).collect()
    };
    let offsets = |labels: &[Label]| -> Vec<Vec<usize>> {
        let strides = strides(labels);
        let mut offsets = vec![vec![]; x.len()];
        for_each_index(&dims_of(labels), |_, at| {
            offsets.iter_mut().zip(&strides).for_each(|(o, s)| o.push(at.iter().zip(s).map(|(a, s)| a * s).sum()));
        });
        offsets
    };
    let (outer, inner) = (offsets(&equation.output), offsets(&summed));
    let dims = dims_of(&equation.output);
    let term = |o: usize, k: usize| -> T {
        let value = |i: usize| values[i][outer[i][o] + inner[i][k]];
        (1..values.len()).fold(value(0), |p, i| p.times(value(i)))
    };
    let n = n_elements(&dims_of(&summed));
    let one = T::of(1.0);
    let out: Vec<T> = (0..n_elements(&dims)).map(|o| (0..n).fold(T::default(), |s, k| s.mul_add(term(o, k), one))).collect();
    T::tensor(x.tensor(0).dtype(), &dims, &out)
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, lowered, random, t};

    #[test]
    fn letters_run_together() {
        let m = || t("f32[2,2] 1 2 3 4");
        assert_eq!(check_op(r#"Einsum equation="ij,jk""#, [m(), m()])[0], t("f32[2,2] 7 10 15 22"));
        assert_eq!(check_op(r#"Einsum equation="ii->i""#, [m()])[0], t("f32[2] 1 4"));
        assert_eq!(check_op(r#"Einsum equation="ii""#, [m()])[0], t("f32[] 5"));
        assert_eq!(check_op(r#"Einsum equation="ij->ji""#, [m()])[0], t("f32[2,2] 1 3 2 4"));
        assert_eq!(check_op(r#"Einsum equation="...j->...""#, [m()])[0], t("f32[2] 3 7"));
    }

    #[test]
    fn all_forms_agree() {
        for (equation, dims) in [
            ("bij,bjk->bik", &["[2,3,4]", "[2,4,5]"][..]),
            ("...ij,...jk->...ik", &["[2,1,3,4]", "[5,4,2]"]),
            ("a...,b...->ab...", &["[2,4]", "[3,4]"]),
            ("i...->...i", &["[2,3,4]"]),
            ("i,i->", &["[4]", "[4]"]),
            ("ba,cd->a", &["[2,3]", "[4,5]"]),
            ("iji->j", &["[3,2,3]"]),
            ("ab,bc,ac->b", &["[2,3]", "[3,4]", "[2,4]"]),
            ("ij,jk,kl,lm->im", &["[2,3]", "[3,4]", "[4,2]", "[2,3]"]),
            ("ij,ij->ij", &["[2,3]", "[1,3]"]),
            ("bii,bi->b", &["[2,3,3]", "[2,3]"]),
            (",i->i", &["[]", "[3]"]),
        ] {
            for dtype in ["f32", "f16", "i32", "u8", "i16"] {
                check_op(&format!("Einsum equation=\"{equation}\""), dims.iter().map(|d| random(&format!("{dtype}{d}"), d.len() as u64)));
            }
        }
    }

    #[test]
    fn a_pair_of_operands_is_one_contraction() {
        insta::assert_snapshot!(lowered(r#"Einsum equation="bqd,bkd->bqk""#, &["f32[2,3,4]", "f32[2,5,4]"]), @r"
        program(%x0: f32[2,3,4], %x1: f32[2,5,4]) -> (%y) {
          %y[i0,i1,i2] = reduce sum over r0 in 0..4: %x0[i0,i1,r0] * %x1[i0,i2,r0] : f32[2,3,5]
        }
        ");
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        let error = |e: &str, x: &[&str]| check_error(&format!("Einsum equation=\"{e}\""), x.iter().map(|x| t(x)));
        assert_eq!(error("ij,jk", &["f32[2,2]"]), "`equation` is `ij,jk`: 2 terms for 1 operands");
        assert_eq!(error("i", &["f32[2,2]"]), "`equation` is `i`: term `i` for an operand of rank 2");
        assert_eq!(error("ij->ik", &["f32[2,2]"]), "`equation` is `ij->ik`: `k` is in no operand");
        assert_eq!(error("ij->ii", &["f32[2,2]"]), "`equation` is `ij->ii`: `i` is repeated in the output");
        assert_eq!(error("i1->i", &["f32[2,2]"]), "`equation` is `i1->i`: unexpected `1`");
        assert_eq!(error("ij,jk", &["f32[2,3]", "f32[4,2]"]), "operand 1 has extent 4 where another has 3 for the same letter");
    }
}
