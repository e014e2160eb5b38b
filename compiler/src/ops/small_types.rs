//! Conversions of the small element types as expressions: codes by tables of values, and back by search among thresholds.

use crate::expr::{BinaryOp, Builder, CompareOp, Expr, Ix, TensorId, UnaryOp};
use crate::tensor::{DType, SmallFloat, Tensor};

/// Stored elements to numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decoder {
    /// Stored as they are.
    Plain,
    /// By code, `f32`.
    Table(TensorId),
}

impl Decoder {
    /// For elements of this type.
    pub(super) fn new(b: &mut Builder, dtype: DType) -> Decoder {
        match SmallFloat::new(dtype, true, "up") {
            // Codes are bytes, and what is in the other bits is not looked at.
            Some(f) => {
                let values: Vec<f32> = (0..256).map(|code| f.values[code % f.values.len()] as f32).collect();
                Decoder::Table(b.constant("values", Tensor::from_slice(&[256], &values)))
            }
            None => Decoder::Plain,
        }
    }

    /// The number that a stored element is: `f32`, or the element itself.
    pub(super) fn apply(self, b: &Builder, stored: &Expr) -> Expr {
        match self {
            Decoder::Plain => stored.clone(),
            Decoder::Table(t) => b.load(t, [Ix::Clamped(stored.cast(DType::I64))]),
        }
    }
}

/// Numbers to stored elements.
#[derive(Clone, Debug)]
pub(super) enum Encoder {
    /// By conversion.
    Plain(DType),
    /// Small integers: the low bits, extended by the sign or zeros.
    Wrap(DType),
    /// By search in thresholds, as many as a power of two minus one.
    Search(SmallFloat, TensorId),
}

impl Encoder {
    /// For elements of this type.
    pub(super) fn new(b: &mut Builder, dtype: DType, saturate: bool, round: &str) -> Encoder {
        match SmallFloat::new(dtype, saturate, round) {
            Some(f) => {
                let mut table: Vec<f32> = f.thresholds.iter().map(|&t| t as f32).collect();
                table.resize((table.len() + 1).next_power_of_two() - 1, f32::INFINITY);
                let table = b.constant("thresholds", Tensor::from_slice(&[table.len()], &table));
                Encoder::Search(f, table)
            }
            None if dtype.is_small() => Encoder::Wrap(dtype),
            None => Encoder::Plain(dtype),
        }
    }

    /// The stored element of a number.
    pub(super) fn apply(&self, b: &Builder, x: &Expr) -> Expr {
        match self {
            Encoder::Plain(dtype) => x.cast(*dtype),
            Encoder::Wrap(dtype) => {
                let (stored, spare) = (dtype.storage(), 8 - dtype.packed_bits());
                let wide = if x.dtype().is_float() { x.cast(DType::I32).cast(stored) } else { x.cast(stored) };
                let by = wide.like(spare.into());
                wide.binary(BinaryOp::Shl, &by).binary(BinaryOp::Shr, &by)
            }
            Encoder::Search(f, table) => search(b, f, *table, &x.cast(DType::F32)),
        }
    }
}

fn search(b: &Builder, f: &SmallFloat, table: TensorId, x: &Expr) -> Expr {
    let magnitude = x.unary(UnaryOp::Abs);
    let int = |n: i64| Expr::int(DType::I64, n);
    let n = b.dims(table)[0];
    let mut code = int(0);
    let mut step = n.div_ceil(2) as i64;
    while step > 0 {
        let threshold = b.load(table, [Ix::Clamped(code.binary(BinaryOp::Add, &int(step - 1)))]);
        let next = code.binary(BinaryOp::Add, &int(step));
        code = magnitude.compare(CompareOp::Gt, &threshold).select(&next, &code);
        step /= 2;
    }
    let u8 = |n: u8| Expr::int(DType::U8, n.into());
    let plain = code.cast(DType::U8);
    let zero = x.like(0.0);
    let below = x.compare(CompareOp::Lt, &zero);
    let y = if f.sign == 0 {
        below.select(&u8(f.nan), &plain)
    } else {
        // Minus zero is the zero whose inverse is negative.
        let inverse = (x.like(1.0) / x.clone()).compare(CompareOp::Lt, &zero);
        let minus_zero = x.compare(CompareOp::Eq, &zero).binary(BinaryOp::And, &inverse);
        let negative = below.binary(BinaryOp::Or, &minus_zero);
        let signed = negative.select(&plain.binary(BinaryOp::Or, &u8(f.sign)), &plain);
        let beyond = code.compare(CompareOp::Ge, &int(f.sign.into()));
        let y = beyond.select(&u8(f.nan), &signed);
        if f.one_zero { code.compare(CompareOp::Eq, &int(0)).select(&u8(0), &y) } else { y }
    };
    x.compare(CompareOp::Ne, x).select(&u8(f.nan), &y)
}
