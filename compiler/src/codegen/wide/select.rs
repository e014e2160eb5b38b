//! The statements of a nest as instructions of x86-64.
//!
//! Every register of the nest has one virtual register. Constants have none: they are operands in memory, or broadcast
//! where they are used. A load with one use is put off until that use, which takes it as its operand.

use std::collections::{BTreeMap, HashMap, HashSet};

use iced_x86::Code;

use super::inst::{Base, Class, Inst, Mem, Operand, View, Virtual};
use super::operands::{Pending, is_long, is_narrow, is_wide, is_word};
use super::{Isa, Refused, Unit};
use crate::codegen::address::wide_displacement;
use crate::codegen::linear::flow::{Flow, Frame, Relation};
use crate::codegen::linear::legalize;
pub(super) use crate::codegen::linear::refuse;
use crate::codegen::linear::survey::{Survey, stored_tail};
use crate::nest::{self, BufferId, Index, Kernel, Op, Reg, Stmt, VecType, for_each_operand, for_each_set};
use crate::tensor::DType;

/// A function under construction.
pub(super) struct Select<'k> {
    pub(super) frame: Frame<'k, Inst>,
    pub(super) isa: Isa,
    pub(super) unit: Unit,
    pub(super) survey: Survey,
    pub(super) pending: HashMap<Reg, Pending>,
    /// Registers that hold bytes as they are in memory.
    pub(super) packed: Vec<bool>,
    /// How far apart the elements of one gather may be.
    pub(super) spreads: BTreeMap<Reg, i128>,
    pub(super) homes: Vec<Option<Virtual>>,
    masks: HashMap<u32, Virtual>,
    /// Scalars of memory that are only read as vectors of them, with the widest of these.
    broadcast: HashMap<Reg, Virtual>,
}

/// The instructions of a kernel.
pub(super) fn select(kernel: &Kernel, unit: Unit) -> Result<super::inst::Body, Refused> {
    let mut survey = Survey::of(kernel);
    let counted = std::mem::take(&mut survey.counted);
    let mut some = false;
    for_each_set(&kernel.body, &mut |_, op| some |= matches!(op, Op::Gather { .. }));
    let spreads = if some { nest::spreads(kernel) } else { BTreeMap::new() };
    let mut s = Select {
        frame: Frame::new(kernel, counted, wide_displacement)?,
        isa: unit.isa,
        unit,
        survey,
        pending: HashMap::new(),
        packed: legalize::packed(kernel),
        spreads,
        homes: vec![None; kernel.regs.len()],
        masks: HashMap::new(),
        broadcast: HashMap::new(),
    };
    s.entry()?;
    s.tail_masks();
    s.block(&kernel.body)?;
    Ok(s.frame.body)
}

impl<'k> Select<'k> {
    /// Makes the masks of the tails that are stored.
    fn tail_masks(&mut self) {
        if self.isa == Isa::V4 {
            let kernel = self.frame.kernel;
            let mut tails = HashSet::new();
            tail_masks(&kernel.body, kernel, &mut tails);
            let mut tails: Vec<u32> = tails.into_iter().collect();
            tails.sort_unstable();
            // More would not stay in registers anyway.
            for n in tails.into_iter().take(4) {
                let mask = self.new_mask(0, n);
                self.masks.insert(n, mask);
            }
        }
    }

    /// Where an access is.
    pub(super) fn address(&mut self, buffer: BufferId, index: &Index) -> Result<Mem, Refused> {
        let at = self.place(buffer, index)?;
        Ok(Mem { base: Base::Register(at.base), index: at.index, displacement: at.displacement })
    }

    /// A mask with `n` lanes from one on.
    pub(super) fn lanes_mask(&mut self, first: u32, n: u32) -> Virtual {
        match self.masks.get(&n).filter(|_| first == 0) {
            Some(&mask) => mask,
            None => self.new_mask(first, n),
        }
    }

    fn new_mask(&mut self, first: u32, n: u32) -> Virtual {
        let (bits, mask) = (self.general(), self.frame.body.virtual_register(Class::Mask));
        self.frame.body.inst(Code::Mov_r32_imm32, &[Operand::Def(bits, View::R32), Operand::Imm(((1 << n) - 1) << first)]);
        self.frame.body.inst(Code::VEX_Kmovw_kr_r32, &[Operand::Def(mask, View::K), Operand::Use(bits, View::R32)]);
        mask
    }

