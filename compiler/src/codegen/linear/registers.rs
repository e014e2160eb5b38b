//! Registers: liveness over the linear list, a linear scan over whole lifetimes, and stack slots for what does not fit.
//!
//! [`check_innermost`] tells the kernels that another schedule would serve better.

use std::collections::HashMap;

use super::Refused;
use super::list::{Body, Instruction, Label, Step, Virtual};
use crate::codegen::clif::N_PARAMS;

/// The registers of a machine, in banks that are numbered from 0. Those of bank 0 bring the parameters, the first ones first.
pub(in crate::codegen) trait File<I: Instruction> {
    /// How many banks there are.
    const N_BANKS: usize;
    /// The bank of a class.
    fn bank(class: I::Class) -> usize;
    /// How many registers a bank has, at least one.
    fn n_registers(&self, bank: usize) -> usize;
    /// A load of a spilled register.
    fn load_slot(&self, class: I::Class, to: Virtual, slot: usize) -> I;
    /// A store of a spilled register.
    fn store_slot(&self, class: I::Class, slot: usize, from: Virtual) -> I;
}

/// The physical register of every virtual one.
#[derive(Debug)]
pub(in crate::codegen) struct Allocation {
    physical: Vec<Option<u8>>,
}

impl Allocation {
    /// The position of a register in its bank; `None` for one that is never used.
    pub(in crate::codegen) fn position(&self, v: Virtual) -> Option<usize> {
        self.physical[v.0 as usize].map(usize::from)
    }

    /// Which registers of a bank of at most 64 are used.
    pub(in crate::codegen) fn used<I: Instruction, F: File<I>>(&self, body: &Body<I>, bank: usize) -> u64 {
        let in_bank = self.physical.iter().zip(&body.classes).filter(|(_, class)| F::bank(**class) == bank);
        in_bank.filter_map(|(n, _)| *n).fold(0, |used, n| used | 1 << n)
    }
}

/// Rounds of spilling before giving up.
const MAX_ROUNDS: usize = 40;

/// Finds a register for everything, spilling where it must.
pub(in crate::codegen) fn allocate<I: Instruction, F: File<I>>(body: &mut Body<I>, file: &F) -> Result<Allocation, Refused> {
    let mut is_reload = vec![false; body.classes.len()];
    for _ in 0..MAX_ROUNDS {
        let lifetimes = Lifetimes::of(body);
        let (allocation, spilled) = scan(body, file, &lifetimes, &is_reload)?;
        if spilled.is_empty() {
            return Ok(allocation);
        }
        for v in spilled {
            spill(body, file, v);
        }
        is_reload.resize(body.classes.len(), true);
    }
    Err(Refused("its registers do not settle".to_owned()))
}

/// How many registers of a bank hold something at each step, by what [`allocate`] counts.
pub(in crate::codegen) fn pressure<I: Instruction, F: File<I>>(body: &Body<I>, bank: usize) -> Vec<usize> {
    let lifetimes = Lifetimes::of(body);
    let mut change = vec![0isize; 2 * body.steps.len() + 3];
    let in_bank = lifetimes.range.iter().zip(&body.classes).filter(|(_, class)| F::bank(**class) == bank);
    for (first, last) in in_bank.filter_map(|(range, _)| *range) {
        change[first] += 1;
        change[last + 1] -= 1;
    }
    let mut live = 0;
    let at = change.iter().map(|c| {
        live += c;
        live as usize
    });
    at.collect::<Vec<_>>().chunks(2).map(|c| c.iter().copied().max().unwrap_or(0)).collect()
}

/// First and last position at which each virtual register holds something, and how much its uses weigh.
struct Lifetimes {
    range: Vec<Option<(usize, usize)>>,
    weight: Vec<f64>,
    /// Copies into a register: source, and where.
    hints: HashMap<Virtual, (Virtual, usize)>,
}

struct Block {
    first: usize,
    end: usize,
    next: Vec<usize>,
}

