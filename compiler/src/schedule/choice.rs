//! What may be decided by measuring, instead of by the model: the choice, its text, and which choices there are.

use std::fmt;
use std::str::FromStr;

use super::cost::Tile;
use super::machine::Convolution;

/// The most rows, or channels, that a file may ask for.
const MOST_ROWS: usize = 1 << 20;

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
    /// The register tile of sums whose operands no rows share, as of pooling and depthwise convolutions, instead of the model's.
    pub window: Option<Tile>,
    /// The blocks of a long reduction, instead of the model's, where it can be cut so.
    pub blocks: Option<usize>,
    /// How convolutions are computed, instead of the model's choice.
    pub convolution: Option<Convolution>,
    /// Rows of a block of stages that share loops, instead of the model's.
    pub rows: Option<usize>,
    /// Rows of a sliding window's result that are made in turn with what they need, instead of the model's, where they divide a block.
    pub turn: Option<usize>,
    /// Channels of a block of a sliding window, instead of the model's, where they divide all.
    pub channels: Option<usize>,
    /// Sums of a reduction in lanes that go forward side by side, instead of the model's.
    pub sums: Option<usize>,
    /// Vectors of element-wise stages in one iteration, instead of the model's.
    pub unroll: Option<usize>,
    /// The most lanes of element-wise stages, instead of the machine's.
    pub lanes: Option<u32>,
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
        Choice {
            order,
            steps,
            tile: None,
            window: None,
            blocks: None,
            convolution: None,
            rows: None,
            turn: None,
            channels: None,
            sums: None,
            unroll: None,
            lanes: None,
        }
    }
}

/// Which parts of a [`Choice`] a kernel depends on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Forms {
    /// Order, steps, tile and blocks: it has sums in register tiles.
    pub tiles: bool,
    /// Order, steps and the tile of windows: it has sums whose operands no rows share.
    pub windows: bool,
    /// How a convolution may be computed, the most promising first; empty where it has none, or where that is not to choose.
    pub convolutions: Vec<Convolution>,
    /// Other numbers of rows in a block of stages that share loops.
    pub rows: Vec<usize>,
    /// Other numbers of rows in a turn of a sliding window.
    pub turns: Vec<usize>,
    /// Other numbers of channels in a block of a sliding window.
    pub channels: Vec<usize>,
    /// Other numbers of sums at once of reductions in lanes.
    pub sums: Vec<usize>,
    /// Other numbers of vectors at once of element-wise stages.
    pub unrolls: Vec<usize>,
    /// Fewer lanes of element-wise stages.
    pub lanes: Vec<u32>,
}

impl Forms {
    /// What an element-wise stage could be of which so many vectors of so many lanes are one iteration.
    pub(super) fn offer_vectors(&mut self, unroll: usize, lanes: u32) {
        add(&mut self.unrolls, [8, 2, 1].into_iter().filter(|&n| n != unroll));
        add(&mut self.lanes, Some(lanes / 2).filter(|&n| n >= 4));
    }

    /// What a sliding window could be that makes so many of the rows of a block in turn: the next fewer and more, and all.
    pub(super) fn offer_turns(&mut self, n: usize, rows: usize) {
        let divides = |m: &usize| rows.is_multiple_of(*m);
        let fewer = (1..n).rev().find(divides);
        add(&mut self.turns, fewer.into_iter().chain((n + 1..=rows).find(divides)).chain(Some(rows)).filter(|&m| m != n));
    }

    /// What a sliding window could be of `n_blocks` blocks of so many channels: two of them at once, halves, or all.
    pub(super) fn offer_channels(&mut self, block: usize, n_blocks: usize) {
        let twice = Some(2 * block).filter(|_| n_blocks.is_multiple_of(2));
        let half = Some(block / 2).filter(|n| n.is_multiple_of(4) && *n > 0);
        add(&mut self.channels, twice.into_iter().chain(half).chain(Some(block * n_blocks)));
    }

    /// What a reduction in lanes could be that has so many sums at once, at most `most`.
    pub(super) fn offer_sums(&mut self, n: usize, most: usize) {
        add(&mut self.sums, [8, 4, 2, 16].into_iter().filter(|&other| other != n && other <= most));
    }
}

