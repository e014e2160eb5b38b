//! The cost of register tiles.
//!
//! The model: rows and columns are covered by full tiles and by what is left at the edges, each with its measured cost.

use super::machine::Machine;

/// Rows and vectors of a register tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// Rows.
    pub mr: usize,
    /// Vectors in a row.
    pub nv: usize,
}

impl Tile {
    /// The part of it that there are rows and vectors for.
    pub(super) fn within(self, rows: usize, vectors: usize) -> Self {
        Tile { mr: self.mr.min(rows.max(1)), nv: self.nv.min(vectors.max(1)) }
    }
}

/// Tiles of wide vectors: rows and vectors in a row.
const WIDE_TILES: &[(usize, usize)] = &[
    (14, 2),
    (12, 2),
    (10, 2),
    (8, 3),
    (6, 4),
    (8, 2),
    (7, 3),
    (7, 2),
    (6, 3),
    (6, 2),
    (4, 4),
    (5, 2),
    (4, 3),
    (4, 2),
    (3, 4),
    (3, 3),
    (3, 2),
    (2, 8),
    (2, 4),
    (2, 2),
    (1, 16),
    (1, 8),
    (1, 4),
    (1, 2),
    (28, 1),
    (24, 1),
    (14, 1),
    (12, 1),
    (8, 1),
    (4, 1),
];

/// Tiles of windows that are worth measuring.
pub(super) const WINDOW_TILES: [(usize, usize); 12] =
    [(8, 1), (7, 1), (6, 1), (5, 1), (4, 1), (4, 2), (3, 2), (2, 2), (2, 4), (1, 4), (3, 1), (2, 1)];

/// The tiles that a machine's registers hold.
pub(super) fn wide_tiles(machine: &Machine) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (n_registers, by_element) = (machine.n_registers, machine.by_element);
    // A vector of each column and two broadcasts, or a register of four steps for each row; the vectors are from memory where there
    // is one row.
    let fits = move |&(mr, nv): &(usize, usize)| {
        let operands = match mr {
            1 if by_element => 3,
            1 => 2,
            _ if by_element => nv + mr,
            _ => nv + 2,
        };
        mr * nv + operands <= n_registers
    };
    WIDE_TILES.iter().copied().filter(fits)
}

/// The tile of one vector that covers `rows` outputs of a sliding window in the least time: a window of three by three stands for
/// all. Inputs that neighbours share stay in registers, beside the accumulators, a weight and two constants of the epilogue.
pub(super) fn window_tile(machine: &Machine, rows: usize) -> Tile {
    let (fma, load) = (machine.fma_tenths(), machine.load_tenths());
    let step = |mr: usize| (9 * mr * fma).max(9 * machine.latency_tenths()).max((3 * (mr + 2) + 9) * load) + 8 * load;
    let cost = |mr: usize| if mr == 0 { 0 } else { step(mr) };
    let fitting = (4..=8).filter(|mr| 2 * mr + 6 <= machine.n_registers);
    let mr = fitting.min_by_key(|&mr| (rows / mr * cost(mr) + cost(rows % mr), mr)).unwrap_or(4);
    Tile { mr: mr.min(rows), nv: 1 }
}

/// In how many places at once the weights of one row are read. From memory that is far one stream comes at half the speed of eight;
/// what the caches next to the core hold comes fastest in order.
pub(super) fn n_streams(machine: &Machine, depth: usize, columns: usize) -> usize {
    match 2 * depth * columns * 4 / machine.l2_bytes.max(1) {
        _ if depth < 64 => 1,
        0 => 1,
        1..4 => 4,
        _ => 8,
    }
}

/// Weights of a single row of fewer bytes are not worth several threads.
const SHARED_BYTES: usize = 256 << 10;

/// The tile of a product of one row, whose panels are all that threads can share: narrower where that makes shares more equal. What fills
/// no panel is left to one thread.
pub(super) fn shared_columns(machine: &Machine, columns: usize, depth: usize, tile: Tile) -> Tile {
    if machine.threads < 2 || depth * columns * 4 < SHARED_BYTES {
        return tile;
    }
    let vectors = columns.div_ceil(machine.lanes as usize);
    let time = |nv: usize| (columns / (nv * machine.lanes as usize)).div_ceil(machine.threads) * nv + vectors % nv;
    let narrower = [tile.nv, tile.nv / 2, tile.nv / 4].into_iter().filter(|&nv| nv == tile.nv || nv >= 4);
    let nv = narrower.min_by_key(|&nv| (time(nv), tile.nv - nv)).unwrap_or(tile.nv);
    Tile { nv, ..tile }
}

