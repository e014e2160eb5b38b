//! Control flow, addresses and operands: the nest's structure as a linear list of instructions.
//!
//! Every register of the nest has one virtual register. Constants have none: they are operands in memory, or broadcast
//! where they are used. A load with one use is put off until that use, which takes it as its operand.

use std::collections::{HashMap, HashSet};

use iced_x86::Code;

use super::inst::{Base, Body, Class, FAIL, Label, Mem, Operand, View, Virtual};
use super::{Isa, Refused, forms};
use crate::codegen::address::{Addresses, Pointer, wide_displacement};
use crate::codegen::clif::N_PARAMS;
use crate::nest::{
    Affine, BufferId, Cond, Index, Kernel, Loop, Op, Reg, Scalar, Stmt, Var, VecType, for_each_operand, parallel::spread_loop,
};
use crate::tensor::DType;

/// A load that has not been emitted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    /// All lanes, from memory.
    Load(Mem),
    /// One element of memory in all lanes.
    Broadcast(Mem),
}

/// A function under construction.
pub(super) struct Select<'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) isa: Isa,
    pub(super) body: Body,
    pub(super) uses: Vec<u32>,
    pub(super) pending: HashMap<Reg, Pending>,
    sets: Vec<u32>,
    constants: Vec<Option<Scalar>>,
    homes: Vec<Option<Virtual>>,
    addresses: Addresses,
    vars: HashMap<Var, Virtual>,
    pointers: HashMap<Pointer, Virtual>,
    /// Variables whose value is asked for.
    counted: HashSet<Var>,
    masks: HashMap<u32, Virtual>,
    /// The loop of which only a part runs, and the part: its first and last iteration but one.
    part: Option<(Var, Virtual, Virtual)>,
}

/// The instructions of a kernel.
pub(super) fn select(kernel: &Kernel, isa: Isa) -> Result<Body, Refused> {
    let n = kernel.regs.len();
    let (mut uses, mut sets, mut constants) = (vec![0; n], vec![0; n], vec![None; n]);
    let mut counted = HashSet::new();
    survey(&kernel.body, &mut uses, &mut sets, &mut constants, &mut counted);
    for (i, c) in constants.iter_mut().enumerate() {
        if sets[i] != 1 {
            *c = None;
        }
    }
    let addresses = Addresses::plan(kernel, wide_displacement).map_err(|_| Refused("a variable is used outside its loop".to_owned()))?;
    let mut s = Select {
        kernel,
        isa,
        body: Body::default(),
        uses,
        pending: HashMap::new(),
        sets,
        constants,
        homes: vec![None; n],
        addresses,
        vars: HashMap::new(),
        pointers: HashMap::new(),
        counted,
        masks: HashMap::new(),
        part: None,
    };
    s.entry()?;
    s.block(&kernel.body)?;
    Ok(s.body)
}

/// Counts uses and definitions of registers, and finds the variables whose value is asked for.
fn survey(block: &[Stmt], uses: &mut [u32], sets: &mut [u32], constants: &mut [Option<Scalar>], counted: &mut HashSet<Var>) {
    for stmt in block {
        match stmt {
            Stmt::Loop(l) => survey(&l.body, uses, sets, constants, counted),
            Stmt::If { cond, then, otherwise } => {
                match cond {
                    Cond::Reg(r) => uses[r.0 as usize] += 1,
                    Cond::Within(ranges) => counted.extend(ranges.iter().flat_map(|r| r.0.terms.iter().map(|t| t.0))),
                }
                survey(then, uses, sets, constants, counted);
                survey(otherwise, uses, sets, constants, counted);
            }
            Stmt::Set { reg, op } => {
                sets[reg.0 as usize] += 1;
                if let Op::Const(c) = op {
                    constants[reg.0 as usize] = Some(*c);
                }
                if let Op::Index(a) = op {
                    counted.extend(a.terms.iter().map(|t| t.0));
                }
                for_each_operand(op, |r| uses[r.0 as usize] += 1);
            }
            Stmt::Store { index, value, .. } => {
                uses[value.0 as usize] += 1;
                index.dynamic.iter().for_each(|d| uses[d.0.0 as usize] += 1);
            }
        }
    }
}

