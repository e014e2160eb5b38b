//! What the templates know of the machine, and the cost of register tiles.
//!
//! The model: a tile of `mr` rows and `nv` vectors needs `mr * nv` fused multiply-adds, `mr` broadcasts and `nv` loads for
//! each step of the reduction, and no step is faster than the latency of one multiply-add.

/// The part of a target that schedules depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Lanes of `f32` in one vector register.
    pub lanes: u32,
    /// Vector registers.
    pub n_registers: usize,
    /// Whether multiply-add is one instruction.
    pub fma: bool,
    /// Bytes of first-level data cache.
    pub l1_bytes: usize,
    /// Bytes of second-level cache.
    pub l2_bytes: usize,
}

impl Machine {
    /// A 128-bit machine with so many vector registers.
    pub fn vector128(n_registers: usize, fma: bool) -> Self {
        Machine { lanes: 4, n_registers, fma, l1_bytes: 32 << 10, l2_bytes: 512 << 10 }
    }
}

/// Rows and vectors of a register tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tile {
    /// Rows.
    pub(super) mr: usize,
    /// Vectors in a row.
    pub(super) nv: usize,
}

/// The tiles that leave room for operands: with 16 registers at most ten accumulators, with 32 at most 24.
fn tiles(machine: &Machine) -> &'static [(usize, usize)] {
    if machine.n_registers >= 32 {
        &[(8, 2), (6, 4), (6, 3), (5, 4), (4, 4), (7, 2), (6, 2), (5, 2), (4, 2), (8, 1), (4, 1), (3, 4), (2, 8), (2, 4), (1, 8), (1, 4)]
    } else {
        &[(5, 2), (4, 2), (3, 2), (2, 4), (2, 2), (1, 8), (1, 4), (8, 1), (6, 1), (4, 1)]
    }
}

/// Tenths of a cycle for one reduction step of a tile.
fn step_cost(mr: usize, nv: usize) -> usize {
    (mr * nv * 5).max((mr + nv) * 5).max(40) + 5
}

/// The tile with the least cost for `rows` by `columns` outputs, `lanes` columns in a vector.
pub(super) fn choose_tile(machine: &Machine, rows: usize, columns: usize) -> Tile {
    let vectors = columns.div_ceil(machine.lanes as usize).max(1);
    let cost = |&(mr, nv): &(usize, usize)| {
        let part = |rows: usize, vectors: usize| if rows == 0 || vectors == 0 { 0 } else { step_cost(rows, vectors) };
        let (full_rows, rest_rows) = (rows / mr, rows % mr);
        let (full, rest) = (vectors / nv, vectors % nv);
        full_rows * (full * step_cost(mr, nv) + part(mr, rest)) + full * part(rest_rows, nv) + part(rest_rows, rest)
    };
    let &(mr, nv) = tiles(machine).iter().filter(|t| t.1 <= vectors || t.1 == 1).min_by_key(|t| (cost(t), t.0 * t.1)).unwrap_or(&(1, 1));
    Tile { mr: mr.min(rows.max(1)), nv: nv.min(vectors) }
}

#[cfg(test)]
mod tests {
    use super::{Machine, Tile, choose_tile};

    #[test]
    fn many_rows_take_the_widest_tile_and_one_row_streams() {
        let machine = Machine::vector128(16, true);
        assert_eq!(choose_tile(&machine, 3136, 64), Tile { mr: 5, nv: 2 });
        assert_eq!(choose_tile(&machine, 1, 512), Tile { mr: 1, nv: 8 });
        assert_eq!(choose_tile(&machine, 56, 3), Tile { mr: 8, nv: 1 });
    }
}
