//! Bytes: prologue, instructions, epilogue, constants; and the listing of them.

use std::collections::HashMap;

use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Formatter, GasFormatter, IcedError, Instruction, MemoryOperand, Register};

use super::inst::{Base, Body, FAIL, Inst, Label, Mem, Operand, Step, View};
use super::registers::{register, saved};
use super::{Isa, Refused};
use crate::codegen::clif::INDEX_OUT_OF_RANGE;
use crate::codegen::linear::Encoded;
use crate::codegen::linear::list::Instruction as _;
use crate::codegen::linear::registers::Allocation;

/// Bytes of the stack for each spilled register.
const SLOT_BYTES: i64 = 64;
struct Assembler<'a> {
    encoder: Encoder,
    at: u64,
    allocation: &'a Allocation,
    labels: HashMap<Label, u64>,
    // Position of a 32-bit displacement, and what it leads to.
    jumps: Vec<(usize, Label)>,
    constants: Vec<(usize, u64, usize)>,
}

fn backend(e: IcedError) -> Refused {
    Refused(format!("an instruction has no encoding: {e}"))
}

impl Assembler<'_> {
    fn emit(&mut self, instruction: &Instruction) -> Result<(), Refused> {
        let n = self.encoder.encode(instruction, self.at).map_err(backend)?;
        self.at += n as u64;
        Ok(())
    }

    fn jump(&mut self, code: Code, label: Label) -> Result<(), Refused> {
        // Far away, so that no short form fits.
        let jump = Instruction::with_branch(code, self.at + (1 << 20)).map_err(backend)?;
        self.emit(&jump)?;
        self.jumps.push((self.at as usize - 4, label));
        Ok(())
    }

    fn memory(&self, m: &Mem) -> Result<MemoryOperand, Refused> {
        let register = |v| register(self.allocation, v, View::R64).ok_or_else(|| Refused("an address has no register".to_owned()));
        let (base, displacement) = match m.base {
            Base::Register(v) => (register(v)?, m.displacement),
            Base::Pool(_) => return Ok(MemoryOperand::with_base_displ(Register::RIP, 0)),
            Base::Slot(n) => (Register::RSP, n as i64 * SLOT_BYTES + m.displacement),
        };
        if i32::try_from(displacement).is_err() {
            return Err(Refused("a displacement is too long".to_owned()));
        }
        Ok(match m.index {
            Some((v, scale)) => MemoryOperand::with_base_index_scale_displ_size(base, register(v)?, scale, displacement, 1),
            None => MemoryOperand::with_base_displ(base, displacement),
        })
    }

    /// `to = a / b` or the remainder, for a divisor that does not trap. The instruction has registers of its own, which are
    /// kept below the stack pointer, where the ABI leaves a leaf function 128 bytes.
    fn divide(&mut self, inst: &Inst) -> Result<(), Refused> {
        let [Operand::Def(to, _), Operand::Use(a, _), Operand::Use(b, _), Operand::Imm(remainder)] = inst.operands[..] else {
            return Err(Refused("a division without its operands".to_owned()));
        };
        let Some(to) = register(self.allocation, to, View::R64) else { return Ok(()) };
        let register = |v| register(self.allocation, v, View::R64).ok_or_else(|| Refused("a division without its operands".to_owned()));
        let (a, b) = (register(a)?, register(b)?);
        let slot = |n: i64| MemoryOperand::with_base_displ(Register::RSP, -8 * n);
        let store = |n, r| Instruction::with2(Code::Mov_rm64_r64, slot(n), r).map_err(backend);
        let load = |r, n| Instruction::with2(Code::Mov_r64_rm64, r, slot(n)).map_err(backend);
        let sequence = [
            store(1, Register::RAX)?,
            store(2, Register::RDX)?,
            store(3, a)?,
            store(4, b)?,
            load(Register::RAX, 3)?,
            if inst.code == Code::Idiv_rm64 {
                Instruction::with(Code::Cqo)
            } else {
                Instruction::with2(Code::Xor_r32_rm32, Register::EDX, Register::EDX).map_err(backend)?
            },
            Instruction::with1(inst.code, slot(4)).map_err(backend)?,
            store(3, if remainder != 0 { Register::RDX } else { Register::RAX })?,
            load(Register::RAX, 1)?,
            load(Register::RDX, 2)?,
            load(to, 3)?,
        ];
        sequence.iter().try_for_each(|i| self.emit(i))
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), Refused> {
        if matches!(inst.code, Code::Idiv_rm64 | Code::Div_rm64) {
            return self.divide(inst);
        }
        if let Some((from, to)) = inst.copy()
            && register(self.allocation, from, View::K) == register(self.allocation, to, View::K)
        {
            return Ok(());
        }
        let Some(mut instruction) = self.instruction(inst)? else { return Ok(()) };
        if let Some((mask, zero)) = inst.mask {
            let Some(mask) = register(self.allocation, mask, View::K) else { return Ok(()) };
            instruction.set_op_mask(mask);
            instruction.set_zeroing_masking(zero);
        }
        let pool = inst.operands.iter().find_map(|o| match o {
            Operand::Mem(m, _) => match m.base {
                Base::Pool(n) => Some(n),
                _ => None,
            },
            _ => None,
        });
        if inst.operands.iter().any(|o| matches!(o, Operand::Mem(_, true))) {
            instruction.set_is_broadcast(true);
        }
        let start = self.at;
        self.emit(&instruction)?;
        if let Some(n) = pool {
            let field = start as usize + self.encoder.get_constant_offsets().displacement_offset();
            self.constants.push((field, self.at, n));
        }
        Ok(())
    }

    fn instruction(&self, inst: &Inst) -> Result<Option<Instruction>, Refused> {
        #[derive(Clone, Copy)]
        enum O {
            R(Register),
            M(MemoryOperand),
            I(i64),
        }
        let mut ops = vec![];
        for operand in &inst.operands {
            ops.push(match operand {
                Operand::Def(v, view) | Operand::Use(v, view) | Operand::Both(v, view) => match register(self.allocation, *v, *view) {
                    Some(r) => O::R(r),
                    None => return Err(Refused("an operand has no register".to_owned())),
                },
                Operand::Mem(m, _) => O::M(self.memory(m)?),
                Operand::Places(m, v, view) => {
                    let Some(places) = register(self.allocation, *v, *view) else {
                        return Err(Refused("an operand has no register".to_owned()));
                    };
                    let m = self.memory(m)?;
                    O::M(MemoryOperand::with_base_index_scale_displ_size(m.base, places, 4, m.displacement, 1))
                }
                Operand::Imm(i) => O::I(*i),
            });
        }
        let code = inst.code;
        let made = match ops[..] {
            [O::R(a)] => Instruction::with1(code, a),
            [O::M(a)] => Instruction::with1(code, a),
            [O::R(a), O::R(b)] => Instruction::with2(code, a, b),
            [O::R(a), O::M(b)] => Instruction::with2(code, a, b),
            [O::M(a), O::R(b)] => Instruction::with2(code, a, b),
            [O::R(a), O::I(b)] => Instruction::with2(code, a, b),
            [O::R(a), O::R(b), O::R(c)] => Instruction::with3(code, a, b, c),
            [O::R(a), O::R(b), O::M(c)] => Instruction::with3(code, a, b, c),
            [O::R(a), O::M(b), O::R(c)] => Instruction::with3(code, a, b, c),
            [O::R(a), O::R(b), O::I(c)] => Instruction::with3(code, a, b, c as i32),
            [O::R(a), O::M(b), O::I(c)] => Instruction::with3(code, a, b, c as i32),
            [O::R(a), O::R(b), O::R(c), O::R(d)] => Instruction::with4(code, a, b, c, d),
            [O::R(a), O::R(b), O::M(c), O::R(d)] => Instruction::with4(code, a, b, c, d),
            [O::R(a), O::R(b), O::R(c), O::I(d)] => Instruction::with4(code, a, b, c, d as i32),
            [O::R(a), O::R(b), O::M(c), O::I(d)] => Instruction::with4(code, a, b, c, d as i32),
            _ => return Err(Refused(format!("{code:?} with {} operands", ops.len()))),
        };
        made.map(Some).map_err(backend)
    }
}

