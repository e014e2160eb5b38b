//! Random graphs: [`generate`] makes one from a seed, [`check`] compares it compiled with the interpreter, [`shrink`] makes a
//! failing one smaller.

mod check;
mod control_flow;
mod drawn;
mod generate;
mod heads;
mod learned;
mod more_operators;
mod network;
mod operators;
mod quantized;
mod ranged;
mod rarer_operators;
mod scatters;
mod search;

pub use check::{Found, check, values_of, ways};
pub use drawn::not_drawn;
pub use generate::generate;
pub use network::{Line, Network, Variable};
pub use ranged::{Sizes, check_range, check_range_from, generate_range};
pub use search::{AT_LEAST, Search, search};

/// A generator of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that depend on the seed alone.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// From `low` to `high`, both included.
    pub fn within(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of a list that is not empty.
    pub fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

/// The smallest network found that still fails, by taking lines away and by making results inputs.
pub fn shrink(network: &Network, seed: u64, fails: &dyn Fn(&Network) -> bool) -> Network {
    let mut best = network.clone();
    loop {
        let smaller = best.reductions(seed).into_iter().find(|n| n.weight() < best.weight() && fails(n));
        match smaller {
            Some(n) => best = n,
            None => return best,
        }
    }
}
