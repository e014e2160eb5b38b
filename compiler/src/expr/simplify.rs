//! Simpler expressions with the same value, bit for bit: what no rounding, NaN or zero's sign can tell apart.
//!
//! Operations on constants are computed (functions, which machine code approximates, are not), `x * 1`, `x / 1`, `x - 0`
//! and `x + -0` are `x` (but `x + 0` is not, for `-0`), double negation and conversions that lose nothing go, and selects
//! of known conditions or equal branches are decided. Nothing is reassociated.

use super::scalar::{self, Word};
use super::{BinaryOp, CompareOp, Const, Expr, Item, Ix, Node, Program, UnaryOp};
use crate::tensor::{DType, is_power_of_two};

/// What positions stay below, so that none leaves `i64` or wraps where it did not.
const MAX_POSITION: u64 = 1 << 40;

/// Simplifies every expression of the program.
pub fn simplify(program: &mut Program) {
    items(&mut program.items);
}

fn items(list: &mut [Item]) {
    for item in list {
        match item {
            Item::Stage(stage) => stage.body = stage.body.map(simplified),
            Item::Repeat { items: list, .. } => items(list),
            Item::Reshape { .. } => {}
        }
    }
}

/// The expression, simplified.
pub fn simplified(e: &Expr) -> Expr {
    e.rewrite(&mut |e| step(&e).unwrap_or(e))
}

/// A simpler expression, if there is one; operands are simple already.
fn step(e: &Expr) -> Option<Expr> {
    let dtype = e.dtype();
    match e.node() {
        Node::Unary(op, a) => {
            if let Some(x) = value(a).filter(|_| is_exact(*op)) {
                return Some(constant(dtype, scalar::unary(*op, dtype, x)));
            }
            match (op, a.node()) {
                (UnaryOp::Neg, Node::Unary(UnaryOp::Neg, x)) | (UnaryOp::Not, Node::Unary(UnaryOp::Not, x)) => Some(x.clone()),
                (UnaryOp::Abs, Node::Unary(UnaryOp::Neg | UnaryOp::Abs, x)) => Some(x.unary(UnaryOp::Abs)),
                (UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round, Node::Unary(UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round, _)) => {
                    Some(a.clone())
                }
                (UnaryOp::Not, Node::Compare(op, x, y)) => negated(*op, x.dtype()).map(|op| x.compare(op, y)),
                _ => None,
            }
        }
        Node::Binary(op, a, b) => binary(*op, dtype, a, b),
        Node::Compare(op, a, b) => match (value(a), value(b)) {
            (Some(x), Some(y)) => Some(truth(scalar::compare(*op, a.dtype(), x, y))),
            _ if a == b && !a.dtype().is_float() => Some(truth(matches!(op, CompareOp::Eq | CompareOp::Le | CompareOp::Ge))),
            _ => None,
        },
        Node::Select(c, a, b) => match value(c) {
            Some(c) => Some(if c != 0 { a.clone() } else { b.clone() }),
            None if a == b => Some(a.clone()),
            None => match c.node() {
                Node::Unary(UnaryOp::Not, c) => Some(c.select(b, a)),
                _ => None,
            },
        },
        Node::Cast(a) => cast(dtype, a),
        Node::Bits(a) => value(a).map(|x| constant(dtype, scalar::bits(a.dtype(), dtype, x))),
        Node::Load { tensor, index, pad } => {
            let plain: Vec<Ix> = index
                .iter()
                .map(|ix| match ix {
                    // A known or linear index; if it is outside, the program stops only when it runs.
                    Ix::Checked(e) if pad.is_some() => affine(e).unwrap_or_else(|| ix.clone()),
                    _ => ix.clone(),
                })
                .collect();
            (plain != *index).then(|| Expr::new(Node::Load { tensor: *tensor, index: plain, pad: pad.clone() }, dtype))
        }
        Node::Const(_) | Node::Size(_) | Node::Index(_) | Node::Acc => None,
    }
}

fn affine(e: &Expr) -> Option<Ix> {
    match e.node() {
        Node::Index(a) => Some(Ix::Affine(a.clone())),
        Node::Const(Const::Int(x)) => Some(Ix::from(*x)),
        _ => None,
    }
}

