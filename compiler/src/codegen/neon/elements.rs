//! Which scalars are loaded together, and which vectors.
//!
//! A scalar that is only broadcast into factors needs no broadcast: the instruction takes it from a lane. Where four such scalars,
//! or two, are neighbours in memory and nothing is stored between their loads, one load brings them; a schedule that writes out four
//! steps of a reduction has them in every row. Two vectors that follow each other come by one instruction too.

use std::collections::{BTreeMap, HashMap};

use crate::nest::{Affine, BinaryOp, BufferId, Kernel, Op, Reg, Stmt, Var, VecType};
use crate::tensor::DType;

/// Loads of one block that are made by another statement's.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// By the first statement of a group of scalars: the registers in each lane.
    pub(super) scalars: HashMap<usize, Vec<Vec<Reg>>>,
    /// By the first statement of a pair of vectors: the first and the second in memory.
    pub(super) pairs: HashMap<usize, (Reg, Reg)>,
    /// Statements that need no instruction any more.
    pub(super) made: Vec<bool>,
}

/// The farthest that two vectors of a pair may be apart: about one step of a register tile.
const PAIR_DISTANCE: usize = 64;

/// Whether a register is a scalar, or a broadcast of one, that only factors use: by how often factors of this block use it.
fn good_uses(block: &[Stmt], kernel: &Kernel, uses: &[u32], sets: &[u32]) -> (HashMap<Reg, u32>, HashMap<Reg, Reg>) {
    let mut as_factor: HashMap<Reg, u32> = HashMap::new();
    let mut splats: HashMap<Reg, Reg> = HashMap::new();
    for stmt in block {
        let Stmt::Set { reg, op } = stmt else { continue };
        let ty = kernel.regs[reg.0 as usize];
        match op {
            Op::Fma(a, b, _) | Op::Binary(BinaryOp::Mul, a, b) if ty.dtype == DType::F32 && a != b => {
                // One factor is by element; where both could be, the first is.
                let splat = [a, b].into_iter().find(|r| splats.contains_key(r));
                if let Some(&r) = splat {
                    *as_factor.entry(r).or_default() += 1;
                }
            }
            Op::Splat(a) if ty == (VecType { dtype: DType::F32, lanes: super::LANES }) && sets[reg.0 as usize] == 1 => {
                splats.insert(*reg, *a);
            }
            _ => {}
        }
    }
    let mut scalar_uses: HashMap<Reg, u32> = HashMap::new();
    splats.retain(|splat, _| as_factor.get(splat) == Some(&uses[splat.0 as usize]));
    splats.values().for_each(|scalar| *scalar_uses.entry(*scalar).or_default() += 1);
    scalar_uses.retain(|r, n| uses[r.0 as usize] == *n && sets[r.0 as usize] == 1);
    splats.retain(|_, scalar| scalar_uses.contains_key(scalar));
    (scalar_uses, splats)
}

/// The broadcasts of a block that are taken from a lane: of which scalar.
pub(super) fn broadcasts(block: &[Stmt], kernel: &Kernel, uses: &[u32], sets: &[u32]) -> HashMap<Reg, Reg> {
    good_uses(block, kernel, uses, sets).1
}

type Place = (BufferId, Vec<(Var, i64)>);
/// Loads by what varies of their addresses, then by what does not: statements and registers.
type Loads = HashMap<Place, BTreeMap<i64, Vec<(usize, Reg)>>>;

/// Plans the loads of a block.
pub(super) fn plan(block: &[Stmt], kernel: &Kernel, uses: &[u32], sets: &[u32]) -> Plan {
    let (scalars, _) = good_uses(block, kernel, uses, sets);
    let mut plan = Plan { made: vec![false; block.len()], ..Plan::default() };
    let mut open: Loads = HashMap::new();
    let mut vectors: Loads = HashMap::new();
    for (i, stmt) in block.iter().enumerate() {
        match stmt {
            Stmt::Set { reg, op: Op::Load { buffer, index } } if index.dynamic.is_empty() && sets[reg.0 as usize] == 1 => {
                let (ty, Affine { terms, constant }) = (kernel.regs[reg.0 as usize], &index.affine);
                let list = match ty {
                    _ if kernel.buffers[buffer.0 as usize].dtype != ty.dtype => continue,
                    VecType { dtype: DType::F32, lanes: 1 } if scalars.contains_key(reg) => &mut open,
                    VecType { dtype: DType::F32, lanes: super::LANES } => &mut vectors,
                    _ => continue,
                };
                list.entry((*buffer, terms.clone())).or_default().entry(*constant).or_default().push((i, *reg));
            }
            Stmt::Set { .. } | Stmt::Prefetch { .. } => {}
            Stmt::Store { .. } | Stmt::Loop(_) | Stmt::If { .. } => {
                close(&mut plan, &mut open);
                pair(&mut plan, &mut vectors);
            }
        }
    }
    close(&mut plan, &mut open);
    pair(&mut plan, &mut vectors);
    plan
}

/// Groups the scalars of a straight piece.
fn close(plan: &mut Plan, open: &mut Loads) {
    for places in open.drain().map(|(_, places)| places) {
        let constants: Vec<i64> = places.keys().copied().collect();
        let mut rest = &constants[..];
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|(c, n)| **c == *n).count();
            // What stands before a whole vector's place is loaded apart, where that leaves whole vectors.
            let before = (-first).rem_euclid(4) as usize;
            let n = match run {
                0..4 => run.min(2),
                _ if before > 0 && run >= 4 + before => before.min(2),
                _ => 4,
            };
            let members = &rest[..n];
            rest = &rest[n..];
            let loads: Vec<usize> = members.iter().flat_map(|c| places[c].iter().map(|l| l.0)).collect();
            if loads.len() < 2 {
                continue;
            }
            let leader = loads.iter().copied().min().expect("there are some");
            loads.iter().for_each(|&i| plan.made[i] = i != leader);
            plan.scalars.insert(leader, members.iter().map(|c| places[c].iter().map(|l| l.1).collect()).collect());
        }
    }
}

/// Pairs the vectors of a straight piece.
fn pair(plan: &mut Plan, vectors: &mut Loads) {
    for places in vectors.drain().map(|(_, places)| places) {
        let mut last: Option<(i64, usize, Reg)> = None;
        for (&constant, loads) in &places {
            let &[(i, reg)] = &loads[..] else {
                last = None;
                continue;
            };
            last = match last {
                Some((c, j, other)) if c + i64::from(super::LANES) == constant && i.abs_diff(j) <= PAIR_DISTANCE => {
                    plan.pairs.insert(i.min(j), (other, reg));
                    plan.made[i.max(j)] = true;
                    None
                }
                _ => Some((constant, i, reg)),
            };
        }
    }
}