pub(super) fn refuse<T>(what: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(what.into()))
}

/// A value that is held as 32-bit lanes.
pub(super) fn is_word(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::U32)
}

/// A value narrower than its lanes: it can be loaded and converted.
pub(super) fn is_narrow(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16)
}

impl<'k> Select<'k> {
    fn entry(&mut self) -> Result<(), Refused> {
        // The first virtual registers arrive in the first physical ones. They are copied while nothing can push them out.
        let [table, begin, end, worker] = std::array::from_fn::<_, N_PARAMS, _>(|_| self.general());
        let copy = |s: &mut Self, from: Virtual| {
            let v = s.general();
            s.move_general(v, from);
            v
        };
        let own_table = copy(self, table);
        if let Some(l) = spread_loop(self.kernel) {
            self.part = Some((l.var, copy(self, begin), copy(self, end)));
        }
        let worker = if self.kernel.buffers.iter().any(|b| b.private) { Some(copy(self, worker)) } else { None };
        for (i, buffer) in self.kernel.buffers.iter().enumerate() {
            let base = self.general();
            let slot = Mem { base: Base::Register(own_table), index: None, displacement: i as i64 * 8 };
            self.body.inst(Code::Mov_r64_rm64, &[Operand::Def(base, View::R64), Operand::Mem(slot, false)]);
            if let (true, Some(worker)) = (buffer.private, worker) {
                let moved = self.times(worker, buffer.copy_bytes().unwrap_or(0) as i64);
                self.body.inst(Code::Add_r64_rm64, &[Operand::Both(base, View::R64), Operand::Use(moved, View::R64)]);
            }
            self.pointers.insert(Pointer { buffer: BufferId(i as u32), terms: vec![], far: 0 }, base);
        }
        for pointer in std::mem::take(&mut self.addresses.fixed) {
            if pointer.far != 0 {
                let base = self.pointers[&Pointer { far: 0, ..pointer.clone() }];
                let moved = self.general();
                self.add_to(moved, base, pointer.far);
                self.pointers.insert(pointer, moved);
            }
        }
        if self.isa == Isa::V4 {
            let mut tails = HashSet::new();
            tail_masks(&self.kernel.body, self.kernel, &mut tails);
            let mut tails: Vec<u32> = tails.into_iter().collect();
            tails.sort_unstable();
            // More would not stay in registers anyway.
            for n in tails.into_iter().take(4) {
                let mask = self.new_mask(n);
                self.masks.insert(n, mask);
            }
        }
        Ok(())
    }

    pub(super) fn ty(&self, r: Reg) -> VecType {
        self.kernel.regs[r.0 as usize]
    }

    pub(super) fn general(&mut self) -> Virtual {
        self.body.virtual_register(Class::General)
    }

    pub(super) fn vector(&mut self, lanes: u32) -> Virtual {
        self.body.virtual_register(Class::Vector(lanes.max(4)))
    }

    /// A mask with the first `n` lanes.
    pub(super) fn first_lanes(&mut self, n: u32) -> Virtual {
        match self.masks.get(&n) {
            Some(&mask) => mask,
            None => self.new_mask(n),
        }
    }

    fn new_mask(&mut self, n: u32) -> Virtual {
        let (bits, mask) = (self.general(), self.body.virtual_register(Class::Mask));
        self.body.inst(Code::Mov_r32_imm32, &[Operand::Def(bits, View::R32), Operand::Imm((1 << n) - 1)]);
        self.body.inst(Code::VEX_Kmovw_kr_r32, &[Operand::Def(mask, View::K), Operand::Use(bits, View::R32)]);
        mask
    }

