//! Independent computations side by side: a processor looks only so many instructions ahead, fewer than one polynomial has, so
//! several of them go forward together, statement by statement.

use std::collections::HashSet;

use super::Emitter;
use crate::nest::{self, Op, Reg, Stmt, for_each_operand};
use crate::schedule::ScheduleError;

/// Registers of the machine for each computation that goes forward beside others.
const REGISTERS_OF_A_STREAM: usize = 8;

impl Emitter {
    /// How many computations the registers have room for, whatever they are.
    pub(in crate::schedule) fn n_streams(&self) -> usize {
        (self.machine.n_registers / REGISTERS_OF_A_STREAM).max(1)
    }

    /// What `f` emits for each of `points`, in turn where it cannot be side by side. None reads what another stores. Twice as many as
    /// [`Emitter::n_streams`] go forward together where their own values have room; their constants come from memory then.
    pub(in crate::schedule) fn side_by_side<P>(
        &mut self,
        points: &[P],
        mut f: impl FnMut(&mut Self, &P) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        let mut streams = vec![];
        for point in points {
            let mut result = Ok(());
            let mut b = std::mem::replace(&mut self.b, nest::Builder::new("", ""));
            streams.push(b.block(|b| {
                std::mem::swap(b, &mut self.b);
                result = f(self, point);
                std::mem::swap(b, &mut self.b);
            }));
            self.b = b;
            result?;
        }
        let together = self.n_together(&streams);
        let mut streams = streams.into_iter().peekable();
        while streams.peek().is_some() {
            interleaved(streams.by_ref().take(together).collect()).into_iter().for_each(|s| self.b.push(s));
        }
        Ok(())
    }

    /// How many of these streams go forward together.
    fn n_together(&self, streams: &[Vec<Stmt>]) -> usize {
        let n = self.n_streams();
        let values = streams.iter().map(|s| n_live(s)).max().unwrap_or(0);
        // Where a multiply-add is two operations, what waits for it waits so long that values may come from memory too.
        let room = if self.machine.fma { self.machine.n_registers } else { 2 * self.machine.n_registers };
        // Arm has no operands in memory.
        if 2 * n * values <= room && !self.machine.by_element { 2 * n } else { n }
    }
}

/// The most values that are alive at once, of those that the stream computes.
fn n_live(stream: &[Stmt]) -> usize {
    let computed = |stmt: &Stmt| match stmt {
        Stmt::Set { reg, op } if !matches!(op, Op::Const(_)) => Some(*reg),
        _ => None,
    };
    let computed: HashSet<Reg> = stream.iter().filter_map(computed).collect();
    let (mut live, mut most) = (HashSet::<Reg>::new(), 0);
    for stmt in stream.iter().rev() {
        match stmt {
            Stmt::Set { reg, op } => {
                live.remove(reg);
                for_each_operand(op, |r| live.extend(computed.get(&r)));
            }
            Stmt::Store { value, .. } => live.extend(computed.get(value)),
            Stmt::Loop(_) | Stmt::If { .. } | Stmt::Prefetch { .. } => {}
        }
        most = most.max(live.len());
    }
    most
}

