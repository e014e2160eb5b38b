//! Registers: liveness over the linear list, a linear scan over whole lifetimes, and stack slots for what does not fit.
//!
//! [`check_innermost`] tells the kernels that another schedule would serve better.

use std::collections::HashMap;

use iced_x86::{Code, Register};

use super::inst::{Base, Body, Class, Inst, Label, Mem, Operand, Step, View, Virtual};
use super::{Isa, Refused};
use crate::codegen::clif::N_PARAMS;

/// The physical register of every virtual one.
#[derive(Debug)]
pub(super) struct Allocation {
    physical: Vec<Option<u8>>,
}

/// General registers in the order in which they are taken: the first four bring the parameters, the last six belong to the
/// caller and are saved.
const GENERAL: [Register; 15] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::RAX,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::RBX,
    Register::RBP,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
/// Position in [`GENERAL`] of the first that must be saved.
const FIRST_SAVED: usize = 9;
/// Rounds of spilling before giving up.
const MAX_ROUNDS: usize = 40;

impl Allocation {
    fn position(&self, v: Virtual) -> Option<usize> {
        self.physical[v.0 as usize].map(usize::from)
    }

    /// The register for an operand; `None` for one that is never used.
    pub(super) fn register(&self, v: Virtual, view: View) -> Option<Register> {
        let n = self.position(v)?;
        Some(match view {
            View::X => Register::XMM0 + n as u32,
            View::Y => Register::YMM0 + n as u32,
            View::Z => Register::ZMM0 + n as u32,
            View::K => Register::K1 + n as u32,
            View::R64 => GENERAL[n],
            View::R32 => Register::EAX + (GENERAL[n] as u32 - Register::RAX as u32),
            View::R16 => Register::AX + (GENERAL[n] as u32 - Register::RAX as u32),
            View::R8 => low_byte(GENERAL[n]),
        })
    }

    /// Registers that the function must save, among those it uses.
    pub(super) fn saved(&self, body: &Body) -> Vec<Register> {
        let mut used = [false; GENERAL.len()];
        for (n, class) in self.physical.iter().zip(&body.classes) {
            if let (Some(n), Class::General) = (n, class) {
                used[*n as usize] = true;
            }
        }
        (FIRST_SAVED..GENERAL.len()).filter(|&n| used[n]).map(|n| GENERAL[n]).collect()
    }
}

fn low_byte(r: Register) -> Register {
    match r {
        Register::RDI => Register::DIL,
        Register::RAX => Register::AL,
        Register::RCX => Register::CL,
        Register::RDX => Register::DL,
        Register::RSI => Register::SIL,
        Register::RBX => Register::BL,
        Register::RBP => Register::BPL,
        Register::R8 => Register::R8L,
        Register::R9 => Register::R9L,
        Register::R10 => Register::R10L,
        Register::R11 => Register::R11L,
        Register::R12 => Register::R12L,
        Register::R13 => Register::R13L,
        Register::R14 => Register::R14L,
        _ => Register::R15L,
    }
}