/// Tenths of a cycle for one reduction step of a tile of wide vectors: multiply-adds, their latency, and loads.
fn wide_cost(machine: &Machine, mr: usize, nv: usize) -> usize {
    let (columns, rows) = (nv * machine.load_tenths(), mr * machine.broadcast_tenths());
    let loads = columns + if machine.by_element { rows.div_ceil(4) } else { rows };
    // What remains of the others' time: loads that wait, those of columns more, since they come from further away.
    (mr * nv * machine.fma_tenths()).max(machine.latency_tenths()).max(loads) + (loads + columns) / 8
}

/// Tiles of 128-bit vectors that registers hold with a vector of each column and a broadcast, with the tenths of a cycle that one reduction step
/// takes beyond what ports and latency ask for, measured in cache.
///
/// With 16 registers more than eight accumulators spill.
fn tiles(machine: &Machine) -> impl Iterator<Item = &'static (usize, usize, usize)> + use<> {
    let n_registers = machine.n_registers;
    let table: &[(usize, usize, usize)] = if n_registers >= 32 {
        &[
            (8, 2, 5),
            (4, 4, 5),
            (6, 2, 5),
            (5, 2, 5),
            (4, 2, 5),
            (3, 4, 5),
            (3, 2, 0),
            (2, 8, 10),
            (2, 4, 5),
            (2, 2, 0),
            (1, 8, 5),
            (1, 4, 0),
            (8, 1, 3),
            (4, 1, 0),
        ]
    } else {
        &[(4, 2, 4), (3, 2, 0), (2, 4, 13), (2, 2, 0), (1, 8, 5), (1, 4, 0), (1, 2, 0), (8, 1, 3), (4, 1, 0)]
    };
    let columns = |mr: usize, nv: usize| if mr == 1 { 1 } else { nv };
    table.iter().filter(move |t| t.0 * t.1 + columns(t.0, t.1) < n_registers)
}

/// Tenths of a cycle for one reduction step of a tile.
fn step_cost(machine: &Machine, mr: usize, nv: usize) -> usize {
    if machine.exact {
        return wide_cost(machine, mr, nv);
    }
    let (sums, latency) = (mr * nv * machine.fma_tenths(), machine.latency_tenths());
    match tiles(machine).find(|t| (t.0, t.1) == (mr, nv)) {
        Some(&(.., more)) => sums.max(latency).max(nv * machine.load_tenths() + mr * machine.broadcast_tenths()) + more,
        None => (sums * 6 / 5).max(latency),
    }
}

/// The tile with the least cost for `rows` by `columns` outputs, `lanes` columns in a vector.
///
/// No more than `max_rows` rows, where there are tiles with so few.
pub(super) fn choose_tile(machine: &Machine, rows: usize, columns: usize, max_rows: usize) -> Tile {
    let vectors = columns.div_ceil(machine.lanes as usize).max(1);
    if let Some(tile) = machine.choice.tile {
        return tile.within(rows, vectors);
    }
    let cost = |(mr, nv): (usize, usize)| covering_cost(machine, rows, vectors, Tile { mr, nv });
    let table: Vec<(usize, usize)> =
        if machine.exact { wide_tiles(machine).collect() } else { tiles(machine).map(|t| (t.0, t.1)).collect() };
    let (mr, nv) = table
        .into_iter()
        .filter(|t| (t.1 <= vectors || t.1 == 1) && t.0 <= max_rows.max(4))
        .min_by_key(|&t| (cost(t), t.0 * t.1))
        .unwrap_or((1, 1));
    Tile { mr, nv }.within(rows, vectors)
}

/// Tenths of a cycle for one reduction step of all tiles that cover `rows` by `vectors`.
pub(super) fn covering_cost(machine: &Machine, rows: usize, vectors: usize, Tile { mr, nv }: Tile) -> usize {
    let part = |rows: usize, vectors: usize| if rows == 0 || vectors == 0 { 0 } else { step_cost(machine, rows, vectors) };
    let (full_rows, rest_rows) = (rows / mr, rows % mr);
    let (full, rest) = (vectors / nv, vectors % nv);
    full_rows * (full * step_cost(machine, mr, nv) + part(mr, rest)) + full * part(rest_rows, nv) + part(rest_rows, rest)
}