impl Lifetimes {
    fn of<I: Instruction>(body: &Body<I>) -> Self {
        let n = body.classes.len();
        let mut l = Lifetimes { range: vec![None; n], weight: vec![0.0; n], hints: HashMap::new() };
        let blocks = blocks(body);
        let words = n.div_ceil(64);
        let (mut exposed, mut defined): (Vec<Vec<u64>>, Vec<Vec<u64>>) = (vec![], vec![]);
        for block in &blocks {
            let (mut e, mut d) = (vec![0u64; words], vec![0u64; words]);
            for i in block.first..block.end {
                let Step::Inst(inst) = &body.steps[i] else { continue };
                inst.for_each_register(|v, read, _| {
                    if read && !bit(&d, v) {
                        e[v.0 as usize / 64] |= 1 << (v.0 % 64);
                    }
                });
                inst.for_each_register(|v, _, written| {
                    if written {
                        d[v.0 as usize / 64] |= 1 << (v.0 % 64);
                    }
                });
                let scale = 8f64.powi(body.depths[i].min(12) as i32);
                inst.for_each_register(|v, read, written| {
                    if read {
                        l.extend(v, 2 * i);
                    }
                    if written {
                        l.extend(v, 2 * i + 1);
                    }
                    l.weight[v.0 as usize] += scale;
                });
                if let Some((from, to)) = inst.copy() {
                    l.hints.insert(to, (from, 2 * i));
                }
            }
            exposed.push(e);
            defined.push(d);
        }
        let mut live_in = exposed.clone();
        let mut live_out: Vec<Vec<u64>> = vec![vec![0; words]; blocks.len()];
        let mut changed = true;
        while changed {
            changed = false;
            for b in (0..blocks.len()).rev() {
                for w in 0..words {
                    let out = blocks[b].next.iter().fold(0, |x, &s| x | live_in[s][w]);
                    let inn = exposed[b][w] | (out & !defined[b][w]);
                    changed |= out != live_out[b][w] || inn != live_in[b][w];
                    live_out[b][w] = out;
                    live_in[b][w] = inn;
                }
            }
        }
        for (b, block) in blocks.iter().enumerate() {
            for (set, at) in [(&live_in[b], 2 * block.first), (&live_out[b], 2 * block.end)] {
                for (w, &word) in set.iter().enumerate() {
                    let mut rest = word;
                    while rest != 0 {
                        let v = Virtual((w * 64) as u32 + rest.trailing_zeros());
                        l.extend(v, at);
                        rest &= rest - 1;
                    }
                }
            }
        }
        l
    }

    fn extend(&mut self, v: Virtual, at: usize) {
        let range = &mut self.range[v.0 as usize];
        *range = Some(range.map_or((at, at), |(a, b)| (a.min(at), b.max(at))));
    }
}

fn bit(set: &[u64], v: Virtual) -> bool {
    set[v.0 as usize / 64] >> (v.0 % 64) & 1 == 1
}

/// Straight pieces of the list. Jumps to a failed check leave the function.
fn blocks<I: Instruction>(body: &Body<I>) -> Vec<Block> {
    let mut blocks: Vec<Block> = vec![];
    let mut place: HashMap<Label, usize> = HashMap::new();
    let mut first = 0;
    for (i, step) in body.steps.iter().enumerate() {
        match step {
            Step::Label(label) => {
                blocks.push(Block { first, end: i, next: vec![blocks.len() + 1] });
                first = i;
                place.insert(*label, blocks.len());
            }
            Step::Jump(..) => {
                blocks.push(Block { first, end: i + 1, next: vec![] });
                first = i + 1;
            }
            Step::Inst(_) => {}
        }
    }
    blocks.push(Block { first, end: body.steps.len(), next: vec![] });
    for (b, block) in blocks.iter_mut().enumerate() {
        if block.end > block.first
            && let Step::Jump(jump, label) = &body.steps[block.end - 1]
        {
            block.next.extend(place.get(label));
            if !I::always(*jump) {
                block.next.push(b + 1);
            }
        }
    }
    blocks
}