    /// The virtual register of a register, whatever it holds now.
    pub(super) fn home(&mut self, r: Reg) -> Result<Virtual, Refused> {
        if let Some(v) = self.homes[r.0 as usize] {
            return Ok(v);
        }
        let ty = self.ty(r);
        let lanes_known = matches!(ty.lanes, 1 | 4 | 8) || ty.lanes == 16 && self.isa == Isa::V4;
        let class = match ty.dtype {
            DType::I64 if ty.lanes == 1 => Class::General,
            DType::Bool if lanes_known && self.isa == Isa::V4 => Class::Mask,
            d if lanes_known && (is_word(d) || is_narrow(d) || d == DType::Bool) => Class::Vector(ty.lanes.max(4)),
            _ => return refuse(format!("it holds {ty}")),
        };
        let v = self.body.virtual_register(class);
        self.homes[r.0 as usize] = Some(v);
        Ok(v)
    }

    /// Its virtual register, if it has one.
    pub(super) fn known_home(&self, r: Reg) -> Option<Virtual> {
        self.homes[r.0 as usize]
    }

    /// The value of a register that is a constant throughout the kernel.
    pub(super) fn constant(&self, r: Reg) -> Option<Scalar> {
        self.constants[r.0 as usize]
    }

    /// The constant's bits, of a 32-bit type.
    pub(super) fn word_constant(&self, r: Reg) -> Option<u32> {
        let c = self.constant(r)?;
        match (self.ty(r).dtype, c) {
            (DType::F32, Scalar::Float(x)) => Some((x as f32).to_bits()),
            (DType::F32, Scalar::Int(x)) => Some((x as f32).to_bits()),
            (DType::I32 | DType::U32, Scalar::Int(x)) => Some(x as u32),
            (DType::Bool, Scalar::Int(x)) => Some(if x != 0 { u32::MAX } else { 0 }),
            _ => None,
        }
    }

    /// A constant as an operand of an instruction over `lanes` lanes.
    pub(super) fn pool(&mut self, bits: u32, lanes: u32) -> Operand {
        let (times, broadcast) = match self.isa {
            Isa::V4 => (1, true),
            Isa::V3 => (lanes.max(4), false),
        };
        let entry = self.body.pool.repeated(bits, times);
        Operand::Mem(Mem { base: Base::Pool(entry), index: None, displacement: 0 }, broadcast)
    }

    /// A constant in a fresh register.
    pub(super) fn fill(&mut self, bits: u32, lanes: u32) -> Virtual {
        let v = self.vector(lanes);
        self.fill_into(v, bits, lanes);
        v
    }

    pub(super) fn fill_into(&mut self, v: Virtual, bits: u32, lanes: u32) {
        if bits == 0 {
            let view = View::lanes(lanes);
            // Reads nothing, whatever the register held: only the encoding names it as a source.
            self.body.inst(forms::XOR.code(self.isa, lanes), &[Operand::Def(v, view), Operand::Def(v, view), Operand::Def(v, view)]);
            return;
        }
        let entry = self.body.pool.repeated(bits, 1);
        let mem = Mem { base: Base::Pool(entry), index: None, displacement: 0 };
        self.body.inst(forms::BROADCAST_LOAD.code(self.isa, lanes), &[Operand::Def(v, View::lanes(lanes)), Operand::Mem(mem, false)]);
    }

    /// A register's value as the last source operand of an instruction over its lanes: in a register or in memory.
    pub(super) fn operand(&mut self, r: Reg) -> Result<Operand, Refused> {
        let lanes = self.ty(r).lanes;
        if let Some(bits) = self.word_constant(r) {
            return Ok(self.pool(bits, lanes));
        }
        if is_word(self.ty(r).dtype) {
            match self.pending.get(&r) {
                Some(&Pending::Load(m)) if lanes > 1 => {
                    self.pending.remove(&r);
                    return Ok(Operand::Mem(m, false));
                }
                Some(&Pending::Load(m) | &Pending::Broadcast(m)) if self.isa == Isa::V4 => {
                    self.pending.remove(&r);
                    return Ok(Operand::Mem(m, true));
                }
                _ => {}
            }
        }
        let v = self.value(r)?;
        Ok(Operand::Use(v, View::lanes(lanes)))
    }

