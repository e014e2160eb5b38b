//! What a plan costs, in cycles.
//!
//! Multiply-adds, transforms, and what must come from further than the first-level cache: weights once for every block, scratch that
//! the second-level cache does not keep.

use super::form::Form;
use super::plan::{Order, Plan};
use super::shape::{Shape, Side};
use crate::schedule::by_taps;
use crate::schedule::cost::{Tile, choose_tile, covering_cost};
use crate::schedule::machine::Machine;

/// Bytes that come in a cycle. Caches give less beside vectors that ports take in several turns; memory gives a core as much whatever the
/// width of its vectors.
struct Rates {
    l2: f64,
    l3: f64,
    memory: f64,
}

impl Rates {
    fn of(machine: &Machine) -> Self {
        let in_cycle = |in_10_cycles: usize| in_10_cycles as f64 / 10.0;
        let turns = machine.turns() as f64;
        Rates {
            l2: in_cycle(machine.l2_bytes_in_10_cycles) / turns,
            l3: in_cycle(machine.l3_bytes_in_10_cycles) / turns,
            memory: in_cycle(machine.memory_bytes_in_10_cycles),
        }
    }

    /// Weights of a layer come at the speed of memory: the last-level cache has those of other layers, and gives what it has no faster
    /// where so few rows wait for them. Those of a small model are still there.
    fn first(&self, machine: &Machine, bytes: f64) -> f64 {
        let rate = match machine.weights_stay {
            true if bytes < machine.l2_bytes as f64 * 0.75 => self.l2,
            true => self.l3,
            false => self.memory,
        };
        bytes / rate
    }

    /// Weights that half of the last-level cache holds are there for the next block.
    fn again(&self, machine: &Machine, bytes: f64) -> f64 {
        bytes
            / match bytes {
                b if b < machine.l2_bytes as f64 / 2.0 => self.l2,
                b if b < machine.l3_bytes as f64 / 2.0 => self.l3,
                _ => self.memory,
            }
    }
}

/// The largest share of `n` parts, by which so many threads divide the time.
fn share(n: usize, threads: usize) -> f64 {
    n.div_ceil(threads.min(n).max(1)) as f64 / n.max(1) as f64
}

/// Work and transfers at once.
fn overlapped(a: f64, b: f64) -> f64 {
    a.max(b) + 0.3 * a.min(b)
}

/// How much of a working set the second-level cache does not keep.
fn spilled(machine: &Machine, bytes: f64) -> f64 {
    let l2 = machine.l2_bytes as f64;
    ((bytes - 0.6 * l2) / (0.4 * l2)).clamp(0.0, 1.0)
}

/// A matrix product in tiles, `times` over.
fn products(machine: &Machine, rows: usize, columns: usize, tile: Tile, depth: usize, times: usize) -> f64 {
    let vectors = columns.div_ceil(machine.lanes as usize);
    let step = covering_cost(machine, rows, vectors, tile) as f64 / 10.0;
    // Sums are set to zero and stored.
    let ends = (rows * vectors) as f64 * 2.5;
    times as f64 * (step * depth as f64 + ends)
}

/// The transforms of a block: of its input, of its output.
fn transforms(plan: &Plan, machine: &Machine, shape: &Shape) -> [f64; 2] {
    let [y, x] = &plan.forms;
    let fma = machine.fma_tenths() as f64 / 10.0;
    let store = machine.turns() as f64 / machine.n_store_ports.max(1) as f64;
    let load = if machine.lanes > 8 { 0.5 } else { 0.3 };
    let work = |f: &Form| f.n_input_adds() as f64;
    let sums = |f: &Form| f.n_input_adds().max(f.n_output_adds()) as f64;
    let (ny, nx, n_tiles) = (y.n() as f64, x.n() as f64, plan.n_tiles() as f64);
    let columns_read = x.window(plan.cols) as f64;
    let row = columns_read * (ny * (load + store) + work(y) * fma);
    let tile_in = ny * (nx * (load + store) + work(x) * fma);
    let tile_out = nx * ny * load + (nx * sums(y) + y.m as f64 * sums(x)) * fma + (y.m * x.m) as f64 * (store + 2.0 * fma);
    let in_vectors = shape.channels.1.div_ceil(Plan::input_lanes(machine, shape.channels.1) as usize) as f64;
    let out_vectors = shape.columns.1.div_ceil(plan.lanes) as f64;
    [1.2 * in_vectors * (plan.rows as f64 * row + n_tiles * tile_in), 1.2 * out_vectors * n_tiles * tile_out]
}