fn scan<I: Instruction, F: File<I>>(
    body: &Body<I>,
    file: &F,
    l: &Lifetimes,
    is_reload: &[bool],
) -> Result<(Allocation, Vec<Virtual>), Refused> {
    let mut order: Vec<(usize, usize, Virtual)> =
        l.range.iter().enumerate().filter_map(|(i, r)| r.map(|(a, b)| (a, b, Virtual(i as u32)))).collect();
    order.sort_unstable_by_key(|&(start, end, v)| (if (v.0 as usize) < N_PARAMS { 0 } else { start + 1 }, end, v));
    let mut physical: Vec<Option<u8>> = vec![None; body.classes.len()];
    let mut free: Vec<u64> = (0..F::N_BANKS).map(|bank| u64::MAX >> (64 - file.n_registers(bank))).collect();
    let mut active: Vec<Vec<(usize, Virtual)>> = vec![vec![]; F::N_BANKS];
    let mut spilled = vec![];
    for (start, end, v) in order {
        let b = F::bank(body.classes[v.0 as usize]);
        active[b].retain(|&(last, a)| {
            let stays = last >= start;
            if !stays && let Some(n) = physical[a.0 as usize] {
                free[b] |= 1 << n;
            }
            stays
        });
        let hinted = l.hints.get(&v).and_then(|(from, _)| physical[from.0 as usize]).filter(|&n| free[b] >> n & 1 == 1);
        if (v.0 as usize) < N_PARAMS {
            // A parameter is where the caller put it.
            free[b] &= !(1 << v.0);
            physical[v.0 as usize] = Some(v.0 as u8);
            active[b].push((end, v));
            continue;
        }
        if free[b] != 0 {
            let n = hinted.unwrap_or(free[b].trailing_zeros() as u8);
            free[b] &= !(1 << n);
            physical[v.0 as usize] = Some(n);
            active[b].push((end, v));
            continue;
        }
        let cost = |v: Virtual, end: usize| {
            let first = l.range[v.0 as usize].map_or(0, |r| r.0);
            let held = if is_reload.get(v.0 as usize) == Some(&true) { f64::INFINITY } else { 1.0 };
            held * l.weight[v.0 as usize] / (end - first + 1) as f64
        };
        let victim = active[b].iter().copied().min_by(|x, y| cost(x.1, x.0).total_cmp(&cost(y.1, y.0)));
        let Some((last, victim)) = victim else { return Err(Refused("it has no registers left".to_owned())) };
        if cost(victim, last) >= cost(v, end) {
            if cost(v, end).is_infinite() {
                return Err(Refused("one instruction needs too many registers".to_owned()));
            }
            spilled.push(v);
        } else {
            spilled.push(victim);
            physical[v.0 as usize] = physical[victim.0 as usize].take();
            active[b].retain(|a| a.1 != victim);
            active[b].push((end, v));
        }
    }
    Ok((Allocation { physical }, spilled))
}

/// Keeps a register in a slot of the stack, and moves it in and out where it is used.
fn spill<I: Instruction, F: File<I>>(body: &mut Body<I>, file: &F, v: Virtual) {
    let class = body.classes[v.0 as usize];
    let slot = body.n_slots;
    body.n_slots += 1;
    let (steps, depths) = (std::mem::take(&mut body.steps), std::mem::take(&mut body.depths));
    for (step, depth) in steps.into_iter().zip(depths) {
        let push = |body: &mut Body<I>, step: Step<I>| {
            body.steps.push(step);
            body.depths.push(depth);
        };
        let Step::Inst(mut inst) = step else {
            push(body, step);
            continue;
        };
        let (mut read, mut written) = (false, false);
        inst.for_each_register(|x, r, w| {
            if x == v {
                read |= r;
                written |= w;
            }
        });
        if !read && !written {
            push(body, Step::Inst(inst));
            continue;
        }
        let t = body.virtual_register(class);
        inst.rename(v, t);
        if read {
            push(body, Step::Inst(file.load_slot(class, t, slot)));
        }
        push(body, Step::Inst(inst));
        if written {
            push(body, Step::Inst(file.store_slot(class, slot, t)));
        }
    }
}

/// Refuses a function that moves registers in and out of the stack all the time in a loop without loops inside.
pub(in crate::codegen) fn check_innermost<I: Instruction>(body: &Body<I>) -> Result<(), Refused> {
    for (first, last) in body.innermost_loops() {
        let touches = |s: &&Step<I>| matches!(s, Step::Inst(inst) if inst.touches_slot());
        let n = body.steps[first..last].iter().filter(touches).count();
        if n * 10 > last - first {
            return Err(Refused(format!("{n} of {} instructions of a loop would be moves to and from the stack", last - first)));
        }
    }
    Ok(())
}
