//! The statements of a nest as instructions.
//!
//! Every register of the nest has one virtual register. Constants are set once, at the function's begin, as are numbers that an
//! instruction does not hold. A scalar that shares a load with its neighbours, and a broadcast of it that only factors use, is a lane
//! of the register that holds them all.

use std::collections::HashMap;

use super::code::{Code, Condition};
use super::elements::{self, Plan};
use super::inst::{Body, Class, Inst, Mem, Operand, Step, Virtual};
use super::word::immediate_12;
use crate::codegen::address::vector_displacement;
use crate::codegen::clif::N_PARAMS;
use crate::codegen::linear::flow::{Flow, Frame, Relation};
use crate::codegen::linear::survey::Survey;
use crate::codegen::linear::{Refused, refuse};
use crate::nest::{Index, Kernel, Op, Reg, Scalar, Stmt, VecType, for_each_set};
use crate::tensor::DType;

/// A function under construction.
pub(super) struct Select<'k> {
    pub(super) frame: Frame<'k, Inst>,
    pub(super) survey: Survey,
    homes: Vec<Option<Virtual>>,
    /// The registers that are a lane of another.
    pub(super) elements: HashMap<Reg, (Virtual, u32)>,
    /// Whether a register never holds a signalling NaN.
    pub(super) quiet: Vec<bool>,
    /// What is set at the function's begin.
    pub(super) hoisted: Vec<Inst>,
    pub(super) bits: HashMap<u32, Virtual>,
    pub(super) numbers: HashMap<i64, Virtual>,
}

/// The instructions of a kernel.
pub(super) fn select(kernel: &Kernel) -> Result<Body, Refused> {
    let mut survey = Survey::of(kernel);
    let counted = std::mem::take(&mut survey.counted);
    spread_constants(kernel, &mut survey);
    let mut s = Select {
        frame: Frame::new(kernel, counted, vector_displacement)?,
        survey,
        homes: vec![None; kernel.regs.len()],
        elements: HashMap::new(),
        quiet: super::arithmetic::quiet(kernel),
        hoisted: vec![],
        bits: HashMap::new(),
        numbers: HashMap::new(),
    };
    s.entry()?;
    s.block(&kernel.body)?;
    let mut body = s.frame.body;
    // Parameters must be copied before anything can push them out; the pointers may need a number that is set here.
    let is_copy = |s: &&Step| matches!(s, Step::Inst(i) if i.code == Code::MoveX);
    let at = body.steps.iter().take(N_PARAMS).take_while(is_copy).count();
    body.depths.splice(at..at, s.hoisted.iter().map(|_| 0));
    body.steps.splice(at..at, s.hoisted.into_iter().map(Step::Inst));
    Ok(body)
}

/// A constant in all lanes is a constant.
fn spread_constants(kernel: &Kernel, survey: &mut Survey) {
    for_each_set(&kernel.body, &mut |reg, op| {
        if let Op::Splat(a) = op
            && survey.sets[reg.0 as usize] == 1
        {
            survey.constants[reg.0 as usize] = survey.constants[a.0 as usize];
        }
    });
}

impl<'k> Select<'k> {
    pub(super) fn ty(&self, r: Reg) -> VecType {
        self.frame.kernel.regs[r.0 as usize]
    }

    pub(super) fn vector(&mut self) -> Virtual {
        self.frame.body.virtual_register(Class::Vector)
    }

    pub(super) fn inst(&mut self, code: Code, operands: &[Operand]) {
        self.inst_with(code, operands, 0);
    }

    pub(super) fn inst_with(&mut self, code: Code, operands: &[Operand], immediate: i64) {
        self.frame.body.push(Step::Inst(Inst::new(code, operands, immediate)));
    }

    /// An instruction over lanes.
    pub(super) fn lanes(&mut self, code: Code, lanes: u32, operands: &[Operand], immediate: i64) {
        self.frame.body.push(Step::Inst(Inst { half: lanes <= 2, ..Inst::new(code, operands, immediate) }));
    }

    /// The virtual register of a register.
    pub(super) fn home(&mut self, r: Reg) -> Result<Virtual, Refused> {
        if let Some(v) = self.homes[r.0 as usize] {
            return Ok(v);
        }
        let class = match self.ty(r) {
            VecType { dtype: DType::I64, lanes: 1 } => Class::General,
            VecType { dtype: DType::F32 | DType::I32 | DType::U32 | DType::Bool, lanes: 1 | 2 | 4 } => Class::Vector,
            ty => return refuse(format!("it holds {ty}")),
        };
        let v = self.frame.body.virtual_register(class);
        self.homes[r.0 as usize] = Some(v);
        Ok(v)
    }