/// Adds what a list does not have.
fn add<T: PartialEq>(list: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    for x in more {
        if !list.contains(&x) {
            list.push(x);
        }
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
        if let Some(Tile { mr, nv }) = self.window {
            write!(f, " window={mr}x{nv}")?;
        }
        if let Some(n) = self.blocks {
            write!(f, " blocks={n}")?;
        }
        match self.convolution {
            Some(Convolution::Direct) => f.write_str(" convolution=direct"),
            Some(Convolution::Winograd(m, n)) if m == n => write!(f, " convolution=winograd{m}"),
            Some(Convolution::Winograd(m, n)) => write!(f, " convolution=winograd{m}x{n}"),
            Some(Convolution::Fastest) | None => Ok(()),
        }?;
        let numbers = [
            ("rows", self.rows),
            ("turn", self.turn),
            ("channels", self.channels),
            ("sums", self.sums),
            ("unroll", self.unroll),
            ("lanes", self.lanes.map(|n| n as usize)),
        ];
        numbers.into_iter().filter_map(|(name, n)| Some((name, n?))).try_for_each(|(name, n)| write!(f, " {name}={n}"))
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut choice = Choice::ALL[0];
        for word in text.split_whitespace() {
            let bad = || format!("`{word}` is not a part of a choice");
            let at_most = |t: &str, most: usize| t.parse().ok().filter(|n| (1..=most).contains(n)).ok_or_else(bad);
            let number = |t: &str| at_most(t, 64);
            let pair = |t: &str| t.split_once('x').ok_or_else(bad).and_then(|(a, b)| Ok((number(a)?, number(b)?)));
            let tile = |t: &str| pair(t).map(|(mr, nv)| Some(Tile { mr, nv }));
            match word.split_once('=').ok_or_else(bad)? {
                ("order", "ahead") => choice.order = Order::Ahead,
                ("order", "broadcasts-first") => choice.order = Order::BroadcastsFirst,
                ("order", "at-use") => choice.order = Order::AtUse,
                ("steps", steps) => choice.steps = number(steps)?,
                ("tile", t) => choice.tile = tile(t)?,
                ("window", t) => choice.window = tile(t)?,
                ("blocks", n) => choice.blocks = Some(number(n)?),
                ("rows", n) => choice.rows = Some(at_most(n, MOST_ROWS)?),
                ("turn", n) => choice.turn = Some(at_most(n, MOST_ROWS)?),
                ("channels", n) => choice.channels = Some(at_most(n, MOST_ROWS)?),
                ("sums", n) => choice.sums = Some(number(n)?),
                ("unroll", n) => choice.unroll = Some(number(n)?),
                ("lanes", n) => choice.lanes = Some(n.parse().ok().filter(|n| [4, 8, 16].contains(n)).ok_or_else(bad)?),
                ("convolution", "direct") => choice.convolution = Some(Convolution::Direct),
                ("convolution", text) => {
                    let outputs = text.strip_prefix("winograd").ok_or_else(bad)?;
                    let (down, across) = if outputs.contains('x') { pair(outputs)? } else { (number(outputs)?, number(outputs)?) };
                    choice.convolution = Some(Convolution::Winograd(down, across)).filter(|_| (down, across) != (1, 1));
                    choice.convolution.ok_or_else(bad)?;
                }
                _ => return Err(bad()),
            }
        }
        Ok(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::{Choice, Convolution, Forms};
    use crate::schedule::Machine;

    #[test]
    fn choices_read_back() {
        for machine in [Machine::vector128(16, true), Machine::wide(8, 16), Machine::wide(16, 32)] {
            let convolutions = vec![Convolution::Direct, Convolution::Winograd(3, 3), Convolution::Winograd(4, 1)];
            let forms = Forms {
                tiles: true,
                windows: true,
                convolutions,
                rows: vec![3, 1000],
                turns: vec![2],
                channels: vec![32, 128],
                sums: vec![16],
                unrolls: vec![8, 1],
                lanes: vec![4],
            };
            let others = machine.other_choices(&forms);
            assert!(others.len() >= 7);
            for choice in others {
                assert_eq!(choice.to_string().parse(), Ok(choice));
            }
        }
        assert_eq!("order=ahead steps=0".parse::<Choice>(), Err("`steps=0` is not a part of a choice".to_owned()));
        for text in [
            "rows=0",
            "channels=2000000",
            "turn=",
            "sums=65",
            "unroll=0",
            "lanes=3",
            "lanes=32",
            "convolution=winograd1",
            "convolution=winograd",
            "convolution=winograd2x",
            "convolution=",
            "window=0x2",
        ] {
            assert_eq!(text.parse::<Choice>(), Err(format!("`{text}` is not a part of a choice")));
        }
        assert_eq!("tile=3".parse::<Choice>(), Err("`tile=3` is not a part of a choice".to_owned()));
    }
}
