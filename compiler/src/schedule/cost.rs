//! What the templates know of the machine, and the cost of register tiles.
//!
//! The model: rows and columns are covered by full tiles and by what is left at the edges, each with its measured cost.

use std::fmt;
use std::str::FromStr;

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
    /// Whether the emitter allocates registers as the schedule counts on, so that tiles may fill all of them.
    pub exact: bool,
    /// Whether a multiply-add takes one lane of a register for all, so that one load brings four steps of a row.
    pub by_element: bool,
    /// What lanes of two vectors one instruction shuffles.
    pub shuffles: Shuffles,
    /// How products of bytes are summed.
    pub dot: Dot,
    /// How tiles are written out.
    pub choice: Choice,
    /// How convolutions are computed.
    pub convolution: Convolution,
    /// The most threads that share a kernel.
    pub threads: usize,
    /// Whether all weights of the model are so few that they stay in the caches from one run to the next.
    pub weights_stay: bool,
}

/// What lanes of two vectors one instruction shuffles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shuffles {
    /// None.
    None,
    /// Those of every four, and halves.
    Fours,
    /// Any.
    Any,
}

/// How products of bytes are summed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Dot {
    /// One by one, widened to 32 bits.
    #[default]
    None,
    /// Two at once, widened to 16 bits.
    Pairs,
    /// Four at once, unsigned by signed.
    Quads,
}

/// How convolutions are computed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Convolution {
    /// Whatever is thought fastest.
    #[default]
    Fastest,
    /// By direct sums.
    Direct,
    /// By Winograd's algorithm in tiles of so many outputs down and across wherever that exists, for tests and measurements.
    Winograd(usize, usize),
}

impl Machine {
    /// A 128-bit machine with so many vector registers.
    pub fn vector128(n_registers: usize, fma: bool) -> Self {
        Machine {
            lanes: 4,
            n_registers,
            fma,
            l1_bytes: 32 << 10,
            l2_bytes: 512 << 10,
            exact: false,
            by_element: false,
            shuffles: Shuffles::None,
            dot: Dot::None,
            choice: Choice::ALL[0],
            convolution: Convolution::Fastest,
            threads: 1,
            weights_stay: false,
        }
    }

    /// Whether there are shuffles of two vectors.
    pub fn shuffles(&self) -> bool {
        self.shuffles != Shuffles::None
    }

    /// Whether tiles are transposed in registers: as many rows as a vector has lanes, and what is computed of them.
    pub fn transposes(&self) -> bool {
        self.shuffles() && self.n_registers > self.lanes as usize + 2
    }

    /// A machine with so many vector registers and an emitter that allocates them as written; with vectors of 128 bits, one
    /// without fused multiply-add.
    pub fn wide(lanes: u32, n_registers: usize) -> Self {
        Machine {
            lanes,
            exact: true,
            shuffles: if lanes == 16 { Shuffles::Any } else { Shuffles::Fours },
            choice: Choice::new(Order::AtUse, 4),
            ..Machine::vector128(n_registers, lanes > 4)
        }
    }

    /// The 128-bit vectors of 64-bit Arm, with so many registers and an emitter that allocates them as written.
    pub fn by_element(n_registers: usize) -> Self {
        Machine { fma: true, by_element: true, ..Machine::wide(4, n_registers) }
    }

    /// What may be better than the choice that this machine comes with, the most promising first.
    pub fn other_choices(&self) -> Vec<Choice> {
        let sums = [Convolution::Direct, Convolution::Winograd(4, 4), Convolution::Winograd(2, 2), Convolution::Winograd(1, 2)];
        let sums = sums.into_iter().filter(|_| self.convolution == Convolution::Fastest);
        let sums = sums.map(|convolution| Choice { convolution: Some(convolution), ..self.choice });
        if !self.exact {
            return sums.chain(Choice::ALL.into_iter().filter(|c| *c != self.choice)).collect();
        }
        let blocks = (1..=4).map(|n| Choice { blocks: Some(n), ..self.choice });
        let steps = [self.choice.steps, 8, 2].into_iter();
        let tiled = |steps: usize| {
            wide_tiles(self)
                .map(move |(mr, nv)| Choice { tile: Some(Tile { mr, nv }), ..Choice::new(Order::AtUse, steps) })
                .collect::<Vec<_>>()
        };
        sums.chain(blocks).chain(steps.flat_map(tiled)).collect()
    }

    /// How convolutions are computed: a choice only where nothing is asked for.
    pub(super) fn convolution(&self) -> Convolution {
        match self.convolution {
            Convolution::Fastest => self.choice.convolution.unwrap_or_default(),
            asked => asked,
        }
    }

