//! Control flow and addresses: the nest's structure as a linear list of instructions.
//!
//! Every register of the nest has one virtual register. Constants have none: they are operands in memory, or broadcast
//! where they are used. A load with one use is put off until that use, which takes it as its operand.

use std::collections::{HashMap, HashSet};

use iced_x86::Code;

use super::inst::{Base, Body, Class, FAIL, Label, Mem, Operand, View, Virtual};
use super::operands::{Pending, is_half, is_long, is_narrow, is_wide, is_word};
use super::{Isa, Refused, Unit, legalize};
use crate::codegen::address::{Addresses, Pointer, wide_displacement};
use crate::codegen::clif::N_PARAMS;
use crate::nest::{
    Affine, BufferId, Cond, Index, Kernel, Loop, Op, Reg, Scalar, Stmt, Var, VecType, for_each_operand, parallel::spread_loop,
};
use crate::tensor::DType;

/// A function under construction.
pub(super) struct Select<'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) isa: Isa,
    pub(super) unit: Unit,
    pub(super) body: Body,
    pub(super) uses: Vec<u32>,
    pub(super) pending: HashMap<Reg, Pending>,
    /// Registers that hold bytes as they are in memory.
    pub(super) packed: Vec<bool>,
    sets: Vec<u32>,
    pub(super) constants: Vec<Option<Scalar>>,
    pub(super) homes: Vec<Option<Virtual>>,
    addresses: Addresses,
    vars: HashMap<Var, Virtual>,
    pointers: HashMap<Pointer, Virtual>,
    /// Variables whose value is asked for.
    counted: HashSet<Var>,
    masks: HashMap<u32, Virtual>,
    table: Option<Virtual>,
    /// The loop of which only a part runs, and the part: its first and last iteration but one.
    part: Option<(Var, Virtual, Virtual)>,
}

/// The instructions of a kernel.
pub(super) fn select(kernel: &Kernel, unit: Unit) -> Result<Body, Refused> {
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
        isa: unit.isa,
        unit,
        body: Body::default(),
        uses,
        pending: HashMap::new(),
        packed: legalize::packed(kernel),
        sets,
        constants,
        homes: vec![None; n],
        addresses,
        vars: HashMap::new(),
        pointers: HashMap::new(),
        counted,
        masks: HashMap::new(),
        table: None,
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
            Stmt::Prefetch { .. } => {}
        }
    }
}

pub(super) fn refuse<T>(what: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(what.into()))
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
        self.table = Some(own_table);
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
            let value = match self.vars.get(&var) {
                Some(&value) => value,
                None => self.size(var)?,
            };
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

    /// A number that the caller passed, in a fresh register.
    fn size(&mut self, var: Var) -> Result<Virtual, Refused> {
        let place = self.kernel.sizes.iter().position(|s| s.var == var);
        let (Some(place), Some(table)) = (place, self.table) else { return refuse("a variable is used outside its loop") };
        let v = self.general();
        let slot = Mem { base: Base::Register(table), index: None, displacement: (self.kernel.buffers.len() + place) as i64 * 8 };
        self.body.inst(Code::Mov_r64_rm64, &[Operand::Def(v, View::R64), Operand::Mem(slot, false)]);
        Ok(v)
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
                    self.store(v, *value, m)?;
                }
                Stmt::Prefetch { buffer, index } => {
                    let m = self.address(*buffer, &Index::from(index.clone()))?;
                    self.body.inst(Code::Prefetcht1_m8, &[Operand::Mem(m, false)]);
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
                if can_wait(ty) && self.used_soon(reg, index, rest) {
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
                Stmt::Prefetch { .. } => {}
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
        if l.step < 1 || l.end <= l.start || l.live.is_none() && (l.end - l.start) % l.step != 0 {
            return refuse("a loop without a whole number of iterations");
        }
        if l.live.is_none() && l.end - l.start == l.step {
            return self.block(&l.body);
        }
        let stepping = self.addresses.stepping.get(&l.var).cloned().unwrap_or_default();
        let part = self.part.filter(|p| p.0 == l.var);
        let add = |s: &mut Self, to: Virtual, v: Virtual| {
            s.body.inst(Code::Add_r64_rm64, &[Operand::Both(to, View::R64), Operand::Use(v, View::R64)]);
        };
        let origin = match &l.live {
            Some(live) if !live.from.is_constant() => Some(self.affine(&live.from)?),
            _ => None,
        };
        let start = l.live.as_ref().map_or(l.start, |live| live.from.constant);
        for s in &stepping {
            let Some(&parent) = self.pointers.get(&s.parent) else { return refuse("a pointer without its base") };
            let v = self.general();
            if let Some(origin) = origin {
                self.add_to(v, parent, s.pointer.far);
                let moved = self.times(origin, s.stride);
                add(self, v, moved);
            } else {
                self.add_to(v, parent, start * s.stride + s.pointer.far);
            }
            if let Some((_, begin, _)) = part {
                let moved = self.times(begin, l.step * s.stride);
                add(self, v, moved);
            }
            self.pointers.insert(s.pointer.clone(), v);
        }
        let counted = l.live.is_some() || self.counted.contains(&l.var);
        let counter = self.general();
        let mut limit = None;
        match part {
            None if l.live.is_some() => {
                match origin {
                    Some(origin) => self.move_general(counter, origin),
                    None => self.set_general(counter, start),
                }
                let live = l.live.as_ref().expect("asked above");
                limit = Some(self.affine(&live.to)?);
            }
            None => self.set_general(counter, if counted { l.start } else { (l.end - l.start) / l.step }),
            Some((_, begin, end)) if counted => {
                let (first, last) = (self.times(begin, l.step), self.times(end, l.step));
                if let Some(origin) = origin {
                    add(self, first, origin);
                    add(self, last, origin);
                    self.move_general(counter, first);
                } else {
                    self.add_to(counter, first, start);
                    self.add_to(last, last, start);
                }
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

/// Whether a load can be put off until its value is used.
fn can_wait(ty: VecType) -> bool {
    is_word(ty.dtype) || is_narrow(ty.dtype) || is_half(ty.dtype) || is_wide(ty.dtype) && !(is_long(ty.dtype) && ty.lanes == 1)
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