fn binary(op: BinaryOp, dtype: DType, a: &Expr, b: &Expr) -> Option<Expr> {
    let (x, y) = (value(a), value(b));
    if let (Some(x), Some(y)) = (x, y)
        && op != BinaryOp::Pow
    {
        return Some(constant(dtype, scalar::binary(op, dtype, x, y)));
    }
    let is = |v: Option<Word>, c: f64| v == Some(word(dtype, c));
    let float = dtype.is_float();
    let all = if dtype == DType::Bool { 1 } else { scalar::int(dtype, -1) };
    match op {
        // The sum of -0 and 0 is 0: only -0 changes nothing.
        BinaryOp::Add if is(y, if float { -0.0 } else { 0.0 }) => Some(a.clone()),
        BinaryOp::Add if is(x, if float { -0.0 } else { 0.0 }) => Some(b.clone()),
        BinaryOp::Sub if is(y, 0.0) => Some(a.clone()),
        BinaryOp::Mul | BinaryOp::Div if is(y, 1.0) => Some(a.clone()),
        BinaryOp::Mul if is(x, 1.0) => Some(b.clone()),
        BinaryOp::Mul if !float && (is(x, 0.0) || is(y, 0.0)) => Some(a.like(0.0)),
        BinaryOp::Pow if is(y, 1.0) => Some(a.clone()),
        BinaryOp::Div if float => exact_reciprocal(dtype, y?).map(|r| a.binary(BinaryOp::Mul, &r)),
        BinaryOp::And if y == Some(all) => Some(a.clone()),
        BinaryOp::And if x == Some(all) => Some(b.clone()),
        BinaryOp::And if x == Some(0) || y == Some(0) => Some(Expr::int(dtype, 0)),
        BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr if y == Some(0) => Some(a.clone()),
        BinaryOp::Or | BinaryOp::Xor if x == Some(0) => Some(b.clone()),
        BinaryOp::Add | BinaryOp::Sub => moved_index(op, a, b),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Min | BinaryOp::Max if a == b => Some(a.clone()),
        _ => None,
    }
}

/// A position and a constant added, or less one, as a position.
fn moved_index(op: BinaryOp, a: &Expr, b: &Expr) -> Option<Expr> {
    let (place, by) = match (a.node(), b.node()) {
        (Node::Index(place), Node::Const(Const::Int(by))) => (place, if op == BinaryOp::Sub { by.checked_neg()? } else { *by }),
        (Node::Const(Const::Int(by)), Node::Index(place)) if op == BinaryOp::Add => (place, *by),
        _ => return None,
    };
    let fits = place.constant.checked_add(by).is_some_and(|c| c.unsigned_abs() < MAX_POSITION);
    fits.then(|| Expr::index(&place.offset(by)))
}

/// `1 / x` where it is exact: a power of two whose reciprocal is a normal number.
fn exact_reciprocal(dtype: DType, x: Word) -> Option<Expr> {
    if !matches!(dtype, DType::F32 | DType::F64) {
        return None;
    }
    let x = f64::from_bits(x);
    let limit = if dtype == DType::F32 { 2f64.powi(126) } else { 2f64.powi(1022) };
    let is_exact = is_power_of_two(x) && x.abs() >= 1.0 / limit && x.abs() <= limit;
    is_exact.then(|| Expr::constant(dtype, 1.0 / x))
}

fn cast(to: DType, a: &Expr) -> Option<Expr> {
    if to == a.dtype() {
        return Some(a.clone());
    }
    if let Some(x) = value(a) {
        return Some(constant(to, scalar::cast(a.dtype(), to, x)));
    }
    let Node::Cast(inner) = a.node() else { return None };
    let (from, by) = (inner.dtype(), a.dtype());
    // Integers keep their low bits through any wider or equal type.
    let low_bits = from.is_int() && by.is_int() && to.is_int() && to.bits() <= by.bits();
    // From float to integer saturates, which integers do not.
    let saturates = by.is_float() && !from.is_float() && to.is_int() && !holds(to, from);
    (holds(by, from) && !saturates || low_bits).then(|| inner.cast(to))
}

/// Whether every value of `from` is one of `by`.
fn holds(by: DType, from: DType) -> bool {
    let mantissa = |d: DType| match d {
        DType::F16 => 11,
        DType::BF16 => 8,
        DType::F32 => 24,
        _ => 53,
    };
    match (from, by) {
        (DType::Bool, by) => by != DType::Bool,
        (DType::F16, DType::F32 | DType::F64) | (DType::BF16, DType::F32 | DType::F64) | (DType::F32, DType::F64) => true,
        _ if from.is_int() && by.is_int() => {
            let bits = |d: DType| d.bits() - u32::from(d.is_signed());
            bits(by) >= bits(from) && (by.is_signed() || !from.is_signed())
        }
        // The range suffices too: 11 bits of `f16` reach 2048, 8 bits of `bf16` far more than 256.
        _ if from.is_int() && by.is_float() => from.bits() - u32::from(from.is_signed()) <= mantissa(by),
        _ => false,
    }
}

