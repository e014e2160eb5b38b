//! The choice of tile and block, and whether any beats the direct sum: a model in cycles of one core.

use super::cook_toom::CookToom;
use super::shape::Shape;
use crate::schedule::cost::{Convolution, Machine, Tile, choose_tile, covering_cost};

/// Bytes that the last-level cache gives in a cycle.
const L3_BYTES_PER_CYCLE: f64 = 20.0;
/// Bytes that memory gives in a cycle.
const MEMORY_BYTES_PER_CYCLE: f64 = 7.0;
/// Weights of more bytes come from memory, for there are those of other layers.
const KEPT_BYTES: f64 = 6e6;
/// Most tiles of a block.
const MAX_TILES: usize = 192;
/// How much faster than the direct sum it must be.
const MARGIN: f64 = 1.1;

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

    /// The fastest plan, if it is faster than the direct sum or asked for.
    pub(super) fn choose(machine: &Machine, shape: &Shape) -> Option<Self> {
        let fastest = |m: usize| Self::fastest(machine, shape, m);
        match machine.convolution {
            Convolution::Direct => None,
            Convolution::Winograd(m) => fastest(m).map(|p| p.1),
            Convolution::Fastest => {
                let (cycles, plan) = [4, 2].into_iter().filter_map(fastest).min_by(|a, b| a.0.total_cmp(&b.0))?;
                (cycles * MARGIN < direct_cycles(machine, shape)).then_some(plan)
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

    fn fastest(machine: &Machine, shape: &Shape, m: usize) -> Option<(f64, Self)> {
        let form = |i: usize| {
            let r = shape.sides[i].r();
            CookToom::new(if r > 1 { m } else { 1 }, r)
        };
        let forms = [form(0)?, form(1)?];
        let tiles = [0, 1].map(|i| shape.sides[i].extent.div_ceil(forms[i].m));
        let n_products = forms[0].n() * forms[1].n();
        if shape.channels.1 < 4 {
            return None;
        }
        // Rows of a multiple of 1 KiB would share sets of the first-level cache.
        let stride = shape.channels.1.next_multiple_of(4);
        let stride = if (stride * 4).is_multiple_of(1024) { stride + 16 } else { stride };
        let narrow = machine.narrowed(shape.columns.1);
        let lanes = narrow.lanes as usize;
        let tile_bytes = n_products * 4 * (stride + 2 * lanes.min(shape.columns.1));
        let most = (machine.l2_bytes * 5 / 8 / tile_bytes).clamp(2, MAX_TILES);
        let n_col_blocks = tiles[1].div_ceil(most);
        let cols = tiles[1].div_ceil(n_col_blocks);
        (1..=(most / cols).clamp(1, tiles[0]))
            .filter(|rows| rows * cols >= 2)
            .map(|rows| {
                let tile = choose_tile(&narrow, rows * cols, shape.columns.1, usize::MAX);
                let plan = Plan {
                    forms: forms.clone(),
                    rows,
                    cols,
                    blocks: [tiles[0].div_ceil(rows), n_col_blocks],
                    lanes,
                    nr: tile.nv * lanes,
                    stride,
                };
                (plan.cycles(&narrow, shape, tile), plan)
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn cycles(&self, machine: &Machine, shape: &Shape, tile: Tile) -> f64 {
        let [y, x] = &self.forms;
        let (channels, columns) = (shape.channels.1, shape.columns.1);
        let n_blocks = (shape.n_images * self.blocks[0] * self.blocks[1]) as f64;
        let n_tiles = self.n_tiles();
        let products = product_cycles(machine, n_tiles, columns, tile, channels, self.n_products());
        let bytes = (self.n_products() * channels * columns * 4) as f64;
        let weights = stream_cycles(machine, bytes, n_blocks);

        let wide = machine.lanes > 8;
        let (fma, store, load) = if wide { (1.0, 2.0, 0.5) } else { (0.5, 1.0, 0.3) };
        // An addition for each product and pair of points, and as many again that combine them.
        let work = |f: &CookToom| if f.n() > 1 { (2 * f.n() * (f.n() - 2) / 4) as f64 } else { 0.0 };
        let (ny, nx) = (y.n() as f64, x.n() as f64);
        let columns_read = (x.m * self.cols + x.n() - x.m) as f64;
        let row = columns_read * (ny * (load + store) + work(y) * fma);
        let tile_in = ny * (nx * (load + store) + work(x) * fma);
        let tile_out = nx * ny * load + (nx * work(y) + y.m as f64 * work(x)) * fma + (y.m * x.m) as f64 * (store + 2.0 * fma);
        let in_vectors = channels.div_ceil(Self::input_lanes(machine, channels) as usize) as f64;
        let out_vectors = columns.div_ceil(self.lanes) as f64;
        let transforms = in_vectors * (self.rows as f64 * row + n_tiles as f64 * tile_in) + out_vectors * n_tiles as f64 * tile_out;
        overlapped(n_blocks * products, weights) + 1.2 * n_blocks * transforms
    }
}

/// Cycles of a matrix product in tiles, `times` over.
fn product_cycles(machine: &Machine, rows: usize, columns: usize, tile: Tile, depth: usize, times: usize) -> f64 {
    let vectors = columns.div_ceil(machine.lanes as usize);
    let step = covering_cost(machine, rows, vectors, tile) as f64 / 10.0;
    // Sums are set to zero and stored.
    let ends = (rows * vectors) as f64 * 2.5;
    times as f64 * (step * depth as f64 + ends)
}

/// Cycles in which weights arrive, `times` over.
fn stream_cycles(machine: &Machine, bytes: f64, times: f64) -> f64 {
    let again = if bytes < machine.l2_bytes as f64 / 4.0 { 0.0 } else { (times - 1.0) * bytes / L3_BYTES_PER_CYCLE };
    let first = bytes / if bytes < KEPT_BYTES { L3_BYTES_PER_CYCLE } else { MEMORY_BYTES_PER_CYCLE };
    first + again
}

/// Work and transfers at once.
fn overlapped(a: f64, b: f64) -> f64 {
    a.max(b) + 0.3 * a.min(b)
}

/// Cycles of the direct sum.
fn direct_cycles(machine: &Machine, shape: &Shape) -> f64 {
    let narrow = machine.covering(shape.columns.1);
    let [y, x] = &shape.sides;
    let depth = shape.channels.1 * y.r() * x.r();
    let tile = choose_tile(&narrow, x.extent, shape.columns.1, usize::MAX);
    let products = product_cycles(&narrow, x.extent, shape.columns.1, tile, depth, shape.n_images * y.extent);
    overlapped(products, stream_cycles(machine, (depth * shape.columns.1 * 4) as f64, 1.0))
}