/// Finds a register for everything, spilling where it must.
pub(super) fn allocate(body: &mut Body, isa: Isa) -> Result<Allocation, Refused> {
    let mut is_reload = vec![false; body.classes.len()];
    for _ in 0..MAX_ROUNDS {
        let lifetimes = Lifetimes::of(body);
        let (allocation, spilled) = scan(body, isa, &lifetimes, &is_reload)?;
        if spilled.is_empty() {
            return Ok(allocation);
        }
        for v in spilled {
            spill(body, isa, v);
        }
        is_reload.resize(body.classes.len(), true);
    }
    Err(Refused("its registers do not settle".to_owned()))
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
    fn of(body: &Body) -> Self {
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
fn blocks(body: &Body) -> Vec<Block> {
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
            && let Step::Jump(code, label) = &body.steps[block.end - 1]
        {
            block.next.extend(place.get(label));
            if *code != Code::Jmp_rel32_64 {
                block.next.push(b + 1);
            }
        }
    }
    blocks
}

fn n_registers(isa: Isa, class: Class) -> usize {
    match (class, isa) {
        (Class::General, _) => GENERAL.len(),
        (Class::Vector(_), Isa::V2 | Isa::V3) => 16,
        (Class::Vector(_), Isa::V4) => 32,
        (Class::Mask, _) => 7,
    }
}

fn bank(class: Class) -> usize {
    match class {
        Class::General => 0,
        Class::Vector(_) => 1,
        Class::Mask => 2,
    }
}

fn scan(body: &Body, isa: Isa, l: &Lifetimes, is_reload: &[bool]) -> Result<(Allocation, Vec<Virtual>), Refused> {
    let mut order: Vec<(usize, usize, Virtual)> =
        l.range.iter().enumerate().filter_map(|(i, r)| r.map(|(a, b)| (a, b, Virtual(i as u32)))).collect();
    order.sort_unstable_by_key(|&(start, end, v)| (if (v.0 as usize) < N_PARAMS { 0 } else { start + 1 }, end, v));
    let mut physical: Vec<Option<u8>> = vec![None; body.classes.len()];
    let mut free = [Class::General, Class::Vector(4), Class::Mask].map(|c| u64::MAX >> (64 - n_registers(isa, c)));
    let mut active: [Vec<(usize, Virtual)>; 3] = Default::default();
    let mut spilled = vec![];
    for (start, end, v) in order {
        let b = bank(body.classes[v.0 as usize]);
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

/// Code that moves a register of a class from memory, and to it.
fn moves(class: Class, isa: Isa) -> (Code, Code, View) {
    match class {
        Class::General => (Code::Mov_r64_rm64, Code::Mov_rm64_r64, View::R64),
        Class::Vector(lanes) => (super::forms::LOAD.code(isa, lanes), super::forms::STORE.code(isa, lanes), View::lanes(lanes)),
        Class::Mask => (Code::VEX_Kmovw_kr_km16, Code::VEX_Kmovw_m16_kr, View::K),
    }
}

/// Keeps a register in a slot of the stack, and moves it in and out where it is used.
fn spill(body: &mut Body, isa: Isa, v: Virtual) {
    let class = body.classes[v.0 as usize];
    let slot = Operand::Mem(Mem { base: Base::Slot(body.n_slots), index: None, displacement: 0 }, false);
    body.n_slots += 1;
    let (load, store, view) = moves(class, isa);
    let (steps, depths) = (std::mem::take(&mut body.steps), std::mem::take(&mut body.depths));
    for (step, depth) in steps.into_iter().zip(depths) {
        let push = |body: &mut Body, step: Step| {
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
        let plain = |code: Code, operands: [Operand; 2]| Step::Inst(Inst { code, operands: operands.to_vec(), mask: None });
        if read {
            push(body, plain(load, [Operand::Def(t, view), slot]));
        }
        push(body, Step::Inst(inst));
        if written {
            push(body, plain(store, [slot, Operand::Use(t, view)]));
        }
    }
}

/// Refuses a function that moves registers in and out of the stack all the time in a loop without loops inside.
pub(super) fn check_innermost(body: &Body) -> Result<(), Refused> {
    let mut head: HashMap<Label, usize> = HashMap::new();
    let mut inner_end = 0;
    for (i, step) in body.steps.iter().enumerate() {
        match step {
            Step::Label(label) => {
                head.insert(*label, i);
            }
            Step::Jump(_, label) => {
                let Some(&first) = head.get(label) else { continue };
                if first >= inner_end {
                    let touches = |s: &&Step| matches!(s, Step::Inst(inst) if inst.operands.iter().any(|o| matches!(o, Operand::Mem(m, _) if matches!(m.base, Base::Slot(_)))));
                    let n = body.steps[first..i].iter().filter(touches).count();
                    if n * 10 > i - first {
                        return Err(Refused(format!("{n} of {} instructions of a loop would be moves to and from the stack", i - first)));
                    }
                }
                inner_end = i;
            }
            Step::Inst(_) => {}
        }
    }
    Ok(())
}