/// The time of a plan where so many threads share it.
pub(super) fn cost(plan: &Plan, machine: &Machine, shape: &Shape, tile: Tile, threads: usize) -> f64 {
    let (channels, columns) = (shape.channels.1, shape.columns.1);
    let n_blocks = shape.n_images * plan.blocks[0] * plan.blocks[1];
    let n_panels = columns.div_ceil(plan.nr);
    let rates = Rates::of(machine);
    let bytes = |elements: usize| (elements * 4) as f64;
    let input = bytes(plan.n_products() * plan.n_tiles() * plan.stride);
    let sums = |columns: usize| bytes(plan.n_products() * plan.n_tiles() * columns);
    let weights = bytes(plan.n_products() * channels * columns);

    let [transform_in, transform_out] = transforms(plan, machine, shape);
    let products = products(machine, plan.n_tiles(), columns, tile, channels, plan.n_products());
    // What goes to the last-level cache and comes back: the input for every panel, or all sums.
    let around = match plan.order {
        Order::Panels => {
            let spilled = spilled(machine, input + sums(plan.nr) + bytes(2 * channels * plan.nr));
            spilled * (input * (1 + n_panels) as f64 + 2.0 * sums(columns) * spilled_alone(machine, sums(plan.nr)))
        }
        Order::Points => 2.0 * spilled(machine, input + sums(columns)) * (input + sums(columns)),
    } / rates.l3;
    if n_blocks > 1 {
        // Blocks are shared where each thread can have the scratch of one.
        let share = if plan.is_private() { share(n_blocks, threads) } else { 1.0 };
        let each = n_blocks as f64 * share;
        let streamed = rates.first(machine, weights) + (each - 1.0) * rates.again(machine, weights);
        return overlapped(each * (products + around), streamed) + each * (transform_in + transform_out);
    }
    let (by_point, by_panel) = (share(plan.n_products(), threads), share(n_panels, threads));
    let of_products = if plan.order == Order::Points { by_point } else { by_panel };
    // What other threads have written.
    let away = 1.0 - 1.0 / threads as f64;
    let handed = away / rates.l3
        * match plan.order {
            Order::Panels => input,
            Order::Points => (input + sums(columns)) / threads as f64,
        };
    overlapped(of_products * (products + around), of_products * rates.first(machine, weights))
        + share(plan.rows, threads) * transform_in
        + by_panel * transform_out
        + handed
}

fn spilled_alone(machine: &Machine, bytes: f64) -> f64 {
    (bytes / machine.l2_bytes as f64).min(1.0)
}

/// The time of the direct sum on one thread.
pub(super) fn direct(machine: &Machine, shape: &Shape) -> f64 {
    let narrow = machine.narrowed(shape.columns.1);
    let [y, x] = &shape.sides;
    let depth = shape.channels.1 * y.taps * x.taps;
    let tile = choose_tile(&narrow, x.extent, shape.columns.1, usize::MAX);
    let n_rows = shape.n_images * y.extent;
    let read = by_taps::share(shape.channels.1, read_by_taps(y) * read_by_taps(x));
    let products = read * products(&narrow, x.extent, shape.columns.1, tile, depth, n_rows);
    let (rates, weights) = (Rates::of(machine), (depth * shape.columns.1 * 4) as f64);
    // Panels of weights stay in the second-level cache from row to row.
    overlapped(products, rates.first(machine, weights) + (n_rows - 1) as f64 * weights / rates.l2)
}

/// How many of the taps of a side's outputs read elements, and not padding.
fn read_by_taps(side: &Side) -> f64 {
    let inside = |tap: usize| {
        let first = side.first + (tap * side.dilation) as i64;
        (0..side.extent as i64).filter(|o| (0..side.dim as i64).contains(&(o * side.stride as i64 + first))).count()
    };
    (0..side.taps).map(inside).sum::<usize>() as f64 / (side.extent * side.taps) as f64
}
