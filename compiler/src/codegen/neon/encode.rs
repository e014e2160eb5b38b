//! Bytes: prologue, instructions, epilogue, constants; and the listing of them.

use std::collections::HashMap;

use super::code::{Code, Condition};
use super::inst::{Base, Body, Class, FAIL, Inst, Mem, Operand, Registers, Step, Virtual};
use super::word::{Address, Concrete, jump};
use crate::codegen::clif::INDEX_OUT_OF_RANGE;
use crate::codegen::linear::list::{Instruction as _, Label};
use crate::codegen::linear::registers::{Allocation, File as _};
use crate::codegen::linear::{Encoded, Refused};

/// Bytes of the stack for each spilled register.
const SLOT_BYTES: usize = 16;
/// Number of the stack pointer.
const SP: u8 = 31;

struct Assembler<'a> {
    body: &'a Body,
    allocation: &'a Allocation,
    words: Vec<u32>,
    /// The text of each instruction, with the first of its words.
    lines: Option<Vec<(usize, String)>>,
    labels: HashMap<Label, usize>,
    jumps: Vec<(usize, Condition, Label)>,
    /// Loads of constants, by the word and the entry.
    constants: Vec<(usize, Concrete, usize)>,
}

fn fixed(code: Code, registers: [u8; 4], immediate: i64, address: Option<Address>) -> Concrete {
    Concrete { code, registers, immediate, half: false, address }
}

impl Assembler<'_> {
    fn emit(&mut self, c: &Concrete) -> Result<(), Refused> {
        let words = c.words().map_err(Refused)?;
        self.line(|| c.text());
        self.words.extend(words);
        Ok(())
    }

    fn line(&mut self, text: impl FnOnce() -> String) {
        let at = self.words.len();
        if let Some(lines) = &mut self.lines {
            lines.push((at, text()));
        }
    }

    fn number(&self, v: Virtual) -> Result<u8, Refused> {
        let Some(n) = self.allocation.position(v) else { return Err(Refused("an operand has no register".to_owned())) };
        Ok(match self.body.classes[v.0 as usize] {
            Class::General => Registers::GENERAL[n],
            Class::Vector => Registers::VECTOR[n],
        })
    }

    fn address(&self, m: &Mem) -> Result<Address, Refused> {
        Ok(match (m.base, m.index) {
            (Base::Register(base), Some((index, _))) => Address::Index(self.number(base)?, self.number(index)?),
            (Base::Register(base), None) => Address::Offset(self.number(base)?, m.displacement),
            (Base::Slot(n), _) => Address::Offset(SP, (n * SLOT_BYTES) as i64),
            (Base::Pool(_), _) => Address::Here(0),
        })
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), Refused> {
        if let Some((from, to)) = inst.copy()
            && self.number(from)? == self.number(to)?
        {
            return Ok(());
        }
        let mut c = Concrete { half: inst.half, ..fixed(inst.code, [0; 4], inst.immediate, None) };
        let (mut n, mut entry) = (0, None);
        for operand in &inst.operands {
            match operand {
                Operand::Def(v) | Operand::Use(v) | Operand::Both(v) => {
                    c.registers[n] = self.number(*v)?;
                    n += 1;
                }
                Operand::Mem(m) => {
                    c.address = Some(self.address(m)?);
                    if let Base::Pool(n) = m.base {
                        entry = Some(n);
                    }
                }
            }
        }
        if let Some(entry) = entry {
            self.constants.push((self.words.len(), c, entry));
        }
        self.emit(&c)
    }

    fn jump(&mut self, condition: Condition, label: Label) {
        self.line(|| match condition {
            Condition::Always => format!("b .L{}", label.0),
            condition => format!("b.{} .L{}", condition.name(), label.0),
        });
        self.jumps.push((self.words.len(), condition, label));
        self.words.push(0);
    }

    fn label(&mut self, label: Label) {
        self.line(|| format!(".L{}:", label.0));
        self.labels.insert(label, self.words.len());
    }

    /// Moves the stack pointer.
    fn step_stack(&mut self, code: Code, bytes: usize) -> Result<(), Refused> {
        for part in [bytes & !0xfff, bytes & 0xfff] {
            if part > 0 {
                self.emit(&fixed(code, [SP, SP, 0, 0], part as i64, None))?;
            }
        }
        Ok(())
    }
}

/// Encodes a function.
pub(super) fn encode(body: &Body, allocation: &Allocation, text: bool) -> Result<Encoded, Refused> {
    let lines = text.then(Vec::new);
    let mut a = Assembler { body, allocation, words: vec![], lines, labels: HashMap::new(), jumps: vec![], constants: vec![] };
    let saved: Vec<(usize, u8)> = [0, 1]
        .into_iter()
        .flat_map(|bank| {
            let used = allocation.used::<Inst, Registers>(body, bank);
            let all: &[u8] = if bank == 0 { &Registers::GENERAL } else { &Registers::VECTOR };
            (Registers::FIRST_SAVED[bank]..Registers.n_registers(bank)).filter(move |n| used >> n & 1 == 1).map(move |n| (bank, all[n]))
        })
        .collect();
    let slots = body.n_slots * SLOT_BYTES;
    let frame = (slots + 8 * saved.len()).next_multiple_of(16);
    let place = |i: usize| Some(Address::Offset(SP, (slots + 8 * i) as i64));
    a.step_stack(Code::SubImmX, frame)?;
    for (i, &(bank, n)) in saved.iter().enumerate() {
        a.emit(&fixed([Code::StoreX, Code::StoreD][bank], [n, 0, 0, 0], 0, place(i)))?;
    }
    for step in &body.steps {
        match step {
            Step::Inst(inst) => a.inst(inst)?,
            Step::Label(label) => a.label(*label),
            Step::Jump(condition, label) => a.jump(*condition, *label),
        }
    }
    let fails = a.jumps.iter().any(|j| j.2 == FAIL);
    a.emit(&fixed(Code::SetX, [0; 4], 0, None))?;
    let leave = Label(body.n_labels + 1);
    a.label(leave);
    for (i, &(bank, n)) in saved.iter().enumerate() {
        a.emit(&fixed([Code::LoadX, Code::LoadD][bank], [n, 0, 0, 0], 0, place(i)))?;
    }
    a.step_stack(Code::AddImmX, frame)?;
    a.line(|| "ret".to_owned());
    a.words.push(0xD65F_03C0);
    if fails {
        a.label(FAIL);
        a.emit(&fixed(Code::SetX, [0; 4], INDEX_OUT_OF_RANGE, None))?;
        a.jump(Condition::Always, leave);
    }
    let Assembler { mut words, lines, labels, jumps, constants, .. } = a;
    let far = || Refused("its code is too long".to_owned());
    for (at, condition, label) in jumps {
        let Some(&to) = labels.get(&label) else { return Err(Refused("a jump leads nowhere".to_owned())) };
        words[at] = jump(condition, 4 * (to as i64 - at as i64)).ok_or_else(far)?;
    }
    let mut behind: Vec<u8> = vec![0; 4 * words.len()];
    let places = body.pool.append(&mut behind, 0);
    for (at, load, entry) in constants {
        let load = Concrete { address: Some(Address::Here(places[entry] as i64 - 4 * at as i64)), ..load };
        words[at] = load.words().map_err(|_| far())?[0];
    }
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.extend_from_slice(&behind[bytes.len()..]);
    let text = lines.map(|lines| lines.iter().map(|(at, line)| format!("{:6x}:  {line}\n", 4 * at)).collect());
    Ok(Encoded { bytes, stack_bytes: frame, text })
}