    /// Whether [`Self::operand`] would be in memory.
    pub(super) fn in_memory(&self, r: Reg) -> bool {
        let lanes = self.ty(r).lanes;
        is_word(self.ty(r).dtype)
            && (self.constant(r).is_some()
                || match self.pending.get(&r) {
                    Some(Pending::Load(_)) => lanes > 1 || self.isa == Isa::V4,
                    Some(Pending::Broadcast(_)) => self.isa == Isa::V4,
                    None => false,
                })
    }

    /// A register's value in a virtual register, which must not be changed.
    pub(super) fn value(&mut self, r: Reg) -> Result<Virtual, Refused> {
        let ty = self.ty(r);
        if let Some(c) = self.constant(r) {
            return match (ty.dtype, self.word_constant(r), c) {
                (DType::Bool, Some(bits), _) if self.isa == Isa::V4 => Ok(self.mask_constant(bits != 0)),
                (_, Some(bits), _) => Ok(self.fill(bits, ty.lanes)),
                (DType::I64, _, Scalar::Int(x)) => {
                    let v = self.general();
                    self.set_general(v, x);
                    Ok(v)
                }
                _ => refuse(format!("a constant of {ty}")),
            };
        }
        let v = self.home(r)?;
        if let Some(pending) = self.pending.remove(&r) {
            match pending {
                Pending::Load(m) => self.load_now(v, ty, m)?,
                Pending::Broadcast(m) => {
                    let code = forms::BROADCAST_LOAD.code(self.isa, ty.lanes);
                    self.body.inst(code, &[Operand::Def(v, View::lanes(ty.lanes)), Operand::Mem(m, false)]);
                }
            }
        }
        Ok(v)
    }

    /// `to = from`, both vectors of so many lanes.
    pub(super) fn move_vector(&mut self, to: Virtual, from: Virtual, lanes: u32) {
        if to != from {
            let view = View::lanes(lanes);
            self.body.inst(forms::MOVE.code(self.isa, lanes), &[Operand::Def(to, view), Operand::Use(from, view)]);
        }
    }

    pub(super) fn move_general(&mut self, to: Virtual, from: Virtual) {
        if to != from {
            self.body.inst(Code::Mov_r64_rm64, &[Operand::Def(to, View::R64), Operand::Use(from, View::R64)]);
        }
    }

    pub(super) fn set_general(&mut self, to: Virtual, x: i64) {
        match u32::try_from(x) {
            Ok(x) => self.body.inst(Code::Mov_r32_imm32, &[Operand::Def(to, View::R32), Operand::Imm((x as i32).into())]),
            Err(_) => self.body.inst(Code::Mov_r64_imm64, &[Operand::Def(to, View::R64), Operand::Imm(x)]),
        }
    }

    /// `to = from + c`.
    pub(super) fn add_to(&mut self, to: Virtual, from: Virtual, c: i64) {
        if c == 0 {
            self.move_general(to, from);
        } else if i32::try_from(c).is_ok() {
            if to == from {
                self.body.inst(Code::Add_rm64_imm32, &[Operand::Both(to, View::R64), Operand::Imm(c)]);
            } else {
                let m = Mem { base: Base::Register(from), index: None, displacement: c };
                self.body.inst(Code::Lea_r64_m, &[Operand::Def(to, View::R64), Operand::Mem(m, false)]);
            }
        } else {
            let t = self.general();
            self.set_general(t, c);
            self.body.inst(Code::Add_r64_rm64, &[Operand::Both(t, View::R64), Operand::Use(from, View::R64)]);
            self.move_general(to, t);
        }
    }

