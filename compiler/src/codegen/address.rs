//! Where accesses point: for every loop, which pointers step with it, so that bodies contain no address arithmetic.
//!
//! An access is `base + sum(stride * variable) + constant`, all in bytes. Its *prefixes* are the sums over the outermost
//! one, two, ... of its variables; each prefix is one pointer, carried by the loop of its last variable. Accesses that
//! differ in the constant only share every pointer, the constant being the displacement of the instruction.

use std::collections::HashMap;

use crate::nest::{Affine, BufferId, Index, Kernel, Op, Reg, Stmt, Var};

/// A pointer: a buffer, byte strides of loop variables (outermost first), and the part of the constant that does not fit
/// the target's displacement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) struct Pointer {
    pub(in crate::codegen) buffer: BufferId,
    pub(in crate::codegen) terms: Vec<(Var, i64)>,
    pub(in crate::codegen) far: i64,
}

/// A pointer that a loop carries.
#[derive(Clone, Debug)]
pub(in crate::codegen) struct Stepping {
    pub(in crate::codegen) pointer: Pointer,
    /// The pointer without the loop's variable.
    pub(in crate::codegen) parent: Pointer,
    /// Bytes for each unit of the variable.
    pub(in crate::codegen) stride: i64,
}

/// Pointers of a kernel.
pub(in crate::codegen) struct Addresses {
    /// By loop variable.
    pub(in crate::codegen) stepping: HashMap<Var, Vec<Stepping>>,
    /// Pointers that no variable moves.
    pub(in crate::codegen) fixed: Vec<Pointer>,
    /// Byte strides with which each register is used in indices.
    pub(in crate::codegen) scales: HashMap<Reg, Vec<i64>>,
    // Value of the variable of a loop that runs once.
    single: HashMap<Var, i64>,
    depth: HashMap<Var, usize>,
    displacement_limit: fn(usize) -> i64,
}

/// x86-64 takes 31 bits of displacement; half of it is plenty.
pub(in crate::codegen) fn wide_displacement(_size: usize) -> i64 {
    1 << 30
}

/// aarch64 takes 12 bits, scaled by the size of what is loaded.
pub(in crate::codegen) fn scaled_displacement(size: usize) -> i64 {
    4096 * size as i64
}

/// What aarch64 takes where a vector is loaded: 12 bits, scaled by its size.
pub(in crate::codegen) fn vector_displacement(_size: usize) -> i64 {
    4096 * 16
}

impl Addresses {
    /// Plans the pointers of a kernel. `Err` names a variable that is used outside its loop.
    pub(in crate::codegen) fn plan(kernel: &Kernel, displacement_limit: fn(usize) -> i64) -> Result<Self, Var> {
        let mut plan = Addresses {
            stepping: HashMap::new(),
            fixed: vec![],
            scales: HashMap::new(),
            single: HashMap::new(),
            depth: HashMap::new(),
            displacement_limit,
        };
        plan.block(kernel, &kernel.body, &mut vec![])?;
        Ok(plan)
    }

    /// The value of a loop variable that has only one.
    pub(in crate::codegen) fn single(&self, var: Var) -> Option<i64> {
        self.single.get(&var).copied()
    }

    /// The pointer and the displacement of an access.
    pub(in crate::codegen) fn split(&self, buffer: BufferId, affine: &Affine, size: usize) -> (Pointer, i64) {
        let bytes = size as i64;
        let mut constant = affine.constant * bytes;
        let mut terms = vec![];
        for &(var, coefficient) in &affine.terms {
            match self.single(var) {
                Some(value) => constant += value * coefficient * bytes,
                None => terms.push((var, coefficient * bytes)),
            }
        }
        terms.sort_by_key(|t| self.depth.get(&t.0).copied().unwrap_or(usize::MAX));
        let near = constant.rem_euclid((self.displacement_limit)(size));
        (Pointer { buffer, terms, far: constant - near }, near)
    }

    fn block(&mut self, kernel: &Kernel, block: &[Stmt], open: &mut Vec<Var>) -> Result<(), Var> {
        for stmt in block {
            match stmt {
                Stmt::Loop(l) => {
                    if l.live.is_none() && l.end - l.start == l.step {
                        self.single.insert(l.var, l.start);
                    }
                    self.depth.insert(l.var, open.len());
                    open.push(l.var);
                    self.block(kernel, &l.body, open)?;
                    open.pop();
                }
                Stmt::If { then, otherwise, .. } => {
                    self.block(kernel, then, open)?;
                    self.block(kernel, otherwise, open)?;
                }
                Stmt::Set { op: Op::Load { buffer, index }, .. } | Stmt::Store { buffer, index, .. } => {
                    self.access(kernel, *buffer, index, open)?;
                }
                Stmt::Set { op: Op::Gather { buffer, index }, .. } => {
                    let scalars = index.spread().map_or_else(|| index.clone(), |(_, scalars)| scalars);
                    self.access(kernel, *buffer, &scalars, open)?;
                }
                Stmt::Prefetch { buffer, index } => self.access(kernel, *buffer, &Index::from(index.clone()), open)?,
                Stmt::Set { .. } => {}
            }
        }
        Ok(())
    }

    fn access(&mut self, kernel: &Kernel, buffer: BufferId, index: &Index, open: &[Var]) -> Result<(), Var> {
        let size = kernel.buffers[buffer.0 as usize].dtype.size_bytes();
        for &(reg, stride) in &index.dynamic {
            let scales = self.scales.entry(reg).or_default();
            if !scales.contains(&(stride * size as i64)) {
                scales.push(stride * size as i64);
            }
        }
        if let Some(&(var, _)) = index.affine.terms.iter().find(|t| !open.contains(&t.0)) {
            return Err(var);
        }
        let (pointer, _) = self.split(buffer, &index.affine, size);
        if pointer.terms.is_empty() && !self.fixed.contains(&pointer) {
            self.fixed.push(pointer.clone());
        }
        for n in 1..=pointer.terms.len() {
            let far = if n == pointer.terms.len() { pointer.far } else { 0 };
            let prefix = Pointer { buffer, terms: pointer.terms[..n].to_vec(), far };
            let (var, stride) = pointer.terms[n - 1];
            let stepping = self.stepping.entry(var).or_default();
            if !stepping.iter().any(|s| s.pointer == prefix) {
                let parent = Pointer { buffer, terms: pointer.terms[..n - 1].to_vec(), far: 0 };
                stepping.push(Stepping { pointer: prefix, parent, stride });
            }
        }
        Ok(())
    }
}
