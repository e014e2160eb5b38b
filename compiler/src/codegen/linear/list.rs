//! Instructions before register allocation: one linear list over virtual registers, with labels, and the constants behind it.

use std::collections::HashMap;

/// A virtual register; mutable, any number of definitions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(in crate::codegen) struct Virtual(pub(in crate::codegen) u32);

/// A place to jump to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) struct Label(pub(in crate::codegen) usize);

/// Where every function's failed checks go: behind its end.
pub(in crate::codegen) const FAIL: Label = Label(0);

/// What a memory operand starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::codegen) enum Base {
    /// An address in a register.
    Register(Virtual),
    /// An entry of the constants behind the code.
    Pool(usize),
    /// A spilled register.
    Slot(usize),
}

/// A memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::codegen) struct Mem {
    pub(in crate::codegen) base: Base,
    /// A register and what multiplies it; A64 has no displacement beside one, and multiplies by 1.
    pub(in crate::codegen) index: Option<(Virtual, u32)>,
    pub(in crate::codegen) displacement: i64,
}

impl Mem {
    /// What is so many bytes behind an address.
    pub(in crate::codegen) fn at(base: Virtual, displacement: i64) -> Self {
        Mem { base: Base::Register(base), index: None, displacement }
    }

    /// An entry of the constants.
    pub(in crate::codegen) fn pool(entry: usize) -> Self {
        Mem { base: Base::Pool(entry), index: None, displacement: 0 }
    }

    /// A spilled register.
    pub(in crate::codegen) fn slot(slot: usize) -> Self {
        Mem { base: Base::Slot(slot), index: None, displacement: 0 }
    }

    /// Whether it is a spilled register.
    pub(in crate::codegen) fn is_slot(&self) -> bool {
        matches!(self.base, Base::Slot(_))
    }

    /// Calls `f` with the registers of the address.
    pub(in crate::codegen) fn for_each_register(&self, f: &mut impl FnMut(Virtual, bool, bool)) {
        if let Base::Register(v) = self.base {
            f(v, true, false);
        }
        if let Some((v, _)) = self.index {
            f(v, true, false);
        }
    }

    /// Replaces the registers of the address.
    pub(in crate::codegen) fn rename(&mut self, swap: impl Fn(&mut Virtual)) {
        if let Base::Register(v) = &mut self.base {
            swap(v);
        }
        if let Some((v, _)) = &mut self.index {
            swap(v);
        }
    }
}

/// One instruction of a machine.
pub(in crate::codegen) trait Instruction: Clone {
    /// Which registers a virtual one may become.
    type Class: Copy;
    /// A jump, without where it goes.
    type Jump: Copy;

    /// Calls `f` with every virtual register, and whether it is read and written.
    fn for_each_register(&self, f: impl FnMut(Virtual, bool, bool));
    /// Replaces a register.
    fn rename(&mut self, from: Virtual, to: Virtual);
    /// Source and destination of a plain copy between registers.
    fn copy(&self) -> Option<(Virtual, Virtual)>;
    /// Whether it reads or writes a spilled register.
    fn touches_slot(&self) -> bool;
    /// Whether a jump has no condition.
    fn always(jump: Self::Jump) -> bool;
}

/// An entry of the list.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::codegen) enum Step<I: Instruction> {
    Inst(I),
    Label(Label),
    Jump(I::Jump, Label),
}

/// A function under construction.
pub(in crate::codegen) struct Body<I: Instruction> {
    pub(in crate::codegen) steps: Vec<Step<I>>,
    /// Loop depth of each step.
    pub(in crate::codegen) depths: Vec<u32>,
    pub(in crate::codegen) classes: Vec<I::Class>,
    pub(in crate::codegen) pool: Pool,
    pub(in crate::codegen) n_slots: usize,
    pub(in crate::codegen) n_labels: usize,
    depth: u32,
}

impl<I: Instruction> Default for Body<I> {
    fn default() -> Self {
        Body { steps: vec![], depths: vec![], classes: vec![], pool: Pool::default(), n_slots: 0, n_labels: 0, depth: 0 }
    }
}

impl<I: Instruction> Body<I> {
    pub(in crate::codegen) fn virtual_register(&mut self, class: I::Class) -> Virtual {
        self.classes.push(class);
        Virtual(self.classes.len() as u32 - 1)
    }

    pub(in crate::codegen) fn label(&mut self) -> Label {
        self.n_labels += 1;
        Label(self.n_labels)
    }

    pub(in crate::codegen) fn push(&mut self, step: Step<I>) {
        self.steps.push(step);
        self.depths.push(self.depth);
    }

    /// The first and the last step of every loop without loops inside, in order.
    pub(in crate::codegen) fn innermost_loops(&self) -> Vec<(usize, usize)> {
        let mut head: HashMap<Label, usize> = HashMap::new();
        let (mut loops, mut inner_end) = (vec![], 0);
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Step::Label(label) => {
                    head.insert(*label, i);
                }
                Step::Jump(_, label) => {
                    let Some(&first) = head.get(label) else { continue };
                    if first >= inner_end {
                        loops.push((first, i));
                    }
                    inner_end = i;
                }
                Step::Inst(_) => {}
            }
        }
        loops
    }

    /// Starts a loop; what follows is one deeper.
    pub(in crate::codegen) fn open_loop(&mut self) -> Label {
        let head = self.label();
        self.depth += 1;
        self.push(Step::Label(head));
        head
    }

    /// Ends a loop with a jump back to its head.
    pub(in crate::codegen) fn close_loop(&mut self, jump: I::Jump, head: Label) {
        self.push(Step::Jump(jump, head));
        self.depth -= 1;
    }
}

/// Constants behind a function's code.
#[derive(Debug, Default)]
pub(in crate::codegen) struct Pool {
    /// Contents and alignment, which is the size.
    pub(in crate::codegen) entries: Vec<Vec<u8>>,
    known: HashMap<Vec<u8>, usize>,
}

impl Pool {
    /// The entry with these bytes; their number is a power of two.
    pub(in crate::codegen) fn entry(&mut self, bytes: Vec<u8>) -> usize {
        let entries = &mut self.entries;
        *self.known.entry(bytes).or_insert_with_key(|bytes| {
            entries.push(bytes.clone());
            entries.len() - 1
        })
    }

    /// Puts the entries behind the code, the longest first, filled up with `fill`; returns where each is.
    pub(in crate::codegen) fn append(&self, bytes: &mut Vec<u8>, fill: u8) -> Vec<usize> {
        let mut places = vec![0; self.entries.len()];
        let mut by_size: Vec<usize> = (0..places.len()).collect();
        by_size.sort_by_key(|&i| std::cmp::Reverse(self.entries[i].len()));
        for i in by_size {
            let entry = &self.entries[i];
            bytes.resize(bytes.len().next_multiple_of(entry.len().min(super::ALIGN_BYTES)), fill);
            places[i] = bytes.len();
            bytes.extend_from_slice(entry);
        }
        places
    }
}