/// Whether machine code gives exactly what is computed here.
fn is_exact(op: UnaryOp) -> bool {
    matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sqrt | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Not)
}

fn negated(op: CompareOp, dtype: DType) -> Option<CompareOp> {
    match op {
        CompareOp::Eq => Some(CompareOp::Ne),
        CompareOp::Ne => Some(CompareOp::Eq),
        // With NaN all four are false.
        _ if dtype.is_float() => None,
        CompareOp::Lt => Some(CompareOp::Ge),
        CompareOp::Le => Some(CompareOp::Gt),
        CompareOp::Gt => Some(CompareOp::Le),
        CompareOp::Ge => Some(CompareOp::Lt),
    }
}

fn value(e: &Expr) -> Option<Word> {
    match e.node() {
        Node::Const(Const::Float(x)) => Some(x.to_bits()),
        Node::Const(Const::Int(x)) => Some(scalar::int(e.dtype(), *x)),
        _ => None,
    }
}

fn word(dtype: DType, x: f64) -> Word {
    if dtype.is_float() { x.to_bits() } else { scalar::int(dtype, x as i64) }
}

fn constant(dtype: DType, x: Word) -> Expr {
    let value = if dtype.is_float() { Const::Float(f64::from_bits(x)) } else { Const::Int(x as i64) };
    Expr::new(Node::Const(value), dtype)
}

