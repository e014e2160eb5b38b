//! What the templates know of the machine.

use tinsmith_targets::{Arch, Level, Target};

use super::choice::{Choice, Forms, Order};
use super::cost::{Tile, WINDOW_TILES, wide_tiles};

/// The part of a target that schedules depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Lanes of `f32` in one vector register.
    pub lanes: u32,
    /// Vector registers.
    pub n_registers: usize,
    /// Whether multiply-add is one instruction.
    pub fma: bool,
    /// Multiply-adds that start in a cycle, each of `port_bits`.
    pub n_fma_ports: usize,
    /// Loads that start in a cycle, each of `port_bits`.
    pub n_load_ports: usize,
    /// Stores that start in a cycle, each of `port_bits`.
    pub n_store_ports: usize,
    /// Bits that go through a port in a cycle.
    pub port_bits: u32,
    /// Cycles from a multiply-add to one that adds to its result.
    pub fma_latency: usize,
    /// Bytes of first-level data cache.
    pub l1_bytes: usize,
    /// Lines of the first-level cache whose addresses may be so far apart as to share a set.
    pub l1_ways: usize,
    /// Bytes of second-level cache.
    pub l2_bytes: usize,
    /// Bytes of the last-level cache.
    pub l3_bytes: usize,
    /// Bytes of a cache line.
    pub line_bytes: usize,
    /// Bytes that come from the second-level cache in ten cycles beside multiply-adds of vectors that a port takes at once.
    pub l2_bytes_in_10_cycles: usize,
    /// The same from the last-level cache.
    pub l3_bytes_in_10_cycles: usize,
    /// The same from memory.
    pub memory_bytes_in_10_cycles: usize,
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
    /// Whether constants of 16 bits stay so.
    pub halves_stay: bool,
    /// Whether a product and the window that slides over it may be made block by block.
    pub in_blocks: bool,
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

impl From<&Target> for Machine {
    /// What every schedule takes from a target, and the 128-bit vectors of an emitter that has a register allocator of its own: of those
    /// registers that are named only since AVX-512 it makes no use.
    fn from(target: &Target) -> Self {
        let n_registers = target.n_vector_registers as usize;
        Machine {
            lanes: 4,
            n_registers: if target.arch == Arch::X86_64 { n_registers.min(16) } else { n_registers },
            fma: target.has_fma(),
            n_fma_ports: target.n_fma_ports as usize,
            n_load_ports: target.n_load_ports as usize,
            n_store_ports: target.n_store_ports as usize,
            port_bits: target.port_bits,
            fma_latency: target.fma_latency_cycles as usize,
            l1_bytes: target.l1d_bytes,
            l1_ways: target.l1d_ways,
            l2_bytes: target.l2_bytes,
            l3_bytes: target.l3_bytes,
            line_bytes: target.line_bytes,
            l2_bytes_in_10_cycles: target.l2_bytes_in_10_cycles as usize,
            l3_bytes_in_10_cycles: target.l3_bytes_in_10_cycles as usize,
            memory_bytes_in_10_cycles: target.memory_bytes_in_10_cycles as usize,
            exact: false,
            by_element: false,
            shuffles: Shuffles::None,
            dot: Dot::None,
            choice: Choice::ALL[0],
            convolution: Convolution::Fastest,
            threads: 1,
            weights_stay: false,
            halves_stay: false,
            in_blocks: true,
        }
    }
}

impl Machine {
    /// A 128-bit machine with so many vector registers, else like most of x86-64.
    pub fn vector128(n_registers: usize, fma: bool) -> Self {
        Machine { n_registers, fma, l2_bytes: 512 << 10, ..Machine::from(&Target::x86_64(Level::V3)) }
    }

    /// Whether there are shuffles of two vectors.
    pub fn shuffles(&self) -> bool {
        self.shuffles != Shuffles::None
    }

    /// Whether tiles are transposed in registers: as many rows as a vector has lanes, and what is computed of them.
    pub fn transposes(&self) -> bool {
        self.shuffles() && self.n_registers > self.lanes as usize + 2
    }

    /// Whether to gather from places that are loaded as vectors takes less than to load each place and its element; where places are computed
    /// it always does.
    pub(super) fn gathers(&self) -> bool {
        self.exact && !self.by_element
    }

    /// The same machine with vectors of so many lanes, and an emitter that allocates so many registers as written.
    #[must_use]
    pub fn widened(self, lanes: u32, n_registers: usize) -> Self {
        let shuffles = if lanes == 16 { Shuffles::Any } else { Shuffles::Fours };
        Machine { lanes, n_registers, exact: true, shuffles, choice: Choice::new(Order::AtUse, 4), ..self }
    }