    /// The value of a register that is a constant throughout the kernel.
    pub(super) fn constant(&self, r: Reg) -> Option<Scalar> {
        self.survey.constants[r.0 as usize]
    }

    /// The word of a constant in a vector register.
    pub(super) fn word_of(&self, dtype: DType, c: Scalar) -> Result<u32, Refused> {
        let (float, int) = match c {
            Scalar::Float(x) => (x, x as i64),
            Scalar::Int(x) => (x as f64, x),
        };
        match dtype {
            DType::F32 => Ok((float as f32).to_bits()),
            DType::I32 | DType::U32 => Ok(int as u32),
            DType::Bool => Ok(if int != 0 { u32::MAX } else { 0 }),
            _ => refuse(format!("a constant of {dtype}")),
        }
    }

    /// A register's value in a virtual register, which must not be changed.
    pub(super) fn value(&mut self, r: Reg) -> Result<Virtual, Refused> {
        let ty = self.ty(r);
        if let Some(c) = self.constant(r) {
            return match (ty.dtype, c) {
                (DType::I64, Scalar::Int(x)) if ty.lanes == 1 => Ok(self.hoisted_number(x)),
                (dtype, c) => {
                    let bits = self.word_of(dtype, c)?;
                    Ok(self.hoisted_bits(bits))
                }
            };
        }
        if let Some(&(v, lane)) = self.elements.get(&r) {
            let t = self.vector();
            match ty.lanes {
                1 => self.inst_with(Code::LaneScalar, &[Operand::Def(t), Operand::Use(v)], lane.into()),
                n => self.lanes(Code::Dup, n, &[Operand::Def(t), Operand::Use(v)], lane.into()),
            }
            return Ok(t);
        }
        self.home(r)
    }

    /// `to = from`, both vectors.
    pub(super) fn move_vector(&mut self, to: Virtual, from: Virtual) {
        if to != from {
            self.inst(Code::Move, &[Operand::Def(to), Operand::Use(from)]);
        }
    }