    /// The same machine with vectors of fewer lanes, at least four: the most of which `n` elements fill nearly all.
    pub(super) fn narrowed(self, n: usize) -> Self {
        let padded = |lanes: u32| n.next_multiple_of(lanes as usize);
        let least = padded(4);
        let mut lanes = self.lanes;
        while lanes > 4 && padded(lanes) * 15 > least * 16 {
            lanes /= 2;
        }
        Machine { lanes, ..self }
    }

    /// The same machine with vectors of fewer lanes, at least four: the fewest lanes that cover `n` elements in as few vectors as the
    /// most would, where the last vector may be loaded and stored in part.
    pub(super) fn covering(self, n: usize) -> Self {
        let mut lanes = self.lanes;
        while lanes > 4 && n <= lanes as usize / 2 {
            lanes /= 2;
        }
        Machine { lanes, ..self }
    }
}

/// In which order the operands of a tile's multiply-adds are loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Vectors first, each broadcast one row ahead of its multiply-adds.
    Ahead,
    /// Vectors, then all broadcasts, then all multiply-adds.
    BroadcastsFirst,
    /// Each operand at its first use.
    AtUse,
}

/// What the emitter's register allocator decides better than a model: tried in turn by the pipeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Order of a tile's loads.
    pub order: Order,
    /// Steps of a long reduction in one iteration.
    pub steps: usize,
    /// The register tile of products, instead of the model's, as far as rows and columns go.
    pub tile: Option<Tile>,
    /// The blocks of a long reduction, instead of the model's, where it can be cut so.
    pub blocks: Option<usize>,
    /// How convolutions are computed, instead of the model's choice.
    pub convolution: Option<Convolution>,
}

impl Choice {
    /// The choices worth trying, the best first.
    pub const ALL: [Choice; 8] = [
        Choice::new(Order::Ahead, 4),
        Choice::new(Order::BroadcastsFirst, 4),
        Choice::new(Order::Ahead, 8),
        Choice::new(Order::AtUse, 4),
        Choice::new(Order::BroadcastsFirst, 8),
        Choice::new(Order::Ahead, 3),
        Choice::new(Order::AtUse, 8),
        Choice::new(Order::BroadcastsFirst, 3),
    ];

    /// A choice that leaves all else to the model.
    pub const fn new(order: Order, steps: usize) -> Self {
        Choice { order, steps, tile: None, blocks: None, convolution: None }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Ahead => "ahead",
            Order::BroadcastsFirst => "broadcasts-first",
            Order::AtUse => "at-use",
        };
        write!(f, "order={order} steps={}", self.steps)?;
        if let Some(Tile { mr, nv }) = self.tile {
            write!(f, " tile={mr}x{nv}")?;
        }
        if let Some(n) = self.blocks {
            write!(f, " blocks={n}")?;
        }
        match self.convolution {
            Some(Convolution::Direct) => f.write_str(" convolution=direct"),
            Some(Convolution::Winograd(m, n)) if m == n => write!(f, " convolution=winograd{m}"),
            Some(Convolution::Winograd(m, n)) => write!(f, " convolution=winograd{m}x{n}"),
            Some(Convolution::Fastest) | None => Ok(()),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut choice = Choice::ALL[0];
        for word in text.split_whitespace() {
            let bad = || format!("`{word}` is not a part of a choice");
            let number = |t: &str| t.parse().ok().filter(|n| (1..=64).contains(n)).ok_or_else(bad);
            match word.split_once('=').ok_or_else(bad)? {
                ("order", "ahead") => choice.order = Order::Ahead,
                ("order", "broadcasts-first") => choice.order = Order::BroadcastsFirst,
                ("order", "at-use") => choice.order = Order::AtUse,
                ("steps", steps) => choice.steps = number(steps)?,
                ("tile", tile) => {
                    let (mr, nv) = tile.split_once('x').ok_or_else(bad)?;
                    choice.tile = Some(Tile { mr: number(mr)?, nv: number(nv)? });
                }
                ("blocks", n) => choice.blocks = Some(number(n)?),
                ("convolution", "direct") => choice.convolution = Some(Convolution::Direct),
                ("convolution", "winograd2") => choice.convolution = Some(Convolution::Winograd(2, 2)),
                ("convolution", "winograd1x2") => choice.convolution = Some(Convolution::Winograd(1, 2)),
                ("convolution", "winograd4") => choice.convolution = Some(Convolution::Winograd(4, 4)),
                _ => return Err(bad()),
            }
        }
        Ok(choice)
    }
}