/// The statements of all streams, one of each in turn where what it reads is there, then the stores in their order.
/// Streams of anything but plain vector arithmetic follow each other.
fn interleaved(streams: Vec<Vec<Stmt>>) -> Vec<Stmt> {
    let (mut set, mut plain) = (HashSet::<Reg>::new(), streams.len() > 1);
    for stmt in streams.iter().flatten() {
        plain &= match stmt {
            Stmt::Set { op: Op::Pack(_) | Op::Lane(..) | Op::Check(..), .. } => false,
            Stmt::Set { reg, .. } => set.insert(*reg),
            Stmt::Store { .. } => true,
            Stmt::Loop(_) | Stmt::If { .. } | Stmt::Prefetch { .. } => false,
        };
    }
    if !plain {
        return streams.into_iter().flatten().collect();
    }
    let (mut list, mut stores) = (vec![], vec![]);
    let mut streams: Vec<_> = streams.into_iter().map(|s| s.into_iter().peekable()).collect();
    // What one stream sets and another reads is set by an earlier one, so the first that is left can always go on.
    while streams.iter_mut().any(|s| s.peek().is_some()) {
        for stream in &mut streams {
            let ready = |stmt: &Stmt| {
                let mut ready = true;
                if let Stmt::Set { op, .. } = stmt {
                    for_each_operand(op, |r| ready &= !set.contains(&r));
                }
                ready
            };
            match stream.next_if(ready) {
                Some(Stmt::Set { reg, op }) => {
                    set.remove(&reg);
                    list.push(Stmt::Set { reg, op });
                }
                Some(store) => stores.push(store),
                None => {}
            }
        }
    }
    list.extend(stores);
    list
}

#[cfg(test)]
mod tests {
    use super::{interleaved, n_live};
    use crate::nest::{Access, Affine, BinaryOp, Builder, Reg, Stmt, VecType};
    use crate::tensor::DType;

    /// Two sums of a vector and a constant that the first stream makes.
    fn streams(b: &mut Builder) -> (Vec<Vec<Stmt>>, [Reg; 5]) {
        let ty = VecType { dtype: DType::F32, lanes: 4 };
        let buffer = b.buffer("x", DType::F32, 8, Access::ReadWrite);
        let mut regs = vec![];
        let one = std::cell::Cell::new(None);
        let mut streams = vec![];
        for i in 0..2 {
            streams.push(b.block(|b| {
                let x = b.load(buffer, Affine::constant(4 * i), 4);
                let constant = one.get().unwrap_or_else(|| b.float(ty, 1.0));
                if one.replace(Some(constant)).is_none() {
                    regs.push(constant);
                }
                let sum = b.binary(BinaryOp::Add, x, constant);
                b.store(buffer, Affine::constant(4 * i), sum);
                regs.extend([x, sum]);
            }));
        }
        (streams, regs.try_into().expect("five registers"))
    }

    fn order(list: &[Stmt]) -> Vec<Option<Reg>> {
        list.iter().map(|s| if let Stmt::Set { reg, .. } = s { Some(*reg) } else { None }).collect()
    }

    #[test]
    fn statements_take_turns_and_stores_come_last() {
        let (streams, [one, x, sum, y, other]) = streams(&mut Builder::new("k", ""));
        assert_eq!(order(&interleaved(streams)), [Some(x), Some(y), Some(one), Some(other), Some(sum), None, None]);
    }

    #[test]
    fn constants_and_what_others_compute_are_no_values_of_a_stream() {
        let mut b = Builder::new("k", "");
        let (streams, _) = streams(&mut b);
        assert_eq!(streams.iter().map(|s| n_live(s)).collect::<Vec<_>>(), [1, 1]);
        let ty = VecType { dtype: DType::F32, lanes: 4 };
        let out = b.buffer("y", DType::F32, 4, Access::Write);
        let three = b.block(|b| {
            let [x, y, z] = [0, 4, 8].map(|i| b.load(out, Affine::constant(i), 4));
            let sum = b.binary(BinaryOp::Add, y, z);
            let one = b.float(ty, 1.0);
            let sum = b.fma(sum, one, x);
            b.store(out, Affine::constant(0), sum);
        });
        assert_eq!(n_live(&three), 3);
    }

    #[test]
    fn streams_that_set_a_register_twice_follow_each_other() {
        let (mut streams, [_, _, sum, _, _]) = streams(&mut Builder::new("k", ""));
        let again = streams[0][2].clone();
        streams[1].push(again);
        let flat: Vec<Stmt> = streams.iter().flatten().cloned().collect();
        assert_eq!(order(&interleaved(streams)), order(&flat));
        assert_eq!(flat.len(), 8);
        assert_eq!(order(&flat).iter().filter(|r| **r == Some(sum)).count(), 2);
    }
}
