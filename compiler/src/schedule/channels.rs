//! Two stages for some of their channels: an axis that one only hands to the other. Loops over blocks of them are outermost, so that what
//! is between the stages is as little as the first-level cache holds.

use super::emitter::{Emitter, Slot, index_depends, place_alone};
use crate::expr::{Affine, Expr, Ix, Node, Sliding, Stage, TensorId, Var};
use crate::tensor::{DType, Tensor, dense_strides, n_elements};

/// The channels of two stages.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    /// The axis of the first stage, and of what is between.
    pub(super) first: usize,
    /// The axis of the second.
    pub(super) second: usize,
    /// Channels in a block: a cache line of `f32`.
    pub(super) block: usize,
    /// Blocks of them.
    pub(super) n: usize,
}

impl Channels {
    /// The channels of both stages, if they are whole blocks and every constant is read at them one by one.
    pub(super) fn of(e: &Emitter, s: &Sliding<'_>) -> Option<Channels> {
        let Node::Load { index, .. } = s.read.node() else { return None };
        let block = e.machine.choice.channels.unwrap_or(e.machine.line_bytes / DType::F32.size_bytes()).max(1);
        (0..s.second.axes.len()).filter(|&second| second != s.axis).find_map(|second| {
            let first = place_alone(index, second)?;
            let extent = s.second.axes[second];
            let whole = first != s.rows && s.first.axes[first] == extent;
            (whole && extent > block && extent.is_multiple_of(block) && cuttable(e, s.first, first) && cuttable(e, s.second, second))
                .then_some(Channels { first, second, block, n: extent / block })
        })
    }

    /// A channel of the first or the second stage, by its number in the block that a loop is at.
    pub(super) fn place(&self, axis: usize, block: Var) -> Affine {
        Affine::axis(axis).plus(&Affine::var(block).times(self.block as i64))
    }
}

/// Whether every constant that moves along the axis has one element at each of it, for some of the others.
fn cuttable(e: &Emitter, stage: &Stage, axis: usize) -> bool {
    let extent = stage.axes[axis];
    let mut all = true;
    for x in stage.expressions() {
        x.visit(&mut |x| {
            let Node::Load { tensor, index, .. } = x.node() else { return };
            if matches!(e.slots[tensor.0 as usize], Some(Slot::Constant(_))) && index_depends(index, axis) {
                all &= place_alone(index, axis).is_some_and(|k| e.dims(*tensor)[k] == extent);
            }
        });
    }
    all
}

/// Constants in blocks of channels, `[block][the other axes][channel]`, each made once.
#[derive(Default)]
pub(super) struct Constants(Vec<(TensorId, usize, TensorId)>);

impl Constants {
    /// An expression in which constants that are read at [`Channels::place`] are read where they are in blocks.
    pub(super) fn in_blocks(&mut self, e: &mut Emitter, x: &Expr, channels: &Channels, (axis, block): (usize, Var)) -> Expr {
        let place = Ix::Affine(channels.place(axis, block));
        x.rewrite(&mut |x| {
            let Node::Load { tensor, index, pad } = x.node() else { return x };
            let (Some(Slot::Constant(value)), Some(k)) = (&e.slots[tensor.0 as usize], index.iter().position(|ix| *ix == place)) else {
                return x;
            };
            let value = value.clone();
            let known = self.0.iter().find(|c| (c.0, c.1) == (*tensor, k)).map(|c| c.2);
            let blocked = known.unwrap_or_else(|| {
                let name = format!("{}_blocks", e.program().tensor(*tensor).name);
                let made = e.constant_tensor(&name, blocked(&value, k, channels.block));
                self.0.push((*tensor, k, made));
                made
            });
            let others = index.iter().enumerate().filter(|&(i, _)| i != k).map(|(_, ix)| ix.clone());
            let of_block = [Ix::Affine(Affine::var(block))].into_iter().chain(others);
            let index = of_block.chain([Ix::Affine(Affine::axis(axis))]).collect();
            Expr::new(Node::Load { tensor: blocked, index, pad: pad.clone() }, x.dtype())
        })
    }
}

/// A tensor with its dimension `k` in blocks of so many: `[block][the others][element of the block]`.
fn blocked(value: &Tensor, k: usize, block: usize) -> Tensor {
    let dims = value.dims();
    let strides = dense_strides(dims, &(0..dims.len()).collect::<Vec<_>>());
    let mut axes = vec![(dims[k] / block, strides[k] * block as i64)];
    axes.extend((0..dims.len()).filter(|&i| i != k).map(|i| (dims[i], strides[i])));
    axes.push((block, strides[k]));
    let walk: Vec<(usize, usize)> = axes.iter().enumerate().map(|(i, a)| (i, a.0)).collect();
    let size = value.dtype().size_bytes();
    let mut bytes = Vec::with_capacity(n_elements(dims) * size);
    for at in super::pack::offsets(&walk, &|i: usize| axes[i].1) {
        bytes.extend_from_slice(&value.bytes()[at as usize * size..][..size]);
    }
    Tensor::from_bytes(value.dtype(), &axes.iter().map(|a| a.0).collect::<Vec<_>>(), &bytes)
}

#[cfg(test)]
mod tests {
    use super::blocked;
    use crate::tensor::Tensor;

    const BLOCK: usize = 16;

    #[test]
    fn blocks_come_first_and_their_channels_last() {
        let values: Vec<f32> = (0..2 * 2 * BLOCK * 3).map(|i| i as f32).collect();
        let made = blocked(&Tensor::from_slice(&[2, 2 * BLOCK, 3], &values), 1, BLOCK);
        assert_eq!(made.dims(), [2, 2, 3, BLOCK]);
        for (i, v) in made.as_slice::<f32>().iter().enumerate() {
            let (channel, tap, row, block) = (i % BLOCK, i / BLOCK % 3, i / BLOCK / 3 % 2, i / BLOCK / 6);
            assert_eq!(*v, values[(row * 2 * BLOCK + block * BLOCK + channel) * 3 + tap]);
        }
    }
}
