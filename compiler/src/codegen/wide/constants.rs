//! Constants in registers: what an innermost loop reads from behind the code in every iteration is loaded once before it, as far as
//! registers are left. A polynomial reads one constant for each multiply-add, and a processor loads no more in a cycle than it adds.

use std::collections::{BTreeMap, HashMap};

use iced_x86::Code;

use super::Isa;
use super::forms;
use super::inst::{Base, Body, Class, Inst, Mem, Operand, Step, View, Virtual};
use crate::codegen::linear::list::Instruction as _;
use crate::codegen::linear::registers::{File as _, pressure};

/// The bank of vectors.
const VECTORS: usize = 1;

/// A constant in all lanes of a vector, or one of as many lanes, such as the places of a shuffle: its entry, and lanes of 32 bits.
type Filled = (usize, u32);

/// A loop, and the registers that hold its constants.
struct Held {
    first: usize,
    last: usize,
    registers: BTreeMap<Filled, Virtual>,
}

/// Loads constants before the innermost loops that read them.
pub(super) fn hoist(body: &mut Body, isa: Isa) {
    let reading = |&(first, last): &(usize, usize)| Some((first, last, reads(&body.steps[first..=last]))).filter(|r| !r.2.is_empty());
    let loops: Vec<_> = body.innermost_loops().iter().filter_map(reading).collect();
    if isa == Isa::V2 || loops.is_empty() {
        return;
    }
    let live = pressure::<Inst, Isa>(body, VECTORS);
    let mut held = vec![];
    for (first, last, reads) in loops {
        let most = live[first.saturating_sub(1)..=last].iter().copied().max().unwrap_or(0);
        let free = isa.n_registers(VECTORS).saturating_sub(most);
        let mut reads: Vec<(Filled, usize)> = reads.into_iter().collect();
        reads.sort_by_key(|&(constant, n)| (std::cmp::Reverse(n), constant));
        let registers = reads.into_iter().take(free).map(|(c, _)| (c, body.virtual_register(Class::Vector(c.1)))).collect();
        held.push(Held { first, last, registers });
    }
    rewrite(body, isa, &held);
}

/// How often the steps of a loop read each constant.
fn reads(steps: &[Step]) -> BTreeMap<Filled, usize> {
    let mut reads = BTreeMap::new();
    for step in steps {
        if let Step::Inst(inst) = step
            && let Some((constant, _)) = filled(inst)
        {
            *reads.entry(constant).or_insert(0) += 1;
        }
    }
    reads
}

/// The constant that an instruction reads into all lanes of a vector, and the operand that it is.
fn filled(inst: &Inst) -> Option<(Filled, usize)> {
    let entry = |m: &Mem| match (m.base, m.index, m.displacement) {
        (Base::Pool(entry), None, 0) => Some(entry),
        _ => None,
    };
    let lanes = |view: View| match view {
        View::X => Some(4),
        View::Y => Some(8),
        View::Z => Some(16),
        _ => None,
    };
    match &inst.operands[..] {
        [Operand::Def(_, view), Operand::Mem(m, false)] if (is_fill(inst.code) || is_load(inst.code)) && inst.mask.is_none() => {
            Some(((entry(m)?, lanes(*view)?), 1))
        }
        [_, Operand::Use(_, view), Operand::Mem(m, true), ..] => Some(((entry(m)?, lanes(*view)?), 2)),
        _ => None,
    }
}

/// The levels and lanes of vectors whose constants are held.
const WIDTHS: [(Isa, u32); 5] = [(Isa::V3, 4), (Isa::V3, 8), (Isa::V4, 4), (Isa::V4, 8), (Isa::V4, 16)];

/// Whether an instruction loads one element into all lanes.
fn is_fill(code: Code) -> bool {
    WIDTHS.iter().any(|&(isa, lanes)| [forms::BROADCAST_LOAD, forms::BROADCAST_LOAD_64].iter().any(|f| f.code(isa, lanes) == code))
}

/// Whether an instruction loads a vector.
fn is_load(code: Code) -> bool {
    WIDTHS.iter().any(|&(isa, lanes)| forms::LOAD.code(isa, lanes) == code)
}

