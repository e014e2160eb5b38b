//! Control flow and addresses: the nest's structure as a linear list of instructions, the same on every machine.
//!
//! A machine gives the few instructions over general registers that loops, branches and pointers take ([`Flow`]); what comes of
//! them is here.

use std::collections::{HashMap, HashSet};

use super::list::{Body, FAIL, Instruction, Label, Step, Virtual};
use super::{Refused, refuse};
use crate::codegen::address::{Addresses, Pointer};
use crate::codegen::clif::N_PARAMS;
use crate::nest::{Affine, BufferId, Cond, Index, Kernel, Loop, Reg, Stmt, Var, parallel::spread_loop};

/// A function under construction, and what is known at this place of it.
pub(in crate::codegen) struct Frame<'k, I: Instruction> {
    pub(in crate::codegen) kernel: &'k Kernel,
    pub(in crate::codegen) body: Body<I>,
    addresses: Addresses,
    vars: HashMap<Var, Virtual>,
    pointers: HashMap<Pointer, Virtual>,
    /// Variables whose value is asked for.
    counted: HashSet<Var>,
    table: Option<Virtual>,
    /// The loop of which only a part runs, and the part: its first and last iteration but one.
    part: Option<(Var, Virtual, Virtual)>,
}

impl<'k, I: Instruction> Frame<'k, I> {
    /// Displacements of instructions are below the limit, for elements of a size.
    pub(in crate::codegen) fn new(kernel: &'k Kernel, counted: HashSet<Var>, limit: fn(usize) -> i64) -> Result<Self, Refused> {
        let addresses = Addresses::plan(kernel, limit).map_err(|_| Refused("a variable is used outside its loop".to_owned()))?;
        Ok(Frame {
            kernel,
            body: Body::default(),
            addresses,
            vars: HashMap::new(),
            pointers: HashMap::new(),
            counted,
            table: None,
            part: None,
        })
    }
}

/// What a jump that follows a comparison depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::codegen) enum Relation {
    /// Nothing.
    Always,
    /// The numbers, or the condition and false, were equal.
    Equal,
    /// They were not.
    NotEqual,
    /// The first was not below the second, both without sign.
    NotBelow,
}

/// Where an access is: the sum of registers, of which the second is multiplied, and a constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::codegen) struct At {
    pub(in crate::codegen) base: Virtual,
    /// A register and 1, 2, 4 or 8.
    pub(in crate::codegen) index: Option<(Virtual, u32)>,
    pub(in crate::codegen) displacement: i64,
}

