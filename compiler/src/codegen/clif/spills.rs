//! How a kernel's registers came out: stack accesses, weighted by the depth of the loop they are in.
//!
//! Cranelift's allocator keeps or loses an accumulator by circumstances that no schedule can foresee, so the pipeline offers
//! several orders of the same kernel and takes the one that this measure likes best. It is read off the instructions' text,
//! so that it needs nothing of Cranelift's inside, and is the same on every machine.

use std::collections::HashMap;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, types};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::super::CodegenError;
use super::super::target::{Machine, Usage};
use super::caps;
use super::function::Lower;
use crate::nest::Kernel;

/// Compiles kernels to look at them.
pub struct Probe {
    machine: Machine,
    isa: OwnedTargetIsa,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Probe({})", self.machine)
    }
}

impl Probe {
    /// A probe for a machine.
    ///
    /// # Errors
    /// If Cranelift cannot compile for it.
    pub fn new(machine: &Machine) -> Result<Self, CodegenError> {
        Ok(Probe { machine: machine.clone(), isa: machine.isa(Usage::Object)? })
    }

    /// Stack accesses in the deepest loops of a kernel, each eight times as bad as one a loop further out.
    ///
    /// # Errors
    /// If the kernel does not compile.
    pub fn spills(&self, kernel: &Kernel) -> Result<u64, CodegenError> {
        let mut ctx = Context::new();
        ctx.set_disasm(true);
        ctx.func.signature.call_conv = self.isa.default_call_conv();
        ctx.func.signature.params = vec![AbiParam::new(types::I64); super::N_PARAMS];
        ctx.func.signature.returns.push(AbiParam::new(types::I32));
        let mut builders = FunctionBuilderContext::new();
        let builder = FunctionBuilder::new(&mut ctx.func, &mut builders);
        let builder = Lower::run(kernel, builder, caps(&self.machine), "")?;
        builder.finalize(self.isa.frontend_config());
        ctx.compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|e| CodegenError::Backend { name: kernel.name.clone(), message: format!("{:?}", e.inner) })?;
        let text = ctx.compiled_code().and_then(|c| c.vcode.as_deref()).unwrap_or_default();
        Ok(weigh(text))
    }
}

fn weigh(asm: &str) -> u64 {
    let mut blocks: Vec<u64> = vec![];
    let mut position: HashMap<usize, usize> = HashMap::new();
    let mut jumps: Vec<(usize, usize)> = vec![];
    for line in asm.lines() {
        if let Some(number) = line.strip_prefix("block").and_then(|l| l.strip_suffix(':')).and_then(|n| n.parse().ok()) {
            position.insert(number, blocks.len());
            blocks.push(0);
            continue;
        }
        let here = blocks.len().wrapping_sub(1);
        let Some(block) = blocks.last_mut() else { continue };
        if line.contains("(%rsp") || line.contains("[sp") {
            *block += 1;
        }
        for (at, _) in line.match_indices("label") {
            let digits: String = line[at + 5..].chars().take_while(char::is_ascii_digit).collect();
            if let Ok(target) = digits.parse() {
                jumps.push((here, target));
            }
        }
    }
    let mut depth = vec![0u32; blocks.len()];
    for (from, target) in jumps {
        if let Some(&to) = position.get(&target)
            && to <= from
        {
            depth[to..=from].iter_mut().for_each(|d| *d += 1);
        }
    }
    let deepest = depth.iter().copied().max().unwrap_or(0);
    blocks.iter().zip(&depth).map(|(n, &d)| if deepest - d < 3 { n << (3 * (2 - (deepest - d))) } else { 0 }).sum()
}

#[cfg(test)]
mod tests {
    use super::weigh;

    #[test]
    fn inner_loops_weigh_more() {
        let asm = "block0:\n  movq (%rsp), %rax\nblock1:\nblock2:\n  movdqu %xmm1, 0x10(%rsp)\n  jnz label2; j label3\nblock3:\n  jnz label1; j label4\nblock4:\n  ret\n";
        assert_eq!(weigh(asm), 64 + 1);
    }
}