/// Replaces reads of constants that are held, and loads those before their loops, which are in the order of the steps.
fn rewrite(body: &mut Body, isa: Isa, loops: &[Held]) {
    let mut n_written = vec![0u32; body.classes.len()];
    for step in &body.steps {
        if let Step::Inst(inst) = step {
            inst.for_each_register(|v, _, written| n_written[v.0 as usize] += u32::from(written));
        }
    }
    let mut same: HashMap<Virtual, Virtual> = HashMap::new();
    let mut loops = loops.iter().peekable();
    let (steps, depths) = (std::mem::take(&mut body.steps), std::mem::take(&mut body.depths));
    for (i, (mut step, depth)) in steps.into_iter().zip(depths).enumerate() {
        while loops.next_if(|l| l.last < i).is_some() {}
        let held = loops.peek().filter(|l| l.first <= i);
        if let Some(l) = held.filter(|l| l.first == i) {
            for (&(entry, lanes), &v) in &l.registers {
                let forms = match body.pool.entries[entry].len() {
                    4 => forms::BROADCAST_LOAD,
                    8 => forms::BROADCAST_LOAD_64,
                    _ => forms::LOAD,
                };
                let operands = vec![Operand::Def(v, View::lanes(lanes)), Operand::Mem(Mem::pool(entry), false)];
                body.steps.push(Step::Inst(Inst { code: forms.code(isa, lanes), operands, mask: None }));
                body.depths.push(depth.saturating_sub(1));
            }
        }
        if let (Some(l), Step::Inst(inst)) = (held, &mut step)
            && let Some((constant, operand)) = filled(inst)
            && let Some(&v) = l.registers.get(&constant)
        {
            let read = Operand::Use(v, View::lanes(constant.1));
            match inst.operands[..] {
                [Operand::Def(to, _), _] if n_written[to.0 as usize] == 1 => {
                    same.insert(to, v);
                    continue;
                }
                [to, _] => *inst = Inst { code: forms::MOVE.code(isa, constant.1), operands: vec![to, read], mask: None },
                _ => inst.operands[operand] = read,
            }
        }
        body.steps.push(step);
        body.depths.push(depth);
    }
    for step in &mut body.steps {
        if let Step::Inst(inst) = step {
            let mut renamed = vec![];
            inst.for_each_register(|v, _, _| renamed.extend(same.get(&v).map(|&to| (v, to))));
            renamed.into_iter().for_each(|(from, to)| inst.rename(from, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{hoist, reads};
    use crate::codegen::linear::registers;
    use crate::codegen::wide::{Isa, Unit, select};
    use crate::nest::{Access, Affine, Builder, Kernel, math};
    use crate::tensor::DType;

    /// Sigmoids of `n` vectors beside each other in every iteration.
    fn sigmoids(n: i64) -> Kernel {
        let mut b = Builder::new("k", "");
        let (x, y) = (b.buffer("x", DType::F32, 1280, Access::Read), b.buffer("y", DType::F32, 1280, Access::Write));
        b.for_loop("i", 0..1280, 16 * n, |b, i| {
            let at = |k: i64| Affine::var(i).offset(16 * k);
            let inputs: Vec<_> = (0..n).map(|k| b.load(x, at(k), 16)).collect();
            let results: Vec<_> = inputs.into_iter().map(|x| math::sigmoid(b, x).expect("f32")).collect();
            for (k, result) in (0..n).zip(results) {
                b.store(y, at(k), result);
            }
        });
        b.finish()
    }

    /// Constants that the loop reads before and after, and spilled registers.
    fn read(kernel: &Kernel) -> [usize; 3] {
        let unit = Unit { isa: Isa::V4, f16c: true, vnni: false, l1d_bytes: 0 };
        let mut body = select::select(kernel, unit).unwrap();
        let in_loops =
            |body: &super::Body| body.innermost_loops().iter().map(|&(first, last)| reads(&body.steps[first..=last]).len()).sum::<usize>();
        let before = in_loops(&body);
        hoist(&mut body, unit.isa);
        let after = in_loops(&body);
        registers::allocate(&mut body, &unit.isa).unwrap();
        [before, after, body.n_slots]
    }

    #[test]
    fn a_loop_reads_no_constants_where_registers_are_left() {
        let [before, after, spilled] = read(&sigmoids(1));
        assert!(before > 10);
        assert_eq!([after, spilled], [0, 0]);
    }

    #[test]
    fn constants_push_nothing_onto_the_stack() {
        let [before, after, spilled] = read(&sigmoids(20));
        assert!(0 < after && after < before, "{before} constants, then {after}");
        assert_eq!(spilled, 0);
    }
}
