//! `Col2Im`: blocks of columns added up where they overlap in an image.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Col2Im.html>

use super::{extent, sized};
use crate::expr::{self, Affine, BinaryOp, Builder, CompareOp, Expr, Ix, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, for_each_index, n_elements, row_major_strides};

operator! {
    /// `output[n,c,p]` is the sum of `input[n,c*block+tap,l]` over all blocks `l` and taps that lie on `p`.
    Col2Im(input, image_shape, block_shape) -> (output) since [18];
    /// Distance of neighbouring elements of a block; 1 by default.
    dilations: Vec<i64> = Vec::<i64>::new(),
    /// Padding of the image, all in front, then all behind; 0 by default.
    pads: Vec<i64> = Vec::<i64>::new(),
    /// Distance of neighbouring blocks; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

/// All extents, by spatial axis.
struct Blocks {
    image: Vec<usize>,
    block: Vec<usize>,
    dilations: Vec<usize>,
    strides: Vec<usize>,
    begin: Vec<usize>,
    /// Number of blocks.
    count: Vec<usize>,
}

impl Col2Im {
    fn blocks(&self, x: &Operands) -> Result<Blocks, InferError> {
        let list = |i: usize| x.ints(i)?.into_iter().map(extent).collect::<Result<Vec<_>, _>>();
        let (image, block) = (list(1)?, list(2)?);
        let rank = image.len();
        let attribute = |values: &[i64], len: usize, default: usize, least: usize, name: &str| {
            if values.is_empty() {
                return Ok(vec![default; len]);
            }
            let values: Option<Vec<usize>> =
                values.iter().map(|&v| usize::try_from(v).ok().filter(|&v| (least..1 << 31).contains(&v))).collect();
            values.filter(|v| v.len() == len).ok_or_else(|| InferError::Invalid(format!("`{name}` does not fit {len} values")))
        };
        let dilations = attribute(&self.dilations, rank, 1, 1, "dilations")?;
        let strides = attribute(&self.strides, rank, 1, 1, "strides")?;
        let pads = attribute(&self.pads, 2 * rank, 0, 0, "pads")?;
        if rank == 0 || block.len() != rank || block.contains(&0) || image.iter().chain(&block).any(|&d| d >= 1 << 31) {
            return Err(InferError::Invalid(format!("blocks of {block:?} in an image of {image:?}")));
        }
        let mut count = vec![];
        for i in 0..rank {
            let room = (image[i] + pads[i] + pads[rank + i]).checked_sub((block[i] - 1) * dilations[i] + 1);
            let room = room.ok_or_else(|| InferError::Invalid(format!("blocks of {block:?} in an image of {image:?}")))?;
            count.push(room / strides[i] + 1);
        }
        Ok(Blocks { image, block, dilations, strides, begin: pads[..rank].to_vec(), count })
    }
}

impl Operator for Col2Im {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, &DType::NUMBERS)?;
        let (blocks, dims) = (self.blocks(x)?, x.dims(0)?);
        let (taps, count) = (n_elements(&blocks.block), n_elements(&blocks.count));
        match dims[..] {
            [n, columns, l] if columns.is_multiple_of(taps) && l == count => {
                Ok(vec![sized(dtype, &[&[n, columns / taps], &blocks.image[..]].concat())?])
            }
            _ => Err(InferError::Invalid(format!("columns {} for {count} blocks of {taps} elements", x.ty(0)?))),
        }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let invalid = |e: InferError| EvalError::Invalid(e.to_string());
        let (blocks, ty) = (self.blocks(x).map_err(invalid)?, self.infer(x).map_err(invalid)?.remove(0));
        let dims = ty.dims().expect("fixed extents");
        let (taps, count, plane) = (n_elements(&blocks.block), n_elements(&blocks.count), n_elements(&blocks.image));
        let planes = dims[0] * dims[1];
        let strides = row_major_strides(&blocks.image);
        let mut pairs = vec![];
        for_each_index(&blocks.block, |tap, over| {
            for_each_index(&blocks.count, |l, at| {
                let place = (0..over.len()).map(|i| {
                    let p = (at[i] * blocks.strides[i] + over[i] * blocks.dilations[i]).checked_sub(blocks.begin[i])?;
                    (p < blocks.image[i]).then(|| p * strides[i])
                });
                pairs.extend(place.sum::<Option<usize>>().map(|place| (tap * count + l, place)));
            });
        });
        let input = x.tensor(0);
        if ty.dtype.is_float() {
            let values = input.to_f64s();
            let mut out = vec![0.0; planes * plane];
            for p in 0..planes {
                pairs.iter().for_each(|&(from, to)| out[p * plane + to] += values[p * taps * count + from]);
            }
            return Ok(vec![Tensor::from_f64s(ty.dtype, &dims, &out)]);
        }
        let values = input.to_ints();
        let mut out = vec![0i128; planes * plane];
        for p in 0..planes {
            pairs.iter().for_each(|&(from, to)| out[p * plane + to] += values[p * taps * count + from]);
        }
        Ok(vec![Tensor::from_ints(ty.dtype, &dims, &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (blocks, dims) = (self.blocks(x.facts)?, x.result_dims(0));
        let rank = blocks.image.len();
        let input = b.reshape(x.tensor(0), &[&dims[..2], &blocks.block[..], &blocks.count[..]].concat());
        let dtype = b.dtype(input);
        if dims.contains(&0) {
            return Ok(vec![b.compute(&dims, |_, _| Expr::int(dtype, 0))]);
        }
        let wide = if dtype.is_half() { DType::F32 } else { dtype };
        let int = |v: usize| Expr::int(DType::I64, v as i64);
        let value = |b: &Builder, at: &[Affine], over: &[Affine]| {
            let mut index: Vec<Ix> = at[..2].iter().chain(over).map(Ix::from).collect();
            let mut inside: Option<Expr> = None;
            for i in 0..rank {
                // Distance from the first block's element, in the padded image.
                let from = at[2 + i].plus(&over[i].times(-(blocks.dilations[i] as i64))).offset(blocks.begin[i] as i64);
                let from = Expr::index(&from);
                let block = from.binary(BinaryOp::Div, &int(blocks.strides[i]));
                let mut here = from.compare(CompareOp::Ge, &int(0));
                here = here.binary(BinaryOp::And, &block.compare(CompareOp::Lt, &int(blocks.count[i])));
                if blocks.strides[i] > 1 {
                    let on = from.binary(BinaryOp::Rem, &int(blocks.strides[i])).compare(CompareOp::Eq, &int(0));
                    here = here.binary(BinaryOp::And, &on);
                }
                inside = Some(inside.map_or(here.clone(), |all| all.binary(BinaryOp::And, &here)));
                index.push(Ix::Clamped(block));
            }
            let zero = Expr::int(wide, 0);
            inside.expect("a spatial axis").select(&b.load(input, index).cast(wide), &zero)
        };
        Ok(vec![b.reduce(ReduceOp::Sum, &dims, &blocks.block, value, |_, _, sum| sum.cast(dtype))])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn blocks_overlap() {
        let x = [t("f32[1,2,2] 1 2 10 20"), t("i64[1] 3"), t("i64[1] 2")];
        assert_eq!(check_op("Col2Im", x)[0], t("f32[1,1,3] 1 12 20"));
        let x = |input: &str| [random(input, 1), t("i64[2] 5 6"), t("i64[2] 2 3")];
        check_op("Col2Im", x("f32[2,12,16]"));
        check_op("Col2Im strides=[2,3] pads=[1,0,2,1]", x("f32[1,6,8]"));
        check_op("Col2Im dilations=[2,1] strides=[1,2]", x("i32[1,6,6]"));
        assert_eq!(check_error("Col2Im", x("f32[1,6,5]")), "columns f32[1,6,5] for 16 blocks of 6 elements");
    }
}
