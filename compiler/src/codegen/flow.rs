//! Which steps of a program run when: one after the other, in branches, in loops.

use std::ops::Range;

use super::program::{Place, Program};
use crate::tensor::Size;

/// A part of a program's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flow {
    /// These steps, one after the other.
    Steps(Range<usize>),
    /// One of two parts.
    If(Box<If>),
    /// A part again and again.
    Loop(Box<Loop>),
}

/// One of two parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct If {
    /// A byte.
    pub condition: Place,
    /// What runs where it is not 0, and where it is.
    pub branches: [Vec<Flow>; 2],
}

/// A part that runs again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loop {
    /// How often at most.
    pub trips: Trips,
    /// A byte that is looked at before each iteration: there is none if it is 0.
    pub condition: Option<Place>,
    /// Where the number of the iteration goes, 64 bits.
    pub counter: Option<Place>,
    /// What one iteration hands to the next.
    pub states: Vec<State>,
    /// Pointers that move on by as much each time.
    pub slices: Vec<Slice>,
    /// What runs.
    pub body: Vec<Flow>,
    /// What runs once, at the end, and may read the states.
    pub exit: Vec<Flow>,
}

/// How often a loop runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trips {
    /// So often.
    Fixed(u64),
    /// As often as a number of 64 bits says.
    At(Place),
    /// As often as a size says, at most so often.
    Sized(Size, u64),
    /// As long as its condition holds.
    Unbounded,
}

/// A value that each iteration reads and gives anew: in its first place after the first iteration, in its second after the second, and
/// so on in turn. Nothing is copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// The pointer to what an iteration reads.
    pub current: usize,
    /// The pointer to what it writes.
    pub next: usize,
    /// What the first iteration reads.
    pub initial: Place,
    /// Where values go.
    pub places: [Place; 2],
    /// Its size.
    pub bytes: usize,
}

/// A part of a buffer for each iteration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    /// The pointer to it.
    pub pointer: usize,
    /// That of the first iteration.
    pub first: Place,
    /// From one to the next.
    pub stride_bytes: i64,
    /// Its size.
    pub bytes: usize,
}

impl Flow {
    /// The same with other places, pointers and steps: pointers and steps by how much their numbers grow.
    pub fn moved(&self, place: &dyn Fn(Place) -> Place, pointers: usize, steps: usize) -> Flow {
        let all = |list: &[Flow]| list.iter().map(|f| f.moved(place, pointers, steps)).collect();
        match self {
            Flow::Steps(range) => Flow::Steps(range.start + steps..range.end + steps),
            Flow::If(b) => Flow::If(Box::new(If { condition: place(b.condition), branches: [all(&b.branches[0]), all(&b.branches[1])] })),
            Flow::Loop(l) => Flow::Loop(Box::new(Loop {
                trips: match &l.trips {
                    Trips::At(at) => Trips::At(place(*at)),
                    trips => trips.clone(),
                },
                condition: l.condition.map(place),
                counter: l.counter.map(place),
                states: l
                    .states
                    .iter()
                    .map(|s| State {
                        current: s.current + pointers,
                        next: s.next + pointers,
                        initial: place(s.initial),
                        places: s.places.map(place),
                        bytes: s.bytes,
                    })
                    .collect(),
                slices: l.slices.iter().map(|s| Slice { pointer: s.pointer + pointers, first: place(s.first), ..s.clone() }).collect(),
                body: all(&l.body),
                exit: all(&l.exit),
            })),
        }
    }

    /// The steps in it.
    pub fn steps(&self) -> Range<usize> {
        fn join(parts: &[Flow]) -> Range<usize> {
            let ranges: Vec<Range<usize>> = parts.iter().map(Flow::steps).filter(|r| !r.is_empty()).collect();
            ranges.first().map_or(0, |r| r.start)..ranges.last().map_or(0, |r| r.end)
        }
        match self {
            Flow::Steps(range) => range.clone(),
            Flow::If(b) => join(&b.branches.concat()),
            Flow::Loop(l) => join(&[&l.body[..], &l.exit].concat()),
        }
    }

    /// The sizes that say how often loops run.
    pub(super) fn trips<'f>(&'f self, found: &mut Vec<&'f Size>) {
        match self {
            Flow::Steps(_) => {}
            Flow::If(b) => b.branches.iter().flatten().for_each(|f| f.trips(found)),
            Flow::Loop(l) => {
                if let Trips::Sized(size, _) = &l.trips {
                    found.push(size);
                }
                l.body.iter().chain(&l.exit).for_each(|f| f.trips(found));
            }
        }
    }

    /// Tells how often each step runs, as far as that is known: 1 in branches and in loops that end anywhere.
    fn count(&self, runs: u64, counts: &mut [u64]) {
        match self {
            Flow::Steps(range) => counts[range.clone()].fill(runs),
            Flow::If(b) => b.branches.iter().flatten().for_each(|f| f.count(runs, counts)),
            Flow::Loop(l) => {
                let trips = match l.trips {
                    Trips::Fixed(n) | Trips::Sized(_, n) if l.condition.is_none() => n,
                    _ => 1,
                };
                l.body.iter().for_each(|f| f.count(runs.saturating_mul(trips), counts));
                l.exit.iter().for_each(|f| f.count(runs, counts));
            }
        }
    }
}

impl Program {
    /// Which steps run when, never empty unless there are no steps.
    pub fn whole_flow(&self) -> Vec<Flow> {
        if self.flow.is_empty() { vec![Flow::Steps(0..self.steps.len())] } else { self.flow.clone() }
    }

    /// The flow in its smallest parts: single steps, whole branches and loops.
    pub fn units(&self) -> Vec<Flow> {
        let single = |part: Flow| match part {
            Flow::Steps(range) => range.map(|i| Flow::Steps(i..i + 1)).collect(),
            part => vec![part],
        };
        self.whole_flow().into_iter().flat_map(single).collect()
    }

    /// How often each step runs in one run of the program, as far as that is known: those of branches and of loops that end anywhere
    /// count once for each time that these are reached.
    pub fn step_runs(&self) -> Vec<u64> {
        let mut counts = vec![0; self.steps.len()];
        self.whole_flow().iter().for_each(|f| f.count(1, &mut counts));
        counts
    }
}