    fn set(&mut self, reg: Reg, op: &'k Op, rest: &'k [Stmt]) -> Result<(), Refused> {
        let ty = self.ty(reg);
        if matches!(op, Op::Const(_)) && self.constant(reg).is_some() {
            return Ok(());
        }
        match op {
            Op::Load { buffer, index } => {
                if self.frame.kernel.buffers[buffer.0 as usize].dtype != ty.dtype {
                    return refuse(format!("a load of {ty} from a buffer of another type"));
                }
                let m = self.address(*buffer, index)?;
                if can_wait(ty) && (self.used_soon(reg, index, rest) || self.is_broadcast(reg, index, rest)) {
                    self.home(reg)?;
                    self.pending.insert(reg, Pending::Load(m));
                    return Ok(());
                }
                let v = self.home(reg)?;
                self.load_now(v, reg, m)
            }
            // The bits of a load are a load.
            Op::Bitcast(a) if ty.lanes == 1 && is_word(ty.dtype) => {
                if let Some(&Pending::Load(m)) = self.pending.get(a)
                    && self.used_soon(reg, &Index::default(), rest)
                    && self.memory_stays(reg, rest)
                {
                    self.pending.remove(a);
                    self.home(reg)?;
                    self.pending.insert(reg, Pending::Load(m));
                    return Ok(());
                }
                self.op(reg, op)
            }
            // A vector of fewer lanes is the first lanes of a wider one.
            Op::Splat(a) if self.broadcast.contains_key(a) => {
                self.homes[reg.0 as usize] = Some(self.broadcast[a]);
                Ok(())
            }
            Op::Splat(a) if self.survey.uses[a.0 as usize] > 1 && matches!(self.pending.get(a), Some(Pending::Load(_))) => {
                self.op(reg, op)?;
                let v = self.home(reg)?;
                self.broadcast.insert(*a, v);
                Ok(())
            }
            Op::Splat(a) if (is_word(ty.dtype) || ty.dtype == DType::F64) && self.isa == Isa::V4 => {
                if let Some(&Pending::Load(m)) = self.pending.get(a)
                    && self.used_soon(reg, &Index::default(), rest)
                    && self.memory_stays(reg, rest)
                {
                    self.pending.remove(a);
                    self.home(reg)?;
                    self.pending.insert(reg, Pending::Broadcast(m));
                    return Ok(());
                }
                self.op(reg, op)
            }
            _ => self.op(reg, op),
        }
    }

    /// Whether a register is set once and used once, later in this block, with nothing in between that changes memory, control
    /// or the registers of the index.
    fn used_soon(&self, reg: Reg, index: &Index, rest: &[Stmt]) -> bool {
        if self.survey.uses[reg.0 as usize] != 1 || self.survey.sets[reg.0 as usize] != 1 {
            return false;
        }
        for stmt in rest {
            match stmt {
                Stmt::Set { reg: other, op } => {
                    let mut found = false;
                    for_each_operand(op, |r| found |= r == reg);
                    if found {
                        // An address is computed when it is needed.
                        return !matches!(op, Op::Load { .. } | Op::Gather { .. });
                    }
                    if index.dynamic.iter().any(|d| d.0 == *other) {
                        return false;
                    }
                }
                Stmt::Store { value, .. } => return *value == reg,
                Stmt::Prefetch { .. } => {}
                Stmt::Loop(_) | Stmt::If { .. } => return false,
            }
        }
        false
    }

    /// Whether all that a scalar is read for, later in this block, are vectors of it, none wider than the first.
    fn is_broadcast(&self, reg: Reg, index: &Index, rest: &[Stmt]) -> bool {
        let (ty, once) = (self.ty(reg), |r: Reg| self.survey.sets[r.0 as usize] == 1);
        if ty.lanes != 1 || !is_word(ty.dtype) || !index.dynamic.is_empty() || !once(reg) || !self.memory_stays(reg, rest) {
            return false;
        }
        let (mut left, mut most) = (self.survey.uses[reg.0 as usize], u32::MAX);
        for stmt in rest {
            match stmt {
                Stmt::Set { reg: other, op } => {
                    let mut n = 0;
                    for_each_operand(op, |r| n += u32::from(r == reg));
                    let lanes = self.ty(*other).lanes;
                    if n > 0 && (!matches!(op, Op::Splat(_)) || !once(*other) || lanes > most) {
                        return false;
                    }
                    (left, most) = (left - n, if n > 0 { lanes } else { most });
                    if left == 0 {
                        return true;
                    }
                }
                Stmt::Prefetch { .. } => {}
                Stmt::Store { .. } | Stmt::Loop(_) | Stmt::If { .. } => return false,
            }
        }
        false
    }

