//! What may be decided by measuring, instead of by the model: the choice, its text, and which choices there are.

use std::fmt;
use std::str::FromStr;

use super::cost::Tile;
use super::machine::Convolution;

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

#[cfg(test)]
mod tests {
    use super::Choice;
    use crate::schedule::Machine;

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
}
