//! `TfIdfVectorizer`: how often given sequences of numbers occur.
//! Spec: <https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html>

use std::collections::BTreeMap;

use crate::expr::{self, BinaryOp, CompareOp, Expr, Ix, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, n_elements};

operator! {
    /// `y[b,ngram_indexes[g]]` counts in the row `x[b]` the n-gram `g` of the pool, also with equal gaps of up to
    /// `max_skip_count` elements; `IDF` gives the weight of what occurs, `TFIDF` the product of count and weight.
    ///
    /// `x: T[c]` or `T[b,c]` of integers -> `y: f32` with as many elements in a row as the greatest index plus one.
    TfIdfVectorizer(x) -> (y) since [9];
    /// Length of the longest n-grams that count.
    max_gram_length: i64,
    /// Greatest number of elements left out between two of an n-gram.
    max_skip_count: i64,
    /// Length of the shortest n-grams that count.
    min_gram_length: i64,
    /// `TF`, `IDF` or `TFIDF`.
    mode: String,
    /// Where the n-grams of length 1, 2, and so on begin in the pool.
    ngram_counts: Vec<i64>,
    /// Where the count of each n-gram goes.
    ngram_indexes: Vec<i64>,
    /// The n-grams, one after the other.
    pool_int64s: Vec<i64> = Vec::<i64>::new(),
    /// Not supported.
    pool_strings: Vec<String> = Vec::<String>::new(),
    /// Of each place of a row; all 1 by default.
    weights: Vec<f32> = Vec::<f32>::new(),
}

/// The n-grams that count, and where each count goes.
struct Grams {
    list: Vec<(Vec<i64>, usize)>,
    /// Elements of a row of the result.
    row: usize,
    /// Greatest distance of neighbours.
    steps: usize,
}

/// Greatest sizes.
const MAX_LENGTH: i64 = 64;
const MAX_ELEMENTS: usize = 1 << 28;

impl TfIdfVectorizer {
    fn grams(&self) -> Result<Grams, InferError> {
        let invalid = |what: String| Err(InferError::Invalid(what));
        if !self.pool_strings.is_empty() {
            return Err(InferError::Unsupported("a pool of strings is not supported".to_owned()));
        }
        if !matches!(&self.mode[..], "TF" | "IDF" | "TFIDF") {
            return invalid(format!("`mode` is `{}`", self.mode));
        }
        let (least, most) = (self.min_gram_length, self.max_gram_length);
        if !(1..=most).contains(&least) || most > MAX_LENGTH || !(0..=1 << 16).contains(&self.max_skip_count) {
            return invalid(format!("n-grams of lengths from {least} to {most}, {} elements left out", self.max_skip_count));
        }
        let row = self.ngram_indexes.iter().max().map_or(0, |&i| i + 1);
        if self.ngram_indexes.iter().any(|&i| !(0..=i64::from(i32::MAX)).contains(&i)) || row == 0 {
            return invalid("`ngram_indexes` is empty, or has an index out of range".to_owned());
        }
        if !self.weights.is_empty() && self.weights.len() as i64 != row {
            return invalid(format!("{} weights for {row} places", self.weights.len()));
        }
        // The last of equal n-grams counts.
        let mut found: BTreeMap<Vec<i64>, usize> = BTreeMap::new();
        let mut number = 0;
        for (i, &from) in self.ngram_counts.iter().enumerate() {
            let to = self.ngram_counts.get(i + 1).copied().unwrap_or(self.pool_int64s.len() as i64);
            let part = usize::try_from(from).ok().zip(usize::try_from(to).ok()).and_then(|(from, to)| self.pool_int64s.get(from..to));
            let Some(part) = part.filter(|p| p.len().is_multiple_of(i + 1)) else {
                return invalid(format!("n-grams of length {} from {from} to {to} of a pool of {}", i + 1, self.pool_int64s.len()));
            };
            for gram in part.chunks_exact(i + 1) {
                let Some(&place) = self.ngram_indexes.get(number) else {
                    return invalid(format!("{} indices for more n-grams", self.ngram_indexes.len()));
                };
                number += 1;
                if (least..=most).contains(&(gram.len() as i64)) {
                    found.insert(gram.to_vec(), place as usize);
                }
            }
        }
        Ok(Grams { list: found.into_iter().collect(), row: row as usize, steps: self.max_skip_count as usize + 1 })
    }

    /// The result from the count at a place.
    fn weighted(&self, count: f64, place: usize) -> f64 {
        let weight = self.weights.get(place).map_or(1.0, |&w| w.into());
        match &self.mode[..] {
            "TF" => count,
            "IDF" => f64::from(u8::from(count > 0.0)) * weight,
            _ => count * weight,
        }
    }
}