#[cfg(test)]
mod tests {
    use super::{Machine, Tile, choose_tile};

    #[test]
    fn costs_follow_ports_and_latency() {
        let zmm = Machine::wide(16, 32);
        let of = |machine: Machine| [(14, 2), (4, 1), (1, 16)].map(|(mr, nv)| super::wide_cost(&machine, mr, nv));
        assert_eq!(of(zmm), [293, 45, 205]);
        assert_eq!(of(Machine { n_fma_ports: 1, ..zmm }), [573, 85, 360]);
        assert_eq!(of(Machine { port_bits: 512, ..zmm }), [151, 43, 105]);
        assert_eq!(of(Machine { fma_latency: 20, ..zmm }), [293, 205, 240]);
    }

    #[test]
    fn costs_of_short_vectors_follow_ports_and_latency() {
        let machine = Machine::vector128(16, true);
        let of = |machine: Machine| [(4, 2), (2, 4), (1, 8), (8, 1), (5, 1)].map(|(mr, nv)| super::step_cost(&machine, mr, nv));
        assert_eq!(of(machine), [44, 53, 50, 48, 40]);
        assert_eq!(of(Machine { n_fma_ports: 1, ..machine }), [84, 93, 85, 83, 60]);
        assert_eq!(of(Machine { n_load_ports: 1, ..machine }), [64, 73, 95, 93, 40]);
        assert_eq!(of(Machine { fma_latency: 8, ..machine }), [84, 93, 85, 83, 80]);
    }

    #[test]
    fn many_rows_take_the_widest_tile_and_one_row_streams() {
        let machine = Machine::vector128(16, true);
        assert_eq!(choose_tile(&machine, 3136, 64, 64), Tile { mr: 4, nv: 2 });
        assert_eq!(choose_tile(&machine, 1, 512, 64), Tile { mr: 1, nv: 8 });
        assert_eq!(choose_tile(&machine, 56, 3, 64), Tile { mr: 8, nv: 1 });
    }

    #[test]
    fn weights_that_are_far_come_in_streams() {
        let machine = Machine::wide(16, 32);
        assert_eq!([(128, 128), (256, 784), (1280, 1000)].map(|(k, n)| super::n_streams(&machine, k, n)), [1, 4, 8]);
        assert_eq!([112, 28, 5, 3].map(|rows| super::window_tile(&machine, rows).mr), [8, 7, 5, 3]);
    }

    #[test]
    fn panels_of_one_row_divide_among_threads() {
        let nv = |threads: usize, columns: usize, depth: usize| {
            let machine = Machine { threads, ..Machine::wide(16, 32) };
            super::shared_columns(&machine, columns, depth, choose_tile(&machine, 1, columns, 64)).nv
        };
        // Of 62 vectors and a half in panels of 16 one of two threads would have 32, and 15 remain; in panels of 4 it has 32, and 3.
        assert_eq!([nv(1, 1000, 2048), nv(2, 1000, 2048), nv(4, 1000, 2048), nv(2, 1024, 1024), nv(2, 1000, 16)], [16, 4, 4, 16, 16]);
    }

    #[test]
    fn wide_vectors_fill_their_registers() {
        let (zmm, ymm) = (Machine::wide(16, 32), Machine::wide(8, 16));
        assert_eq!(choose_tile(&zmm, 3136, 64, 64), Tile { mr: 14, nv: 2 });
        assert_eq!(choose_tile(&zmm, 3136, 64, 8), Tile { mr: 6, nv: 4 });
        assert_eq!(choose_tile(&zmm, 1, 1024, 64), Tile { mr: 1, nv: 16 });
        assert_eq!(choose_tile(&ymm, 3136, 64, 64), Tile { mr: 6, nv: 2 });
        assert_eq!([3, 24, 64, 1000, 20].map(|n| zmm.narrowed(n).lanes), [4, 8, 16, 16, 4]);
        assert_eq!([3, 8, 9, 24, 40].map(|n| zmm.covering(n).lanes), [4, 8, 16, 16, 16]);
        assert_eq!([3, 4, 12, 20].map(|n| ymm.covering(n).lanes), [4, 4, 8, 8]);
        assert_eq!(choose_tile(&zmm, 3136, 40, 64), Tile { mr: 8, nv: 3 });
    }
}