    /// A load, of what the plan says that this statement loads.
    fn planned_load(&mut self, i: usize, plan: &Plan, reg: Reg, op: &Op) -> Result<(), Refused> {
        let Op::Load { buffer, index } = op else { return refuse("a load was expected") };
        let ahead = |by: i64| Index { affine: index.affine.offset(by), dynamic: vec![] };
        if let Some(lanes) = plan.scalars.get(&i) {
            let own = lanes.iter().position(|l| l.contains(&reg)).unwrap_or(0) as i64;
            let n = lanes.len() as u32;
            let v = self.load_lanes(*buffer, &ahead(-own), n)?;
            for (lane, regs) in (0..).zip(lanes) {
                for &r in regs {
                    self.elements.insert(r, (v, lane));
                }
            }
            return Ok(());
        }
        if let Some(&(first, second)) = plan.pairs.get(&i) {
            let first_at = ahead(if first == reg { 0 } else { -i64::from(super::LANES) });
            return self.load_pair((first, second), *buffer, &first_at);
        }
        self.load(reg, *buffer, index)
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
            self.inst(Code::MoveX, &[Operand::Def(to), Operand::Use(from)]);
        }
    }

    fn set_general(&mut self, to: Virtual, c: i64) {
        self.inst_with(Code::SetX, &[Operand::Def(to)], c);
    }

    fn add(&mut self, to: Virtual, v: Virtual) {
        self.inst(Code::AddX, &[Operand::Def(to), Operand::Use(to), Operand::Use(v)]);
    }

    fn subtract(&mut self, to: Virtual, v: Virtual) {
        self.inst(Code::SubX, &[Operand::Def(to), Operand::Use(to), Operand::Use(v)]);
    }

    fn decrement(&mut self, to: Virtual) {
        self.inst_with(Code::SubsImmX, &[Operand::Def(to), Operand::Use(to)], 1);
    }

    fn add_to(&mut self, to: Virtual, from: Virtual, c: i64) {
        let operands = [Operand::Def(to), Operand::Use(from)];
        match c {
            0 => self.move_general(to, from),
            c if immediate_12(c).is_some() => self.inst_with(Code::AddImmX, &operands, c),
            c if immediate_12(-c).is_some() => self.inst_with(Code::SubImmX, &operands, -c),
            c => {
                let by = self.hoisted_number(c);
                self.inst(Code::AddX, &[operands[0], operands[1], Operand::Use(by)]);
            }
        }
    }

    fn times(&mut self, v: Virtual, c: i64) -> Virtual {
        let t = self.general();
        if c > 0 && c & (c - 1) == 0 {
            self.inst_with(Code::LslX, &[Operand::Def(t), Operand::Use(v)], c.trailing_zeros().into());
        } else {
            let by = self.hoisted_number(c);
            self.inst(Code::MulX, &[Operand::Def(t), Operand::Use(v), Operand::Use(by)]);
        }
        t
    }

    fn scaled_sum(&mut self, a: Virtual, b: Virtual, scale: u32) -> Virtual {
        let sum = self.general();
        let operands = [Operand::Def(sum), Operand::Use(a), Operand::Use(b)];
        self.inst_with(Code::AddShiftedX, &operands, scale.trailing_zeros().into());
        sum
    }

    fn load_entry(&mut self, table: Virtual, entry: usize) -> Virtual {
        let v = self.general();
        let m = Mem::at(table, entry as i64 * 8);
        self.inst(Code::LoadX, &[Operand::Def(v), Operand::Mem(m)]);
        v
    }

    fn compare(&mut self, a: Virtual, b: Virtual) {
        self.inst(Code::CompareX, &[Operand::Use(a), Operand::Use(b)]);
    }

    fn compare_constant(&mut self, v: Virtual, c: i64) {
        if immediate_12(c).is_some() {
            self.inst_with(Code::CompareImmX, &[Operand::Use(v)], c);
        } else {
            let c = self.hoisted_number(c);
            self.compare(v, c);
        }
    }

    fn test_bool(&mut self, r: Reg) -> Result<(), Refused> {
        let v = self.bool_number(r)?;
        self.compare_constant(v, 0);
        Ok(())
    }

    fn index_value(&mut self, r: Reg) -> Result<Virtual, Refused> {
        self.value(r)
    }

    fn relation(relation: Relation) -> Condition {
        match relation {
            Relation::Always => Condition::Always,
            Relation::Equal => Condition::Eq,
            Relation::NotEqual => Condition::Ne,
            Relation::NotBelow => Condition::Hs,
        }
    }

    fn block(&mut self, block: &'k [Stmt]) -> Result<(), Refused> {
        let kernel = self.frame.kernel;
        let (uses, sets) = (&self.survey.uses, &self.survey.sets);
        let plan = elements::plan(block, kernel, uses, sets);
        let broadcasts = elements::broadcasts(block, kernel, uses, sets);
        let mut i = 0;
        while i < block.len() {
            match &block[i] {
                Stmt::Loop(l) => self.any_loop(l)?,
                Stmt::If { cond, then, otherwise } => self.branch(cond, then, otherwise)?,
                Stmt::Set { .. } if plan.made[i] => {}
                Stmt::Set { reg, op } => {
                    if let Some(tail) = self.survey.tail(&block[i..], kernel) {
                        self.store_first(tail.vector, tail.n, tail.buffer, tail.index)?;
                        i += tail.n_statements();
                        continue;
                    }
                    match op {
                        Op::Const(_) | Op::Splat(_) if self.constant(*reg).is_some() => {}
                        Op::Load { .. } => self.planned_load(i, &plan, *reg, op)?,
                        Op::Splat(_) if broadcasts.contains_key(reg) => {
                            let scalar = broadcasts[reg];
                            let element = match self.elements.get(&scalar) {
                                Some(&element) => element,
                                None => (self.value(scalar)?, 0),
                            };
                            self.elements.insert(*reg, element);
                        }
                        op => self.op(*reg, op)?,
                    }
                }
                Stmt::Store { buffer, index, value } => self.store(*buffer, index, *value)?,
                Stmt::Prefetch { buffer, index } => {
                    let at = self.place(*buffer, &Index::from(index.clone()))?;
                    let m = self.memory(at, 8);
                    self.inst(Code::Prefetch, &[Operand::Mem(m)]);
                }
            }
            i += 1;
        }
        Ok(())
    }
}