/// The instructions that control flow and addresses are made of, and what is made of them. Numbers are of 64 bits.
pub(in crate::codegen) trait Flow<'k>: Sized {
    /// The machine's instructions.
    type Inst: Instruction;

    /// What holds numbers and addresses.
    const GENERAL: <Self::Inst as Instruction>::Class;

    fn frame(&self) -> &Frame<'k, Self::Inst>;
    fn frame_mut(&mut self) -> &mut Frame<'k, Self::Inst>;
    /// `to = from`.
    fn move_general(&mut self, to: Virtual, from: Virtual);
    /// `to = c`.
    fn set_general(&mut self, to: Virtual, c: i64);
    /// `to += v`.
    fn add(&mut self, to: Virtual, v: Virtual);
    /// `to -= v`.
    fn subtract(&mut self, to: Virtual, v: Virtual);
    /// `to -= 1`, and compares the result with 0.
    fn decrement(&mut self, to: Virtual);
    /// `to = from + c`.
    fn add_to(&mut self, to: Virtual, from: Virtual, c: i64);
    /// `v * c` in a fresh register.
    fn times(&mut self, v: Virtual, c: i64) -> Virtual;
    /// `a + scale * b` in a fresh register.
    fn scaled_sum(&mut self, a: Virtual, b: Virtual, scale: u32) -> Virtual;
    /// A number of a table in a fresh register.
    fn load_entry(&mut self, table: Virtual, entry: usize) -> Virtual;
    /// Compares for a jump.
    fn compare(&mut self, a: Virtual, b: Virtual);
    /// Compares for a jump.
    fn compare_constant(&mut self, v: Virtual, c: i64);
    /// Compares a condition with false for a jump.
    fn test_bool(&mut self, r: Reg) -> Result<(), Refused>;
    /// The value of a scalar of an index.
    fn index_value(&mut self, r: Reg) -> Result<Virtual, Refused>;
    /// A jump.
    fn relation(relation: Relation) -> <Self::Inst as Instruction>::Jump;
    /// The statements of a loop or branch.
    fn block(&mut self, block: &'k [Stmt]) -> Result<(), Refused>;

    /// A fresh general register.
    fn general(&mut self) -> Virtual {
        self.frame_mut().body.virtual_register(Self::GENERAL)
    }

    fn jump(&mut self, relation: Relation, to: Label) {
        self.frame_mut().body.push(Step::Jump(Self::relation(relation), to));
    }

    /// What a function begins with: the buffers' addresses.
    fn entry(&mut self) -> Result<(), Refused> {
        let kernel = self.frame().kernel;
        // The first virtual registers arrive in the first physical ones. They are copied while nothing can push them out.
        let [table, begin, end, worker] = std::array::from_fn::<_, N_PARAMS, _>(|_| self.general());
        let copy = |s: &mut Self, from: Virtual| {
            let v = s.general();
            s.move_general(v, from);
            v
        };
        let table = copy(self, table);
        self.frame_mut().table = Some(table);
        if let Some(l) = spread_loop(kernel) {
            let part = (l.var, copy(self, begin), copy(self, end));
            self.frame_mut().part = Some(part);
        }
        let worker = if kernel.buffers.iter().any(|b| b.private) { Some(copy(self, worker)) } else { None };
        for (i, buffer) in kernel.buffers.iter().enumerate() {
            let base = self.load_entry(table, i);
            if let (true, Some(worker)) = (buffer.private, worker) {
                let moved = self.times(worker, buffer.copy_bytes().unwrap_or(0) as i64);
                self.add(base, moved);
            }
            self.frame_mut().pointers.insert(Pointer { buffer: BufferId(i as u32), terms: vec![], far: 0 }, base);
        }
        for pointer in std::mem::take(&mut self.frame_mut().addresses.fixed) {
            if pointer.far != 0 {
                let base = self.frame().pointers[&Pointer { far: 0, ..pointer.clone() }];
                let moved = self.general();
                self.add_to(moved, base, pointer.far);
                self.frame_mut().pointers.insert(pointer, moved);
            }
        }
        Ok(())
    }

    /// Where an access is.
    fn place(&mut self, buffer: BufferId, index: &Index) -> Result<At, Refused> {
        let frame = self.frame();
        let size = frame.kernel.buffers[buffer.0 as usize].dtype.size_bytes();
        let (pointer, displacement) = frame.addresses.split(buffer, &index.affine, size);
        let Some(&(mut base)) = frame.pointers.get(&pointer) else { return refuse("an index uses a variable outside its loop") };
        let mut found = None;
        for &(r, stride) in &index.dynamic {
            if let Some((v, scale)) = found.take() {
                base = self.scaled_sum(base, v, scale);
            }
            let v = self.index_value(r)?;
            let bytes = stride * size as i64;
            found = Some(match bytes {
                1 | 2 | 4 | 8 => (v, bytes as u32),
                _ => (self.times(v, bytes), 1),
            });
        }
        Ok(At { base, index: found, displacement })
    }

    /// An affine value in a fresh register.
    fn affine(&mut self, affine: &Affine) -> Result<Virtual, Refused> {
        let mut constant = affine.constant;
        let mut sum: Option<Virtual> = None;
        for &(var, coefficient) in &affine.terms {
            if let Some(value) = self.frame().addresses.single(var) {
                constant += value * coefficient;
                continue;
            }
            let value = match self.frame().vars.get(&var) {
                Some(&value) => value,
                None => self.size(var)?,
            };
            let term = self.times(value, coefficient);
            if let Some(sum) = sum {
                self.add(sum, term);
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
        let frame = self.frame();
        let place = frame.kernel.sizes.iter().position(|s| s.var == var);
        let (Some(place), Some(table)) = (place, frame.table) else { return refuse("a variable is used outside its loop") };
        let entry = frame.kernel.buffers.len() + place;
        Ok(self.load_entry(table, entry))
    }

    /// Leaves the kernel unless `0 <= v < end`.
    fn check(&mut self, v: Virtual, end: i64) {
        self.compare_constant(v, end);
        self.jump(Relation::NotBelow, FAIL);
    }

    fn any_loop(&mut self, l: &'k Loop) -> Result<(), Refused> {
        if l.step < 1 || l.end <= l.start || l.live.is_none() && (l.end - l.start) % l.step != 0 {
            return refuse("a loop without a whole number of iterations");
        }
        if l.live.is_none() && l.end - l.start == l.step {
            return self.block(&l.body);
        }
        let stepping = self.frame().addresses.stepping.get(&l.var).cloned().unwrap_or_default();
        let part = self.frame().part.filter(|p| p.0 == l.var);
        let origin = match &l.live {
            Some(live) if !live.from.is_constant() => Some(self.affine(&live.from)?),
            _ => None,
        };
        let start = l.live.as_ref().map_or(l.start, |live| live.from.constant);
        for s in &stepping {
            let Some(&parent) = self.frame().pointers.get(&s.parent) else { return refuse("a pointer without its base") };
            let v = self.general();
            if let Some(origin) = origin {
                self.add_to(v, parent, s.pointer.far);
                let moved = self.times(origin, s.stride);
                self.add(v, moved);
            } else {
                self.add_to(v, parent, start * s.stride + s.pointer.far);
            }
            if let Some((_, begin, _)) = part {
                let moved = self.times(begin, l.step * s.stride);
                self.add(v, moved);
            }
            self.frame_mut().pointers.insert(s.pointer.clone(), v);
        }
        let counted = l.live.is_some() || self.frame().counted.contains(&l.var);
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
                    self.add(first, origin);
                    self.add(last, origin);
                    self.move_general(counter, first);
                } else {
                    self.add_to(counter, first, start);
                    self.add_to(last, last, start);
                }
                limit = Some(last);
            }
            Some((_, begin, end)) => {
                self.move_general(counter, end);
                self.subtract(counter, begin);
            }
        }
        if counted {
            self.frame_mut().vars.insert(l.var, counter);
        }
        let head = self.frame_mut().body.open_loop();
        self.block(&l.body)?;
        for s in &stepping {
            let v = self.frame().pointers[&s.pointer];
            self.add_to(v, v, l.step * s.stride);
        }
        if counted {
            self.add_to(counter, counter, l.step);
            match limit {
                Some(limit) => self.compare(counter, limit),
                None => self.compare_constant(counter, l.end),
            }
        } else {
            self.decrement(counter);
        }
        self.frame_mut().body.close_loop(Self::relation(Relation::NotEqual), head);
        self.frame_mut().vars.remove(&l.var);
        for s in &stepping {
            self.frame_mut().pointers.remove(&s.pointer);
        }
        Ok(())
    }

    fn branch(&mut self, cond: &Cond, then: &'k [Stmt], otherwise: &'k [Stmt]) -> Result<(), Refused> {
        let (other, done) = (self.frame_mut().body.label(), self.frame_mut().body.label());
        match cond {
            Cond::Reg(r) => {
                self.test_bool(*r)?;
                self.jump(Relation::Equal, other);
            }
            Cond::Within(ranges) => {
                for (affine, low, high) in ranges {
                    let v = self.affine(&affine.offset(-low))?;
                    self.compare_constant(v, (high - low).max(0));
                    self.jump(Relation::NotBelow, other);
                }
            }
        }
        self.block(then)?;
        self.jump(Relation::Always, done);
        self.frame_mut().body.push(Step::Label(other));
        self.block(otherwise)?;
        self.frame_mut().body.push(Step::Label(done));
        Ok(())
    }
}
