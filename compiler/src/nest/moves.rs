//! Elements that move onto themselves, where buffers share memory: their stores go, and what was computed for those.

use std::collections::{HashMap, HashSet};

use super::ir::{BufferId, Cond, Index, Kernel, Op, Reg, Stmt, for_each_operand};
use super::parallel::are_one;

/// The kernel where these pairs of buffers share memory, `true` for those that begin at one place, without stores of what is there.
pub fn without_own_moves(mut kernel: Kernel, same: &[(BufferId, BufferId, bool)]) -> Kernel {
    if same.is_empty() || !same.iter().all(|pair| are_one(&kernel, pair)) {
        return kernel;
    }
    let mut memory: Vec<usize> = (0..kernel.buffers.len()).collect();
    for &(a, b, _) in same {
        let (from, to) = (memory[b.0 as usize], memory[a.0 as usize]);
        memory.iter_mut().filter(|m| **m == from).for_each(|m| *m = to);
    }
    let mut body = std::mem::take(&mut kernel.body);
    if drop_stores(&memory, &mut body) {
        while drop_unused(&mut body) {}
    }
    kernel.body = body;
    kernel
}

/// Drops stores of what was loaded from the same place, with nothing stored to that memory meanwhile; whether there were any.
fn drop_stores(memory: &[usize], block: &mut Vec<Stmt>) -> bool {
    let of = |buffer: BufferId| memory[buffer.0 as usize];
    let mut loaded: HashMap<Reg, (usize, Index)> = HashMap::new();
    let mut dropped = false;
    block.retain_mut(|stmt| {
        match stmt {
            Stmt::Set { reg, op } => {
                loaded.retain(|r, (_, index)| r != reg && index.dynamic.iter().all(|d| d.0 != *reg));
                if let Op::Load { buffer, index } = op
                    && index.dynamic.iter().all(|d| d.0 != *reg)
                {
                    loaded.insert(*reg, (of(*buffer), index.clone()));
                }
            }
            Stmt::Store { buffer, index, value } => {
                if loaded.get(value).is_some_and(|(m, i)| (*m, i) == (of(*buffer), index)) {
                    dropped = true;
                    return false;
                }
                loaded.retain(|_, (m, _)| *m != of(*buffer));
            }
            Stmt::Loop(l) => {
                dropped |= drop_stores(memory, &mut l.body);
                loaded.clear();
            }
            Stmt::If { then, otherwise, .. } => {
                dropped |= drop_stores(memory, then);
                dropped |= drop_stores(memory, otherwise);
                loaded.clear();
            }
            Stmt::Prefetch { .. } => {}
        }
        true
    });
    dropped
}

/// Drops what sets registers that nothing reads, and loops and branches around nothing; whether there was any.
fn drop_unused(body: &mut Vec<Stmt>) -> bool {
    fn reads(block: &[Stmt], used: &mut HashSet<Reg>) {
        for stmt in block {
            match stmt {
                Stmt::Set { op, .. } => for_each_operand(op, |r| {
                    used.insert(r);
                }),
                Stmt::Store { index, value, .. } => {
                    used.extend(index.dynamic.iter().map(|d| d.0));
                    used.insert(*value);
                }
                Stmt::Loop(l) => reads(&l.body, used),
                Stmt::If { cond, then, otherwise } => {
                    if let Cond::Reg(r) = cond {
                        used.insert(*r);
                    }
                    reads(then, used);
                    reads(otherwise, used);
                }
                Stmt::Prefetch { .. } => {}
            }
        }
    }
    fn sweep(block: &mut Vec<Stmt>, used: &HashSet<Reg>) -> bool {
        let mut changed = false;
        block.retain_mut(|stmt| {
            let kept = match stmt {
                Stmt::Set { reg, op } => used.contains(reg) || matches!(op, Op::Check(..)),
                Stmt::Loop(l) => {
                    changed |= sweep(&mut l.body, used);
                    !l.body.is_empty()
                }
                Stmt::If { then, otherwise, .. } => {
                    changed |= sweep(then, used);
                    changed |= sweep(otherwise, used);
                    !then.is_empty() || !otherwise.is_empty()
                }
                Stmt::Store { .. } | Stmt::Prefetch { .. } => true,
            };
            changed |= !kept;
            kept
        });
        changed
    }
    let mut used = HashSet::new();
    reads(body, &mut used);
    sweep(body, &used)
}

#[cfg(test)]
mod tests {
    use super::without_own_moves;
    use crate::nest::{BufferId, parse};

    fn moved(body: &str, aligned: bool) -> String {
        let text = format!("kernel @k map() (x.0: f32[8] read, y.1: f32[8] write) {{\n{body}\n}}\n");
        let kernel = parse(&text).unwrap();
        without_own_moves(kernel, &[(BufferId(0), BufferId(1), aligned)]).to_string()
    }

    #[test]
    fn elements_that_stay_are_not_moved() {
        let copy =
            "  for i in 0..8 step 4 {\n    %0: f32x4 = load x.0[i]\n    store y.1[i], %0\n  }\n  %1: f32 = load x.0[3]\n  store y.1[2], %1";
        insta::assert_snapshot!(moved(copy, true), @"
        kernel @k map() (x.0: f32[8] read, y.1: f32[8] write) {
          %1: f32 = load x.0[3]
          store y.1[2], %1
        }
        ");
        assert!(moved(copy, false).contains("store y.1[i]"));
        let changed = "  %0: f32 = load x.0[3]\n  %1: f32 = load x.0[2]\n  store y.1[3], %1\n  store y.1[3], %0";
        insta::assert_snapshot!(moved(changed, true), @"
        kernel @k map() (x.0: f32[8] read, y.1: f32[8] write) {
          %0: f32 = load x.0[3]
          %1: f32 = load x.0[2]
          store y.1[3], %1
          store y.1[3], %0
        }
        ");
    }
}