/// Rows, and elements in each.
fn rows(dims: &[usize]) -> (usize, usize) {
    if let [rows, columns] = *dims { (rows, columns) } else { (1, n_elements(dims)) }
}

impl Operator for TfIdfVectorizer {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, &[DType::I32, DType::I64])?;
        let grams = self.grams()?;
        let dims = x.dims(0)?;
        if !(1..=2).contains(&dims.len()) {
            return Err(InferError::Invalid(format!("rows of {}", x.ty(0)?)));
        }
        let (rows, columns) = rows(&dims);
        let sizes = [rows, grams.list.len(), columns, grams.steps];
        if sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(InferError::Unsupported(format!("{} n-grams in rows {}", grams.list.len(), x.ty(0)?)));
        }
        let front = &dims[..dims.len() - 1];
        Ok(vec![Type::fixed(DType::F32, &[front, &[grams.row]].concat())])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let grams = self.grams().map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (dims, values) = (x.tensor(0).dims(), x.tensor(0).to_ints());
        let (rows, columns) = rows(dims);
        let mut out = vec![0.0; rows * grams.row];
        for row in 0..rows {
            let values = &values[row * columns..][..columns];
            for (gram, place) in &grams.list {
                let steps = if gram.len() == 1 { 1 } else { grams.steps };
                for (step, from) in (1..=steps).flat_map(|step| (0..columns).map(move |from| (step, from))) {
                    let found = gram.iter().enumerate().all(|(k, &g)| values.get(from + k * step) == Some(&g.into()));
                    out[row * grams.row + place] += f64::from(u8::from(found));
                }
            }
        }
        out.iter_mut().enumerate().for_each(|(i, y)| *y = self.weighted(*y, i % grams.row));
        Ok(vec![Tensor::from_f64s(DType::F32, &[&dims[..dims.len() - 1], &[grams.row]].concat(), &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (grams, dims) = (self.grams()?, x.dims(0));
        let (rows, columns) = rows(&dims);
        let input = b.reshape(x.tensor(0), &[rows, columns]);
        let n = grams.list.len();
        let truth = |is: bool| Expr::int(DType::Bool, is.into());
        let hits = if n == 0 || columns == 0 {
            b.compute(&[rows, n.max(1)], |_, _| Expr::constant(DType::F32, 0.0))
        } else {
            let length = grams.list.iter().map(|(g, _)| g.len()).max().expect("an n-gram");
            let padded: Vec<i64> = grams.list.iter().flat_map(|(g, _)| (0..length).map(|k| g.get(k).copied().unwrap_or(0))).collect();
            let lengths: Vec<i64> = grams.list.iter().map(|(g, _)| g.len() as i64).collect();
            let (table, lengths) =
                (b.constant("grams", Tensor::from_slice(&[n, length], &padded)), b.constant("lengths", Tensor::from_slice(&[n], &lengths)));
            b.reduce(
                ReduceOp::Sum,
                &[rows, n],
                &[grams.steps, columns],
                |b, at, over| {
                    let int = |n: i64| Expr::int(DType::I64, n);
                    let long = b.load(lengths, [at[1].clone()]);
                    // Single elements have no gaps.
                    let first = Expr::index(&over[0]).compare(CompareOp::Eq, &int(0));
                    let mut found = long.compare(CompareOp::Gt, &int(1)).binary(BinaryOp::Or, &first);
                    for k in 0..length as i64 {
                        let from = over[1].plus(&over[0].times(k)).offset(k);
                        let inside = Expr::index(&from).compare(CompareOp::Lt, &int(columns as i64));
                        let value = b.load(input, [Ix::from(&at[0]), Ix::Clamped(Expr::index(&from))]).cast(DType::I64);
                        let same = value.compare(CompareOp::Eq, &b.load(table, [at[1].clone(), expr::Affine::constant(k)]));
                        let beyond = long.compare(CompareOp::Le, &int(k));
                        let here = inside.binary(BinaryOp::And, &same).binary(BinaryOp::Or, &beyond);
                        found = found.binary(BinaryOp::And, &here);
                    }
                    found.cast(DType::F32)
                },
                |_, _, sum| sum,
            )
        };

        let weights: Vec<f32> = (0..grams.row).map(|i| self.weights.get(i).copied().unwrap_or(1.0)).collect();
        let weights = b.constant("weights", Tensor::from_slice(&[grams.row], &weights));
        let weighted = |b: &expr::Builder, at: &expr::Affine, count: Expr| match &self.mode[..] {
            "TF" => count,
            mode => {
                let weight = b.load(weights, [at.clone()]);
                let is_idf = truth(mode == "IDF");
                let once = count.compare(CompareOp::Gt, &count.like(0.0)).cast(DType::F32);
                is_idf.select(&once, &count) * weight
            }
        };
        // The n-gram of each place, where none has two.
        let mut owner = vec![-1i64; grams.row];
        let shared = grams.list.iter().enumerate().any(|(g, (_, place))| std::mem::replace(&mut owner[*place], g as i64) >= 0);
        let y = if shared {
            let places: Vec<i64> = grams.list.iter().map(|(_, place)| *place as i64).collect();
            let places = b.constant("places", Tensor::from_slice(&[n], &places));
            b.reduce(
                ReduceOp::Sum,
                &[rows, grams.row],
                &[n],
                |b, at, over| {
                    let count = b.load(hits, [at[0].clone(), over[0].clone()]);
                    let here = b.load(places, [over[0].clone()]).compare(CompareOp::Eq, &Expr::index(&at[1]));
                    here.select(&count, &count.like(0.0))
                },
                |b, at, count| weighted(b, &at[1], count),
            )
        } else {
            let owner = b.constant("owner", Tensor::from_slice(&[grams.row], &owner));
            b.compute(&[rows, grams.row], |b, at| {
                let g = b.load(owner, [at[1].clone()]);
                let none = g.compare(CompareOp::Lt, &Expr::int(DType::I64, 0));
                let count = b.load(hits, [Ix::from(&at[0]), Ix::Clamped(g)]);
                weighted(b, &at[1], none.select(&count.like(0.0), &count))
            })
        };
        Ok(vec![b.reshape(y, &x.result_dims(0))])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    const POOL: &str = "pool_int64s=[2,3,5,4,5,6,7,8,6,7] ngram_counts=[0,4]";

    #[test]
    fn counts() {
        let op = |rest: &str| format!("TfIdfVectorizer {POOL} ngram_indexes=[0,1,2,3,4,5,6] {rest}");
        let x = || [t("i32[12] 1 1 3 3 3 7 8 6 7 5 6 8")];
        let y = check_op(&op("min_gram_length=1 max_gram_length=2 max_skip_count=0 mode=\"TF\""), x());
        assert_eq!(y, [t("f32[7] 0 3 1 0 1 1 1")]);
        let y = check_op(&op("min_gram_length=2 max_gram_length=2 max_skip_count=5 mode=\"TF\""), x());
        assert_eq!(y, [t("f32[7] 0 0 0 0 1 3 1")]);
        let weights = "weights=[1.,2.,3.,4.,5.,6.,7.]";
        let y = check_op(&op(&format!("min_gram_length=1 max_gram_length=2 max_skip_count=5 mode=\"IDF\" {weights}")), x());
        assert_eq!(y, [t("f32[7] 0 2 3 0 5 6 7")]);
        let y = check_op(&op(&format!("min_gram_length=1 max_gram_length=1 max_skip_count=5 mode=\"TFIDF\" {weights}")), x());
        assert_eq!(y, [t("f32[7] 0 6 3 0 0 0 0")]);
        let y = check_op(&op("min_gram_length=1 max_gram_length=2 max_skip_count=1 mode=\"TF\""), [t("i64[2,3] 2 3 5 5 6 5")]);
        assert_eq!(y, [t("f32[2,7] 1 1 1 0 0 0 0  0 0 2 0 1 0 0")]);
    }

    #[test]
    fn places_can_be_shared() {
        let op = format!(
            "TfIdfVectorizer {POOL} ngram_indexes=[0,1,1,3,4,4,0] min_gram_length=1 max_gram_length=2 max_skip_count=2 mode=\"TF\""
        );
        let y = check_op(&op, [t("i64[2,6] 2 3 5 6 7 9 6 7 8 5 5 6")]);
        assert_eq!(y, [t("f32[2,5] 2 2 0 0 1  1 2 0 0 3")]);
    }

    #[test]
    fn what_is_wrong_is_an_error() {
        let op = "TfIdfVectorizer ngram_counts=[0] ngram_indexes=[0] min_gram_length=1 max_gram_length=1 max_skip_count=0 mode=\"TF\"";
        assert_eq!(check_error(&format!("{op} pool_strings=[\"a\"]"), [t("i64[3]")]), "a pool of strings is not supported");
        assert_eq!(check_error(&format!("{op} pool_int64s=[1,2]"), [t("i64[3]")]), "1 indices for more n-grams");
    }
}