    /// Whether the registers in the address of a splat's load cannot change before the splat is used: they are set once, or
    /// nothing in between sets anything but fresh registers.
    fn memory_stays(&self, reg: Reg, rest: &[Stmt]) -> bool {
        for stmt in rest {
            if let Stmt::Set { reg: other, op } = stmt {
                let mut found = false;
                for_each_operand(op, |r| found |= r == reg);
                if found {
                    return true;
                }
                if self.ty(*other).dtype == DType::I64 && self.survey.sets[other.0 as usize] > 1 {
                    return false;
                }
            }
        }
        true
    }
}

impl<'k> Flow<'k> for Select<'k> {
    type Inst = Inst;

    const GENERAL: Class = Class::General;

    fn frame(&self) -> &Frame<'k, Inst> {
        &self.frame
    }

    fn frame_mut(&mut self) -> &mut Frame<'k, Inst> {
        &mut self.frame
    }

    fn move_general(&mut self, to: Virtual, from: Virtual) {
        if to != from {
            self.frame.body.inst(Code::Mov_r64_rm64, &[Operand::Def(to, View::R64), Operand::Use(from, View::R64)]);
        }
    }

    fn set_general(&mut self, to: Virtual, x: i64) {
        match u32::try_from(x) {
            Ok(x) => self.frame.body.inst(Code::Mov_r32_imm32, &[Operand::Def(to, View::R32), Operand::Imm((x as i32).into())]),
            Err(_) => self.frame.body.inst(Code::Mov_r64_imm64, &[Operand::Def(to, View::R64), Operand::Imm(x)]),
        }
    }

    fn add(&mut self, to: Virtual, v: Virtual) {
        self.frame.body.inst(Code::Add_r64_rm64, &[Operand::Both(to, View::R64), Operand::Use(v, View::R64)]);
    }

    fn subtract(&mut self, to: Virtual, v: Virtual) {
        self.frame.body.inst(Code::Sub_r64_rm64, &[Operand::Both(to, View::R64), Operand::Use(v, View::R64)]);
    }

    fn decrement(&mut self, to: Virtual) {
        self.frame.body.inst(Code::Dec_rm64, &[Operand::Both(to, View::R64)]);
    }

    fn add_to(&mut self, to: Virtual, from: Virtual, c: i64) {
        if c == 0 {
            self.move_general(to, from);
        } else if i32::try_from(c).is_ok() {
            if to == from {
                self.frame.body.inst(Code::Add_rm64_imm32, &[Operand::Both(to, View::R64), Operand::Imm(c)]);
            } else {
                let m = Mem::at(from, c);
                self.frame.body.inst(Code::Lea_r64_m, &[Operand::Def(to, View::R64), Operand::Mem(m, false)]);
            }
        } else {
            let t = self.general();
            self.set_general(t, c);
            self.frame.body.inst(Code::Add_r64_rm64, &[Operand::Both(t, View::R64), Operand::Use(from, View::R64)]);
            self.move_general(to, t);
        }
    }

    fn times(&mut self, v: Virtual, c: i64) -> Virtual {
        let t = self.general();
        if i32::try_from(c).is_ok() {
            self.frame.body.inst(Code::Imul_r64_rm64_imm32, &[Operand::Def(t, View::R64), Operand::Use(v, View::R64), Operand::Imm(c)]);
        } else {
            self.set_general(t, c);
            self.frame.body.inst(Code::Imul_r64_rm64, &[Operand::Both(t, View::R64), Operand::Use(v, View::R64)]);
        }
        t
    }

    fn scaled_sum(&mut self, a: Virtual, b: Virtual, scale: u32) -> Virtual {
        let sum = self.general();
        let m = Mem { base: Base::Register(a), index: Some((b, scale)), displacement: 0 };
        self.frame.body.inst(Code::Lea_r64_m, &[Operand::Def(sum, View::R64), Operand::Mem(m, false)]);
        sum
    }

    fn load_entry(&mut self, table: Virtual, entry: usize) -> Virtual {
        let v = self.general();
        let slot = Mem::at(table, entry as i64 * 8);
        self.frame.body.inst(Code::Mov_r64_rm64, &[Operand::Def(v, View::R64), Operand::Mem(slot, false)]);
        v
    }

    fn compare(&mut self, a: Virtual, b: Virtual) {
        self.frame.body.inst(Code::Cmp_r64_rm64, &[Operand::Use(a, View::R64), Operand::Use(b, View::R64)]);
    }

    fn compare_constant(&mut self, v: Virtual, c: i64) {
        if i32::try_from(c).is_ok() {
            self.frame.body.inst(Code::Cmp_rm64_imm32, &[Operand::Use(v, View::R64), Operand::Imm(c)]);
        } else {
            let t = self.general();
            self.set_general(t, c);
            self.frame.body.inst(Code::Cmp_r64_rm64, &[Operand::Use(v, View::R64), Operand::Use(t, View::R64)]);
        }
    }

    fn test_bool(&mut self, r: Reg) -> Result<(), Refused> {
        self.compare_bool(r)
    }

    fn index_value(&mut self, r: Reg) -> Result<Virtual, Refused> {
        self.value(r)
    }

    fn relation(relation: Relation) -> Code {
        match relation {
            Relation::Always => Code::Jmp_rel32_64,
            Relation::Equal => Code::Je_rel32_64,
            Relation::NotEqual => Code::Jne_rel32_64,
            Relation::NotBelow => Code::Jae_rel32_64,
        }
    }

    fn block(&mut self, block: &'k [Stmt]) -> Result<(), Refused> {
        let mut i = 0;
        while i < block.len() {
            match &block[i] {
                Stmt::Loop(l) => self.any_loop(l)?,
                Stmt::If { cond, then, otherwise } => self.branch(cond, then, otherwise)?,
                Stmt::Set { reg, op } => {
                    if let Some(tail) = self.survey.tail(&block[i..], self.frame.kernel) {
                        let (value, lanes) = (self.value(tail.vector)?, self.ty(tail.vector).lanes);
                        let m = self.address(tail.buffer, tail.index)?;
                        self.store_first(value, lanes, tail.n, m);
                        i += tail.n_statements();
                        continue;
                    }
                    self.set(*reg, op, &block[i + 1..])?;
                }
                Stmt::Store { buffer, index, value } => {
                    let ty = self.ty(*value);
                    if ty.dtype != self.frame.kernel.buffers[buffer.0 as usize].dtype {
                        return refuse(format!("a store of {ty} to a buffer of another type"));
                    }
                    let v = self.value(*value)?;
                    let m = self.address(*buffer, index)?;
                    self.store(v, *value, m)?;
                }
                Stmt::Prefetch { buffer, index } => {
                    let m = self.address(*buffer, &Index::from(index.clone()))?;
                    self.frame.body.inst(Code::Prefetcht1_m8, &[Operand::Mem(m, false)]);
                }
            }
            i += 1;
        }
        Ok(())
    }
}

/// Whether a load can be put off until its value is used.
fn can_wait(ty: VecType) -> bool {
    is_word(ty.dtype) || is_narrow(ty.dtype) || ty.dtype.is_half() || is_wide(ty.dtype) && !(is_long(ty.dtype) && ty.lanes == 1)
}

fn tail_masks(block: &[Stmt], kernel: &Kernel, found: &mut HashSet<u32>) {
    let mut i = 0;
    while i < block.len() {
        match &block[i] {
            Stmt::Loop(l) => tail_masks(&l.body, kernel, found),
            Stmt::If { then, otherwise, .. } => {
                tail_masks(then, kernel, found);
                tail_masks(otherwise, kernel, found);
            }
            _ => {
                if let Some(tail) = stored_tail(&block[i..], kernel) {
                    found.insert(tail.n);
                    i += tail.n_statements() - 1;
                }
            }
        }
        i += 1;
    }
}