    /// A machine with so many vector registers and an emitter that allocates them as written; with vectors of 128 bits, one
    /// without fused multiply-add.
    pub fn wide(lanes: u32, n_registers: usize) -> Self {
        Machine::vector128(n_registers, lanes > 4).widened(lanes, n_registers)
    }

    /// Bytes between addresses that share a set of the first-level cache.
    pub(super) fn way_bytes(&self) -> usize {
        self.l1_bytes / self.l1_ways.max(1)
    }

    /// Bytes of rows that stay in the second-level cache beside a panel and the next one on its way.
    pub(super) fn rows_beside(&self, panel_bytes: usize) -> usize {
        (self.l2_bytes / 8 * 5).saturating_sub(2 * panel_bytes)
    }

    /// Tenths of a cycle in which a multiply-add of whole vectors starts.
    pub(super) fn fma_tenths(&self) -> usize {
        self.turns() * 10 / self.n_fma_ports.max(1)
    }

    /// Tenths of a cycle in which a load of a whole vector starts.
    pub(super) fn load_tenths(&self) -> usize {
        self.turns() * 10 / self.n_load_ports.max(1)
    }

    /// Tenths of a cycle in which a load of one element for all lanes starts.
    pub(super) fn broadcast_tenths(&self) -> usize {
        10 / self.n_load_ports.max(1)
    }

    /// Tenths of a cycle from a multiply-add to one that adds to its result.
    pub(super) fn latency_tenths(&self) -> usize {
        10 * self.fma_latency
    }

    /// Vectors of an element-wise stage that go forward side by side: as many as are stored while an operation waits for another.
    pub(super) fn vectors_at_once(&self) -> usize {
        (self.fma_latency * self.n_store_ports).clamp(1, self.n_registers.max(2) - 1)
    }

    /// Sums that hide the latency of multiply-adds.
    pub(super) fn sums_at_once(&self) -> usize {
        self.fma_latency * self.n_fma_ports
    }

    /// Sums of one output that go forward side by side: multiply-adds wait for two loads each, as far as those are not shared.
    pub(super) fn accumulators(&self) -> usize {
        (self.fma_latency * self.n_load_ports / 2).clamp(1, self.n_registers.max(2) - 1)
    }

    /// Cycles that a port is busy with a vector.
    pub(super) fn turns(&self) -> usize {
        (32 * self.lanes).div_ceil(self.port_bits.max(1)) as usize
    }

    /// What may be better than the choice that this machine comes with for a kernel of these forms, the most promising first.
    pub fn other_choices(&self, forms: &Forms) -> Vec<Choice> {
        let mut others: Vec<Choice> =
            forms.convolutions.iter().map(|&convolution| Choice { convolution: Some(convolution), ..self.choice }).collect();
        others.extend(forms.rows.iter().map(|&n| Choice { rows: Some(n), ..self.choice }));
        others.extend(forms.turns.iter().map(|&n| Choice { turn: Some(n), ..self.choice }));
        others.extend(forms.channels.iter().map(|&n| Choice { channels: Some(n), ..self.choice }));
        others.extend(forms.sums.iter().map(|&n| Choice { sums: Some(n), ..self.choice }));
        others.extend(self.other_tiles(forms));
        others.extend(forms.unrolls.iter().map(|&n| Choice { unroll: Some(n), ..self.choice }));
        others.extend(forms.lanes.iter().map(|&n| Choice { lanes: Some(n), ..self.choice }));
        others
    }

    /// The same of sums in register tiles.
    fn other_tiles(&self, forms: &Forms) -> Vec<Choice> {
        let mut others = vec![];
        let has_products = forms.tiles || !forms.convolutions.is_empty();
        if !self.exact {
            others.extend(Choice::ALL.into_iter().filter(|c| *c != self.choice && (has_products || forms.windows)));
            return others;
        }
        if forms.windows {
            others.extend(WINDOW_TILES.map(|(mr, nv)| Choice { window: Some(Tile { mr, nv }), ..self.choice }));
        }
        if has_products {
            others.extend((1..=4).map(|n| Choice { blocks: Some(n), ..self.choice }));
            for steps in [self.choice.steps, 8, 2] {
                let tiled = |(mr, nv)| Choice { tile: Some(Tile { mr, nv }), ..Choice::new(Order::AtUse, steps) };
                others.extend(wide_tiles(self).map(tiled));
            }
        }
        others
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