    fn compare_constant(&mut self, v: Virtual, c: i64) {
        if i32::try_from(c).is_ok() {
            self.body.inst(Code::Cmp_rm64_imm32, &[Operand::Use(v, View::R64), Operand::Imm(c)]);
        } else {
            let t = self.general();
            self.set_general(t, c);
            self.body.inst(Code::Cmp_r64_rm64, &[Operand::Use(v, View::R64), Operand::Use(t, View::R64)]);
        }
    }

    /// Where an access is.
    pub(super) fn address(&mut self, buffer: BufferId, index: &Index) -> Result<Mem, Refused> {
        let size = self.kernel.buffers[buffer.0 as usize].dtype.size_bytes();
        let (pointer, displacement) = self.addresses.split(buffer, &index.affine, size);
        let Some(&(mut base)) = self.pointers.get(&pointer) else { return refuse("an index uses a variable outside its loop") };
        let mut found = None;
        for &(r, stride) in &index.dynamic {
            if let Some((v, scale)) = found.take() {
                let sum = self.general();
                let m = Mem { base: Base::Register(base), index: Some((v, scale)), displacement: 0 };
                self.body.inst(Code::Lea_r64_m, &[Operand::Def(sum, View::R64), Operand::Mem(m, false)]);
                base = sum;
            }
            let v = self.value(r)?;
            let bytes = stride * size as i64;
            found = Some(match bytes {
                1 | 2 | 4 | 8 => (v, bytes as u32),
                _ => (self.times(v, bytes), 1),
            });
        }
        Ok(Mem { base: Base::Register(base), index: found, displacement })
    }

    /// `v * c` in a fresh register.
    pub(super) fn times(&mut self, v: Virtual, c: i64) -> Virtual {
        let t = self.general();
        if i32::try_from(c).is_ok() {
            self.body.inst(Code::Imul_r64_rm64_imm32, &[Operand::Def(t, View::R64), Operand::Use(v, View::R64), Operand::Imm(c)]);
        } else {
            self.set_general(t, c);
            self.body.inst(Code::Imul_r64_rm64, &[Operand::Both(t, View::R64), Operand::Use(v, View::R64)]);
        }
        t
    }

    /// An affine value in a fresh register.
    pub(super) fn affine(&mut self, affine: &Affine) -> Result<Virtual, Refused> {
        let mut constant = affine.constant;
        let mut sum: Option<Virtual> = None;
        for &(var, coefficient) in &affine.terms {
            if let Some(value) = self.addresses.single(var) {
                constant += value * coefficient;
                continue;
            }
            let Some(&value) = self.vars.get(&var) else { return refuse("a variable is used outside its loop") };
            let term = self.times(value, coefficient);
            if let Some(sum) = sum {
                self.body.inst(Code::Add_r64_rm64, &[Operand::Both(sum, View::R64), Operand::Use(term, View::R64)]);
            } else {
                sum = Some(term);
            }
        }
        Ok(match sum {
            None => {
                let v = self.general();
                self.set_general(v, constant);
                v
            }
            Some(sum) => {
                self.add_to(sum, sum, constant);
                sum
            }
        })
    }

    /// Leaves the kernel unless `0 <= v < end`.
    pub(super) fn check(&mut self, v: Virtual, end: i64) {
        self.compare_constant(v, end);
        self.body.push(super::inst::Step::Jump(Code::Jae_rel32_64, FAIL));
    }