/// Encodes a function.
pub(super) fn encode(body: &Body, allocation: &Allocation, isa: Isa, text: bool) -> Result<Encoded, Refused> {
    let mut a = Assembler { encoder: Encoder::new(64), at: 0, allocation, labels: HashMap::new(), jumps: vec![], constants: vec![] };
    let saved = saved(allocation, body);
    let frame = body.n_slots as i64 * SLOT_BYTES;
    for &r in &saved {
        a.emit(&Instruction::with1(Code::Push_r64, r).map_err(backend)?)?;
    }
    if frame > 0 {
        a.emit(&Instruction::with2(Code::Sub_rm64_imm32, Register::RSP, frame).map_err(backend)?)?;
    }
    for step in &body.steps {
        match step {
            Step::Inst(inst) => a.inst(inst)?,
            Step::Label(label) => {
                a.labels.insert(*label, a.at);
            }
            Step::Jump(code, label) => a.jump(*code, *label)?,
        }
    }
    let fails = a.jumps.iter().any(|j| j.1 == FAIL);
    a.emit(&Instruction::with2(Code::Xor_r32_rm32, Register::EAX, Register::EAX).map_err(backend)?)?;
    let leave = Label(body.n_labels + 1);
    a.labels.insert(leave, a.at);
    if isa != Isa::V2 {
        a.emit(&Instruction::with(Code::VEX_Vzeroupper))?;
    }
    if frame > 0 {
        a.emit(&Instruction::with2(Code::Add_rm64_imm32, Register::RSP, frame).map_err(backend)?)?;
    }
    for &r in saved.iter().rev() {
        a.emit(&Instruction::with1(Code::Pop_r64, r).map_err(backend)?)?;
    }
    a.emit(&Instruction::with(Code::Retnq))?;
    if fails {
        a.labels.insert(FAIL, a.at);
        a.emit(&Instruction::with2(Code::Mov_r32_imm32, Register::EAX, INDEX_OUT_OF_RANGE as i32).map_err(backend)?)?;
        a.jump(Code::Jmp_rel32_64, leave)?;
    }
    let mut bytes = a.encoder.take_buffer();
    let code_len = bytes.len();
    for (field, label) in a.jumps {
        let Some(&to) = a.labels.get(&label) else { return Err(Refused("a jump leads nowhere".to_owned())) };
        patch(&mut bytes, field, to as i64 - (field as i64 + 4))?;
    }
    let places = body.pool.append(&mut bytes, 0xcc);
    for (field, next, entry) in a.constants {
        patch(&mut bytes, field, places[entry] as i64 - next as i64)?;
    }
    let text = text.then(|| disassemble(&bytes[..code_len]));
    Ok(Encoded { bytes, stack_bytes: frame as usize + 8 * saved.len(), text })
}

fn patch(bytes: &mut [u8], at: usize, value: i64) -> Result<(), Refused> {
    let value = i32::try_from(value).map_err(|_| Refused("its code is too long".to_owned()))?;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// The instructions as text, with their addresses.
fn disassemble(code: &[u8]) -> String {
    let mut formatter = GasFormatter::new();
    let mut text = String::new();
    let mut line = String::new();
    for instruction in Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
        line.clear();
        formatter.format(&instruction, &mut line);
        text += &format!("{:6x}:  {line}\n", instruction.ip());
    }
    text
}
