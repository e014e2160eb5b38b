//! Computations that do not depend on each other, side by side: a core starts instructions in the order of the code, so that long
//! chains one after the other would leave it waiting.

use std::collections::HashSet;

use super::Emitter;
use crate::nest::{self, Op, Reg, Stmt, for_each_operand};
use crate::schedule::ScheduleError;

impl Emitter {
    /// Emits `f` of `0..n`, none of which may read what another stores: what each computes side by side, then the stores.
    pub(in crate::schedule) fn side_by_side(
        &mut self,
        n: usize,
        mut f: impl FnMut(&mut Self, usize) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        let mut parts = vec![];
        for i in 0..n {
            let mut result = Ok(());
            let mut b = std::mem::replace(&mut self.b, nest::Builder::new("", ""));
            let part = b.block(|b| {
                std::mem::swap(b, &mut self.b);
                result = f(self, i);
                std::mem::swap(b, &mut self.b);
            });
            self.b = b;
            result?;
            parts.push(part);
        }
        for stmt in interleaved(parts) {
            self.b.push(stmt);
        }
        Ok(())
    }
}

/// One statement of each part in turn, as far as its operands are there. Parts use only registers of themselves and of parts before.
fn interleaved(parts: Vec<Vec<Stmt>>) -> Vec<Stmt> {
    let mut waiting: HashSet<Reg> = HashSet::new();
    for stmt in parts.iter().flatten() {
        match stmt {
            Stmt::Set { reg, .. } if waiting.insert(*reg) => {}
            Stmt::Store { .. } => {}
            // Control flow, or a register that changes.
            _ => return parts.into_iter().flatten().collect(),
        }
    }
    let mut merged = vec![];
    let mut stores = vec![];
    let mut queues = vec![];
    for mut part in parts {
        stores.push(part.split_off(first_store(&part)));
        queues.push(part.into_iter().peekable());
    }
    while queues.iter_mut().any(|q| q.peek().is_some()) {
        for queue in &mut queues {
            let ready = |stmt: &Stmt| {
                let Stmt::Set { op, .. } = stmt else { return true };
                let mut ready = true;
                for_each_operand(op, |r| ready &= !waiting.contains(&r));
                ready
            };
            let Some(stmt) = queue.next_if(ready) else { continue };
            if let Stmt::Set { reg, .. } = &stmt {
                waiting.remove(reg);
            }
            merged.push(stmt);
        }
    }
    merged.extend(stores.into_iter().flatten());
    merged
}

/// Where the stores of a part begin, lanes that are stored one by one included.
fn first_store(part: &[Stmt]) -> usize {
    let Some(first) = part.iter().position(|s| matches!(s, Stmt::Store { .. })) else { return part.len() };
    match part[..first].last() {
        Some(Stmt::Set { op: Op::Lane(..), .. }) => first - 1,
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::interleaved;
    use crate::nest::{Access, Affine, BinaryOp, Builder, Reg};
    use crate::tensor::DType;

    #[test]
    fn chains_alternate_and_wait_for_what_they_share() {
        let mut b = Builder::new("chains", "");
        let (x, y) = (b.buffer("x", DType::F32, 2, Access::Read), b.buffer("y", DType::F32, 2, Access::Write));
        let mut shared: Option<Reg> = None;
        let parts = (0..2).map(|i| {
            b.block(|b| {
                let v = b.load(x, Affine::constant(i), 1);
                let square = b.binary(BinaryOp::Mul, v, v);
                let root = *shared.get_or_insert(square);
                let sum = b.binary(BinaryOp::Add, square, root);
                b.store(y, Affine::constant(i), sum);
            })
        });
        let parts = parts.collect();
        for stmt in interleaved(parts) {
            b.push(stmt);
        }
        insta::assert_snapshot!(b.finish(), @"
        kernel @chains (x: f32[2] read, y: f32[2] write) {
          %0: f32 = load x[0]
          %3: f32 = load x[1]
          %1: f32 = mul %0, %0
          %4: f32 = mul %3, %3
          %2: f32 = add %1, %1
          %5: f32 = add %4, %1
          store y[0], %2
          store y[1], %5
        }
        ");
    }
}