    fn block(&mut self, block: &'k [Stmt]) -> Result<(), Refused> {
        let mut i = 0;
        while i < block.len() {
            match &block[i] {
                Stmt::Loop(l) => self.any_loop(l)?,
                Stmt::If { cond, then, otherwise } => self.branch(cond, then, otherwise)?,
                Stmt::Set { reg, op } => {
                    if let Some((vector, n)) = lane_stores(&block[i..], self.kernel)
                        && n >= 2
                        && self.run_is_private(&block[i..i + 2 * n as usize])
                    {
                        let Stmt::Store { buffer, index, .. } = &block[i + 1] else { return refuse("a store was expected") };
                        let (value, lanes) = (self.value(vector)?, self.ty(vector).lanes);
                        let m = self.address(*buffer, index)?;
                        self.store_first(value, lanes, n, m);
                        i += 2 * n as usize;
                        continue;
                    }
                    self.set(*reg, op, &block[i + 1..])?;
                }
                Stmt::Store { buffer, index, value } => {
                    let ty = self.ty(*value);
                    if ty.dtype != self.kernel.buffers[buffer.0 as usize].dtype {
                        return refuse(format!("a store of {ty} to a buffer of another type"));
                    }
                    let v = self.value(*value)?;
                    let m = self.address(*buffer, index)?;
                    self.store(v, ty, m)?;
                }
            }
            i += 1;
        }
        Ok(())
    }

    /// Whether the scalars of a run of lane stores are used nowhere else.
    fn run_is_private(&self, run: &[Stmt]) -> bool {
        run.iter().all(|s| match s {
            Stmt::Set { reg, .. } => self.uses[reg.0 as usize] == 1 && self.sets[reg.0 as usize] == 1,
            _ => true,
        })
    }