fn truth(x: bool) -> Expr {
    Expr::int(DType::Bool, i64::from(x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Builder, eval};
    use crate::tensor::Tensor;

    /// The simplified expression of `x`, as text; checked to have the same bits on special values.
    fn text(dtype: DType, f: impl Fn(&Expr) -> Expr) -> String {
        let values = [0.0, -0.0, 1.0, -1.0, 0.5, 3.7, -3.7, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-40, 300.0];
        let mut b = Builder::new();
        let x = b.operand("x", dtype, &[values.len()]);
        let y = b.compute(&[values.len()], |b, at| f(&b.load(x, at)));
        let program = b.finish(&[y]);
        let mut simple = program.clone();
        simplify(&mut simple);
        let x = Tensor::from_f64s(dtype, &[values.len()], &values);
        let run = |p: &Program| eval(p, std::slice::from_ref(&x)).unwrap();
        assert_eq!(run(&program), run(&simple), "{program}{simple}");
        let Item::Stage(stage) = &simple.items[0] else { unreachable!() };
        let text = simple.stage_text(stage);
        text.split(" = ").nth(1).unwrap().split(" : ").next().unwrap().to_owned()
    }

    fn f32s(f: impl Fn(&Expr) -> Expr) -> String {
        text(DType::F32, f)
    }

    #[test]
    fn neutral_operands() {
        assert_eq!(f32s(|x| x * 1.0), "%x[i0]");
        assert_eq!(f32s(|x| x.like(1.0) * x.clone()), "%x[i0]");
        assert_eq!(f32s(|x| x / 1.0), "%x[i0]");
        assert_eq!(f32s(|x| x - 0.0), "%x[i0]");
        assert_eq!(f32s(|x| x + -0.0), "%x[i0]");
        assert_eq!(f32s(|x| x + 0.0), "%x[i0] + 0");
        assert_eq!(f32s(|x| x - -0.0), "%x[i0] - -0");
        assert_eq!(f32s(|x| x * 0.0), "%x[i0] * 0");
        assert_eq!(text(DType::I32, |x| x + 0.0), "%x[i0]");
        assert_eq!(text(DType::I32, |x| x * 0.0), "0i32");
        assert_eq!(text(DType::U8, |x| x.binary(BinaryOp::And, &x.like(255.0))), "%x[i0]");
    }

    #[test]
    fn constants() {
        assert_eq!(f32s(|x| x * &(x.like(2.0) + 0.1)), "%x[i0] * 2.1");
        assert_eq!(f32s(|x| x + &x.like(4.0).unary(UnaryOp::Sqrt)), "%x[i0] + 2");
        assert_eq!(f32s(|x| x + &x.like(1.0).unary(UnaryOp::Exp)), "%x[i0] + exp(1)");
        assert_eq!(text(DType::U8, |x| x + &(x.like(200.0) + 100.0)), "%x[i0] + 44u8");
        assert_eq!(f32s(|x| x.like(1.0).compare(CompareOp::Lt, &x.like(2.0)).select(x, &x.like(0.0))), "%x[i0]");
    }

    #[test]
    fn positions_move() {
        let at = || Expr::index(&crate::expr::Affine::axis(0));
        let by = |x: i64| Expr::int(DType::I64, x);
        let position = |e: &Expr| match simplified(e).node() {
            Node::Index(a) => Some((a.constant, a.terms.len())),
            _ => None,
        };
        assert_eq!(position(&(at() + by(3))), Some((3, 1)));
        assert_eq!(position(&(by(-2) + at())), Some((-2, 1)));
        assert_eq!(position(&(at() - by(5))), Some((-5, 1)));
        assert_eq!(position(&(by(5) - at())), None);
        // What would wrap stays as it is.
        assert_eq!(position(&(at() + by(i64::MAX))), None);
        assert_eq!(position(&(at() - by(i64::MIN))), None);
    }

    #[test]
    fn division_by_powers_of_two() {
        assert_eq!(f32s(|x| x / 4.0), "%x[i0] * 0.25");
        assert_eq!(f32s(|x| x / 3.0), "%x[i0] / 3");
        assert_eq!(f32s(|x| x / 0.0), "%x[i0] / 0");
        assert_eq!(text(DType::I32, |x| x / 4.0), "%x[i0] / 4i32");
    }

    #[test]
    fn selects_and_signs() {
        assert_eq!(f32s(|x| x.compare(CompareOp::Lt, &x.like(0.0)).select(x, x)), "%x[i0]");
        assert_eq!(f32s(|x| x.unary(UnaryOp::Neg).unary(UnaryOp::Neg)), "%x[i0]");
        assert_eq!(f32s(|x| x.unary(UnaryOp::Neg).unary(UnaryOp::Abs)), "abs(%x[i0])");
        assert_eq!(f32s(|x| x.unary(UnaryOp::Round).unary(UnaryOp::Floor)), "round(%x[i0])");
        let not_less = |x: &Expr| x.compare(CompareOp::Lt, &x.like(1.0)).unary(UnaryOp::Not);
        assert_eq!(f32s(|x| not_less(x).select(x, &x.like(7.0))), "select(%x[i0] < 1, 7, %x[i0])");
        assert_eq!(text(DType::I32, not_less), "%x[i0] >= 1i32");
        assert_eq!(text(DType::I32, |x| x.compare(CompareOp::Le, x)), "true");
        assert_eq!(f32s(|x| x.max_nan(x)), "%x[i0]");
    }

    #[test]
    fn casts() {
        assert_eq!(text(DType::F16, |x| x.cast(DType::F32).cast(DType::F16)), "%x[i0]");
        assert_eq!(f32s(|x| x.cast(DType::F64).cast(DType::F32)), "%x[i0]");
        assert_eq!(f32s(|x| x.cast(DType::F16).cast(DType::F32)), "f32(f16(%x[i0]))");
        assert_eq!(f32s(|x| x.cast(DType::I32).cast(DType::F32)), "f32(i32(%x[i0]))");
        assert_eq!(text(DType::I32, |x| x.cast(DType::I64).cast(DType::I32)), "%x[i0]");
        assert_eq!(text(DType::I32, |x| x.cast(DType::U64).cast(DType::I8)), "i8(%x[i0])");
        assert_eq!(text(DType::I32, |x| x.cast(DType::F32).cast(DType::I32)), "i32(f32(%x[i0]))");
        assert_eq!(text(DType::I16, |x| x.cast(DType::F32).cast(DType::I32)), "i32(%x[i0])");
        assert_eq!(text(DType::I16, |x| x.cast(DType::F32).cast(DType::I8)), "i8(f32(%x[i0]))");
        assert_eq!(text(DType::I8, |x| x.cast(DType::U8).cast(DType::I32)), "i32(u8(%x[i0]))");
        assert_eq!(text(DType::Bool, |x| x.cast(DType::F32).cast(DType::Bool)), "%x[i0]");
    }

    #[test]
    fn shared_parts_stay_shared() {
        let mut e = Expr::acc(DType::F32);
        for _ in 0..100 {
            e = &e * &(&e * 1.0 + 2.0);
        }
        let mut n = 0;
        simplified(&e).visit(&mut |_| n += 1);
        assert!(n <= 301, "{n}");
    }
}