/// Rows and vectors of a register tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    /// Rows.
    pub mr: usize,
    /// Vectors in a row.
    pub nv: usize,
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

/// The tiles that a machine's registers hold.
fn wide_tiles(machine: &Machine) -> impl Iterator<Item = (usize, usize)> + use<> {
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
    let each = if machine.lanes > 8 { 10 } else { 5 };
    let cost = |mr: usize| if mr == 0 { 0 } else { (9 * mr * each).max(9 * 40).max((3 * (mr + 2) + 9) * each) + 8 * each };
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

/// Tenths of a cycle for one reduction step of a tile of wide vectors: multiply-adds, of which two start in a cycle up to 256
/// bits and one beyond, their latency, and loads.
fn wide_cost(machine: &Machine, mr: usize, nv: usize) -> usize {
    let each = if machine.lanes > 8 { 10 } else { 5 };
    let loads = nv * each + if machine.by_element { (5 * mr).div_ceil(4) } else { 5 * mr };
    // What remains of the others' time: loads that wait, those of columns more, since they come from further away.
    (mr * nv * each).max(40).max(loads) + (loads + nv * each) / 8
}

/// Tiles with the tenths of a cycle that one reduction step takes, measured in cache (`benches/contract.rs`).
///
/// With 16 registers more than eight accumulators spill, and fewer wait for the latency of a multiply-add (40).
fn tiles(machine: &Machine) -> &'static [(usize, usize, usize)] {
    if machine.n_registers >= 32 {
        &[
            (8, 2, 85),
            (4, 4, 85),
            (6, 2, 65),
            (5, 2, 55),
            (4, 2, 45),
            (3, 4, 65),
            (3, 2, 40),
            (2, 8, 90),
            (2, 4, 45),
            (2, 2, 40),
            (1, 8, 50),
            (1, 4, 40),
            (8, 1, 48),
            (4, 1, 40),
        ]
    } else {
        &[(4, 2, 44), (3, 2, 40), (2, 4, 53), (2, 2, 40), (1, 8, 50), (1, 4, 40), (1, 2, 40), (8, 1, 48), (4, 1, 40)]
    }
}

/// Tenths of a cycle for one reduction step of a tile.
fn step_cost(machine: &Machine, mr: usize, nv: usize) -> usize {
    if machine.exact {
        return wide_cost(machine, mr, nv);
    }
    tiles(machine).iter().find(|t| (t.0, t.1) == (mr, nv)).map_or_else(|| (mr * nv * 6).max(40), |t| t.2)
}

/// The tile with the least cost for `rows` by `columns` outputs, `lanes` columns in a vector.
///
/// No more than `max_rows` rows, where there are tiles with so few.
pub(super) fn choose_tile(machine: &Machine, rows: usize, columns: usize, max_rows: usize) -> Tile {
    let vectors = columns.div_ceil(machine.lanes as usize).max(1);
    if let Some(Tile { mr, nv }) = machine.choice.tile {
        return Tile { mr: mr.min(rows.max(1)), nv: nv.min(vectors) };
    }
    let cost = |(mr, nv): (usize, usize)| covering_cost(machine, rows, vectors, Tile { mr, nv });
    let table: Vec<(usize, usize)> =
        if machine.exact { wide_tiles(machine).collect() } else { tiles(machine).iter().map(|t| (t.0, t.1)).collect() };
    let (mr, nv) = table
        .into_iter()
        .filter(|t| (t.1 <= vectors || t.1 == 1) && t.0 <= max_rows.max(4))
        .min_by_key(|&t| (cost(t), t.0 * t.1))
        .unwrap_or((1, 1));
    Tile { mr: mr.min(rows.max(1)), nv: nv.min(vectors) }
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
    use super::{Choice, Machine, Tile, choose_tile};

    #[test]
    fn choices_read_back() {
        for machine in [Machine::vector128(16, true), Machine::wide(8, 16), Machine::wide(16, 32)] {
            let others = machine.other_choices();
            assert!(others.len() >= 7);
            for choice in others {
                assert_eq!(choice.to_string().parse(), Ok(choice));
            }
        }
        assert_eq!("order=ahead steps=0".parse::<Choice>(), Err("`steps=0` is not a part of a choice".to_owned()));
        assert_eq!("convolution=winograd3".parse::<Choice>(), Err("`convolution=winograd3` is not a part of a choice".to_owned()));
        assert_eq!("tile=3".parse::<Choice>(), Err("`tile=3` is not a part of a choice".to_owned()));
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