    fn set(&mut self, reg: Reg, op: &'k Op, rest: &'k [Stmt]) -> Result<(), Refused> {
        let ty = self.ty(reg);
        if matches!(op, Op::Const(_)) && self.constant(reg).is_some() {
            return Ok(());
        }
        match op {
            Op::Load { buffer, index } => {
                if self.kernel.buffers[buffer.0 as usize].dtype != ty.dtype {
                    return refuse(format!("a load of {ty} from a buffer of another type"));
                }
                let m = self.address(*buffer, index)?;
                if (is_word(ty.dtype) || is_narrow(ty.dtype)) && self.used_soon(reg, index, rest) {
                    self.home(reg)?;
                    self.pending.insert(reg, Pending::Load(m));
                    return Ok(());
                }
                let v = self.home(reg)?;
                self.load_now(v, ty, m)
            }
            Op::Splat(a) if is_word(ty.dtype) && self.isa == Isa::V4 => {
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
        if self.uses[reg.0 as usize] != 1 || self.sets[reg.0 as usize] != 1 {
            return false;
        }
        for stmt in rest {
            match stmt {
                Stmt::Set { reg: other, op } => {
                    let mut found = false;
                    for_each_operand(op, |r| found |= r == reg);
                    if found {
                        // An address is computed when it is needed.
                        return !matches!(op, Op::Load { .. });
                    }
                    if index.dynamic.iter().any(|d| d.0 == *other) {
                        return false;
                    }
                }
                Stmt::Store { value, .. } => return *value == reg,
                Stmt::Loop(_) | Stmt::If { .. } => return false,
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
                if self.ty(*other).dtype == DType::I64 && self.sets[other.0 as usize] > 1 {
                    return false;
                }
            }
        }
        true
    }

    fn any_loop(&mut self, l: &'k Loop) -> Result<(), Refused> {
        if l.step < 1 || l.end <= l.start || (l.end - l.start) % l.step != 0 {
            return refuse("a loop without a whole number of iterations");
        }
        if l.end - l.start == l.step {
            return self.block(&l.body);
        }
        let stepping = self.addresses.stepping.get(&l.var).cloned().unwrap_or_default();
        let part = self.part.filter(|p| p.0 == l.var);
        let add = |s: &mut Self, to: Virtual, v: Virtual| {
            s.body.inst(Code::Add_r64_rm64, &[Operand::Both(to, View::R64), Operand::Use(v, View::R64)]);
        };
        for s in &stepping {
            let Some(&parent) = self.pointers.get(&s.parent) else { return refuse("a pointer without its base") };
            let v = self.general();
            self.add_to(v, parent, l.start * s.stride + s.pointer.far);
            if let Some((_, begin, _)) = part {
                let moved = self.times(begin, l.step * s.stride);
                add(self, v, moved);
            }
            self.pointers.insert(s.pointer.clone(), v);
        }
        let counted = self.counted.contains(&l.var);
        let counter = self.general();
        let mut limit = None;
        match part {
            None => self.set_general(counter, if counted { l.start } else { (l.end - l.start) / l.step }),
            Some((_, begin, end)) if counted => {
                let (first, last) = (self.times(begin, l.step), self.times(end, l.step));
                self.add_to(counter, first, l.start);
                self.add_to(last, last, l.start);
                limit = Some(last);
            }
            Some((_, begin, end)) => {
                self.move_general(counter, end);
                self.body.inst(Code::Sub_r64_rm64, &[Operand::Both(counter, View::R64), Operand::Use(begin, View::R64)]);
            }
        }
        if counted {
            self.vars.insert(l.var, counter);
        }
        let head = self.body.open_loop();
        self.block(&l.body)?;
        for s in &stepping {
            let v = self.pointers[&s.pointer];
            self.add_to(v, v, l.step * s.stride);
        }
        if counted {
            self.add_to(counter, counter, l.step);
            match limit {
                Some(limit) => {
                    self.body.inst(Code::Cmp_r64_rm64, &[Operand::Use(counter, View::R64), Operand::Use(limit, View::R64)]);
                }
                None => self.compare_constant(counter, l.end),
            }
        } else {
            self.body.inst(Code::Dec_rm64, &[Operand::Both(counter, View::R64)]);
        }
        self.body.close_loop(Code::Jne_rel32_64, head);
        self.vars.remove(&l.var);
        for s in &stepping {
            self.pointers.remove(&s.pointer);
        }
        Ok(())
    }

    fn branch(&mut self, cond: &Cond, then: &'k [Stmt], otherwise: &'k [Stmt]) -> Result<(), Refused> {
        let (other, done) = (self.body.label(), self.body.label());
        let jump = |s: &mut Self, code: Code, to: Label| s.body.push(super::inst::Step::Jump(code, to));
        match cond {
            Cond::Reg(r) => {
                self.test_bool(*r)?;
                jump(self, Code::Je_rel32_64, other);
            }
            Cond::Within(ranges) => {
                for (affine, low, high) in ranges {
                    let v = self.affine(&affine.offset(-low))?;
                    self.compare_constant(v, (high - low).max(0));
                    jump(self, Code::Jae_rel32_64, other);
                }
            }
        }
        self.block(then)?;
        jump(self, Code::Jmp_rel32_64, done);
        self.body.push(super::inst::Step::Label(other));
        self.block(otherwise)?;
        self.body.push(super::inst::Step::Label(done));
        Ok(())
    }
}

/// The vector whose first lanes the statements store one by one to consecutive places, and how many.
fn lane_stores(block: &[Stmt], kernel: &Kernel) -> Option<(Reg, u32)> {
    let Some(Stmt::Set { op: Op::Lane(vector, 0), .. }) = block.first() else { return None };
    let ty = kernel.regs[vector.0 as usize];
    if !is_word(ty.dtype) {
        return None;
    }
    let mut first: Option<(BufferId, &Index)> = None;
    let mut n = 0;
    for pair in block.as_chunks::<2>().0 {
        let [Stmt::Set { reg, op: Op::Lane(v, lane) }, Stmt::Store { buffer, index, value }] = pair else { break };
        if v != vector || *lane != n || value != reg || n >= ty.lanes || kernel.buffers[buffer.0 as usize].dtype != ty.dtype {
            break;
        }
        match first {
            None => first = Some((*buffer, index)),
            Some((b, start)) => {
                if b != *buffer || start.dynamic != index.dynamic || start.affine.offset(n.into()) != index.affine {
                    break;
                }
            }
        }
        n += 1;
    }
    (n > 0).then_some((*vector, n))
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
                if let Some((_, n)) = lane_stores(&block[i..], kernel)
                    && n >= 2
                {
                    found.insert(n);
                    i += 2 * n as usize - 1;
                }
            }
        }
        i += 1;
    }
}
