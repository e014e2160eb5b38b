//! Resized axes whose extents may be others: places and weights as functions of the extents, computed where an element is, instead of
//! tables of one extent. The numbers are those of [`super::taps`].

use super::taps::{AxisResize, Kind};
use crate::expr::{Affine, BinaryOp, Builder, CompareOp, Expr, Ix, TensorId, UnaryOp};
use crate::tensor::DType;

impl AxisResize<'_> {
    /// Whether [`lower_sampled`] has it.
    pub(super) fn at_any_extent(&self) -> bool {
        !self.antialias && !self.exclude_outside && self.coordinates != "tf_crop_and_resize"
    }

    /// The place in the operand, `f64`, of a result position.
    fn place(&self, position: &Affine) -> Expr {
        let x = Expr::index(position).cast(DType::F64);
        let n = Expr::extent(self.extent as i64).cast(DType::F64);
        let resized = Expr::extent(self.resized as i64).cast(DType::F64);
        let rounded = |e: Expr| match self.kind {
            Kind::Nearest(_) => e.cast(DType::F32).cast(DType::F64),
            _ => e,
        };
        let exact = if self.by_extents { &resized / &n } else { x.like(self.scale) };
        let scale = rounded(exact.clone());
        // The extent before it was rounded to a whole number.
        let wide = if self.by_extents { resized.clone() } else { &exact * &n };
        let centered = |e: Expr| rounded((e + 0.5) / scale.clone());
        let single = resized.compare(CompareOp::Le, &resized.like(1.0));
        let unless_single = |e: Expr| single.select(&e.like(0.0), &e);
        match self.coordinates {
            "align_corners" => unless_single(&(&x * &(n - 1.0)) / &(wide - 1.0)),
            "asymmetric" => rounded(&x / &scale),
            "tf_half_pixel_for_nn" => centered(x),
            "pytorch_half_pixel" => unless_single(centered(x) - 0.5),
            "half_pixel_symmetric" => {
                let border = (resized / wide) * -1.0 + 1.0;
                (n / border.like(2.0)) * border + centered(x) - 0.5
            }
            _ => centered(x) - 0.5,
        }
    }

    /// The operand's positions, `i64` though perhaps outside, where the nearest one is meant; each with its weight, `f64`.
    fn around(&self, position: &Affine) -> Vec<(Expr, Option<Expr>)> {
        let at = self.place(position);
        let floor = |e: Expr| e.unary(UnaryOp::Floor);
        let index = |e: &Expr| e.cast(DType::I64);
        if let Kind::Nearest(rounding) = self.kind {
            let at = at.cast(DType::F32).cast(DType::F64);
            let whole = match rounding {
                "floor" => floor(at),
                "ceil" => at.unary(UnaryOp::Ceil),
                "round_prefer_ceil" => floor(at + 0.5),
                _ => (at - 0.5).unary(UnaryOp::Ceil),
            };
            return vec![(index(&whole), None)];
        }
        let first = floor(at.clone());
        let ratio = &at - &first;
        let place = |i: i64| index(&first).binary(BinaryOp::Add, &Expr::int(DType::I64, i));
        match self.kind {
            Kind::Cubic(a) => {
                let near = |x: &Expr| (((x * (a + 2.0)) - (a + 3.0)) * x.clone()) * x.clone() + 1.0;
                let far = |x: &Expr| ((x * a - 5.0 * a) * x.clone() + 8.0 * a) * x.clone() - 4.0 * a;
                let back = &(&ratio * -1.0) + &ratio.like(1.0);
                let weights = [far(&(&ratio + 1.0)), near(&ratio), near(&back), far(&(&back + 1.0))];
                weights.into_iter().zip(-1..).map(|(w, i)| (place(i), Some(w))).collect()
            }
            _ => vec![(place(0), Some(&(&ratio * -1.0) + &ratio.like(1.0))), (place(1), Some(ratio))],
        }
    }
}

/// `input` with an axis resized, as a tensor of type `result`; sums are of type `sum_type`.
pub(super) fn lower_sampled(b: &mut Builder, input: TensorId, axis: usize, a: &AxisResize<'_>, sum_type: DType, result: DType) -> TensorId {
    let mut dims = b.dims(input).to_vec();
    dims[axis] = a.resized;
    b.compute(&dims, |b, at| {
        let term = |(place, weight): (Expr, Option<Expr>)| {
            let mut index: Vec<Ix> = at.iter().map(Ix::from).collect();
            index[axis] = Ix::Clamped(place);
            let value = b.load(input, index).cast(sum_type);
            weight.map_or(value.clone(), |w| value * w.cast(DType::F32).cast(sum_type))
        };
        let terms = a.around(&at[axis]).into_iter().map(term);
        terms.reduce(|sum, term| sum + term).expect("a nearest position").cast(result)
    })
}
