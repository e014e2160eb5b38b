//! The choice of tile and block, and whether any beats the direct sum, by what [`super::cost`] thinks.

use super::cook_toom::CookToom;
use super::cost;
use super::shape::Shape;
use crate::schedule::MAX_PRIVATE_BYTES;
use crate::schedule::cost::{Convolution, Machine, choose_tile};

/// Most tiles of a block whose scratch the second-level cache keeps.
const MAX_TILES: usize = 192;
/// How much faster than the direct sum it must be.
const MARGIN: f64 = 1.1;
/// Most scratch, in second-level caches.
const MAX_SCRATCH: usize = 8;

/// The order of a block's products.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Panels of output channels outermost, each transformed back at once: the input is read for every panel.
    Panels,
    /// Points of the transforms outermost: each reads its part of the input and its weights once, and all sums wait.
    Points,
}

/// How a convolution is computed.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    /// Transforms of rows and of columns.
    pub(super) forms: [CookToom; 2],
    /// Tile rows of a block.
    pub(super) rows: usize,
    /// Tile columns of a block.
    pub(super) cols: usize,
    /// Blocks along each side.
    pub(super) blocks: [usize; 2],
    /// Lanes of output channels.
    pub(super) lanes: usize,
    /// Output channels of a panel.
    pub(super) nr: usize,
    /// Elements between tiles of the transformed input.
    pub(super) stride: usize,
    /// The order of its products.
    pub(super) order: Order,
}

impl Plan {
    /// Tiles of a block.
    pub(super) fn n_tiles(&self) -> usize {
        self.rows * self.cols
    }

    /// Products of a tile.
    pub(super) fn n_products(&self) -> usize {
        self.forms[0].n() * self.forms[1].n()
    }

    /// Outputs along a side with taps.
    pub(super) fn m(&self) -> usize {
        self.forms[0].m.max(self.forms[1].m)
    }

    /// Whether each thread may have its own scratch of a block.
    pub(super) fn is_private(&self) -> bool {
        self.order == Order::Panels && self.n_products() * self.n_tiles() * self.stride.max(self.nr) * 4 <= MAX_PRIVATE_BYTES
    }

    /// The fastest plan, if it is faster than the direct sum or asked for. Results depend on the transforms only, which are chosen as
    /// if for one thread; blocks are chosen for one thread and for all that may share them.
    pub(super) fn choose(machine: &Machine, shape: &Shape) -> Option<Self> {
        let fastest = |m: usize| Self::fastest(machine, shape, m);
        match machine.convolution {
            Convolution::Direct => None,
            Convolution::Winograd(m) => fastest(m).map(|p| p.1),
            Convolution::Fastest => {
                let (time, plan) = [4, 2].into_iter().filter_map(fastest).min_by(|a, b| a.0.total_cmp(&b.0))?;
                (time * MARGIN < cost::direct(machine, shape)).then_some(plan)
            }
        }
    }

    /// Lanes of input channels: no more than there are.
    pub(super) fn input_lanes(machine: &Machine, channels: usize) -> u32 {
        let mut lanes = machine.narrowed(channels).lanes;
        while lanes as usize > channels {
            lanes /= 2;
        }
        lanes
    }

    /// The best plan of these transforms, and the time of the fastest on one thread.
    fn fastest(machine: &Machine, shape: &Shape, m: usize) -> Option<(f64, Self)> {
        let form = |i: usize| {
            let r = shape.sides[i].r();
            CookToom::new(if r > 1 { m } else { 1 }, r)
        };
        let forms = [form(0)?, form(1)?];
        let tiles = [0, 1].map(|i| shape.sides[i].extent.div_ceil(forms[i].m));
        let n_products = forms[0].n() * forms[1].n();
        let (channels, columns) = (shape.channels.1, shape.columns.1);
        if channels < 4 {
            return None;
        }
        // Rows of a multiple of 1 KiB would share sets of the first-level cache.
        let stride = channels.next_multiple_of(4);
        let stride = if (stride * 4).is_multiple_of(1024) { stride + 16 } else { stride };
        let narrow = machine.narrowed(columns);
        let lanes = narrow.lanes as usize;
        let tile_bytes = n_products * 4 * (stride + 2 * lanes.min(columns));
        let most = (machine.l2_bytes * 5 / 8 / tile_bytes).clamp(2, MAX_TILES);
        let small = tiles[1].div_ceil(most);
        let large = n_products * 4 * (stride + columns);
        let fits = |rows: usize, cols: usize| rows * cols <= most || rows * cols * large <= MAX_SCRATCH * machine.l2_bytes;
        let mut plans = vec![];
        for n_cols in (1..=small).filter(|&n| n == 1 || n == small) {
            let cols = tiles[1].div_ceil(n_cols);
            for rows in (1..=tiles[0]).filter(|&rows| rows * cols >= 2 && (rows == 1 && n_cols == small || fits(rows, cols))) {
                let tile = choose_tile(&narrow, rows * cols, columns, usize::MAX);
                for order in [Order::Panels, Order::Points] {
                    let blocks = [tiles[0].div_ceil(rows), n_cols];
                    // Sums of all panels would be too much for each thread to have its own.
                    if order == Order::Points && shape.n_images * blocks[0] * blocks[1] > 1 {
                        continue;
                    }
                    let plan = Plan { forms: forms.clone(), rows, cols, blocks, lanes, nr: tile.nv * lanes, stride, order };
                    let [alone, shared] = [1, machine.threads].map(|threads| cost::cost(&plan, &narrow, shape, tile, threads));
                    plans.push((alone, shared, plan));
                }
            }
        }
        let least = |time: fn(&(f64, f64, Plan)) -> f64| plans.iter().map(time).min_by(f64::total_cmp);
        let (alone, shared) = (least(|p| p.0)?, least(|p| p.1)?);
        let loss = |p: &(f64, f64, Plan)| p.0 / alone + p.1 / shared;
        plans.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).map(|p| (alone, p.2.clone()))
    }
}
