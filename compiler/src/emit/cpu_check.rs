//! A function of the library itself that says whether the CPU and the system have what the code uses.
//!
//! On x86-64 it is two functions: machine code that asks `cpuid` and `xgetbv`, and around it one that keeps a positive
//! answer in a word of the library, because a virtual machine takes many microseconds for every `cpuid`. Threads may race for
//! the word: all write the same. An aarch64 library uses nothing that a CPU may lack, and has no check.

use std::collections::BTreeMap;

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, types};
use cranelift_module::{DataDescription, FuncId, Linkage, Module};
use tinsmith_targets::{Arch, CpuidRegister, Features, abi::StatusCode};

use super::EmitError;
use super::object::{define, module_error};
use crate::codegen::Machine;

/// Defines the check in a module, if the machine's code needs one.
pub(super) fn define_cpu_check<M: Module>(module: &mut M, machine: &Machine) -> Result<Option<FuncId>, EmitError> {
    let features = machine.target.features;
    if machine.target.arch != Arch::X86_64 || features.is_empty() {
        return Ok(None);
    }
    let mut signature = module.make_signature();
    signature.returns.push(cranelift_codegen::ir::AbiParam::new(types::I32));
    let ask = module.declare_function("tinsmith.cpuid", Linkage::Local, &signature).map_err(module_error)?;
    module.define_function_bytes(ask, 16, &ask_cpuid(features), &[]).map_err(module_error)?;

    let known = module.declare_data("tinsmith.cpu_is_known", Linkage::Local, true, false).map_err(module_error)?;
    let mut word = DataDescription::new();
    word.define_zeroinit(4);
    word.set_align(4);
    module.define_data(known, &word).map_err(module_error)?;

    let check = define(module, "tinsmith.cpu_check", Linkage::Local, &[types::I32], |module, b| {
        let known = module.declare_data_in_func(known, b.func);
        let address = b.ins().symbol_value(types::I64, known);
        let word = b.ins().load(types::I32, MemFlagsData::trusted(), address, 0);
        let (asks, knows) = (b.create_block(), b.create_block());
        b.ins().brif(word, knows, &[], asks, &[]);
        b.switch_to_block(knows);
        let ok = b.ins().iconst(types::I32, 0);
        b.ins().return_(&[ok]);
        b.switch_to_block(asks);
        let ask = module.declare_func_in_func(ask, b.func);
        let call = b.ins().call(ask, &[]);
        let answer = b.inst_results(call)[0];
        let (fails, passes) = (b.create_block(), b.create_block());
        b.ins().brif(answer, fails, &[], passes, &[]);
        b.switch_to_block(fails);
        b.ins().return_(&[answer]);
        b.switch_to_block(passes);
        let one = b.ins().iconst(types::I32, 1);
        b.ins().store(MemFlagsData::trusted(), one, address, 0);
        b.ins().return_(&[answer]);
    })?;
    Ok(Some(check))
}

/// Bit of `cpuid(1).ecx`: the system has enabled `xgetbv`.
const OSXSAVE: u32 = 1 << 27;

/// Machine code of `extern "C" fn() -> i32`: 0 if all features are there, otherwise the status that says so.
fn ask_cpuid(features: Features) -> Vec<u8> {
    let mut leaves: BTreeMap<u32, BTreeMap<CpuidRegister, u32>> = BTreeMap::new();
    let mut xcr0 = 0;
    for at in features.iter().filter_map(|f| f.cpuid()) {
        *leaves.entry(at.leaf).or_default().entry(at.register).or_default() |= 1 << at.bit;
        xcr0 |= at.xcr0;
    }
    if xcr0 != 0 {
        *leaves.entry(1).or_default().entry(CpuidRegister::Ecx).or_default() |= OSXSAVE;
    }
    let mut code = Code { bytes: vec![], to_failure: vec![] };
    code.push(&[0x53]); // push rbx
    for range in [0, 0x8000_0000] {
        if let Some((&highest, _)) = leaves.range(range..range + 0x7fff_ffff).next_back() {
            code.cpuid(range);
            code.op(0x3d, highest); // cmp eax, highest
            code.fail_if(0x82); // jb
        }
    }
    for (&leaf, words) in &leaves {
        code.cpuid(leaf);
        for (&register, &bits) in words {
            let register = match register {
                CpuidRegister::Ebx => 3,
                CpuidRegister::Ecx => 1,
            };
            code.push(&[0x81, 0xe0 | register]); // and register, bits
            code.push(&bits.to_le_bytes());
            code.push(&[0x81, 0xf8 | register]); // cmp register, bits
            code.push(&bits.to_le_bytes());
            code.fail_if(0x85); // jne
        }
    }
    if xcr0 != 0 {
        code.push(&[0x31, 0xc9]); // xor ecx, ecx
        code.push(&[0x0f, 0x01, 0xd0]); // xgetbv
        code.op(0x25, xcr0); // and eax, xcr0
        code.op(0x3d, xcr0); // cmp eax, xcr0
        code.fail_if(0x85); // jne
    }
    code.push(&[0x31, 0xc0]); // xor eax, eax
    code.push(&[0x5b, 0xc3]); // pop rbx; ret
    let failure = code.bytes.len();
    code.op(0xb8, StatusCode::CpuLacksFeature.code() as u32); // mov eax, status
    code.push(&[0x5b, 0xc3]); // pop rbx; ret
    for at in code.to_failure {
        code.bytes[at..at + 4].copy_from_slice(&((failure - at - 4) as u32).to_le_bytes());
    }
    code.bytes
}

struct Code {
    bytes: Vec<u8>,
    /// Where distances to the failing exit go.
    to_failure: Vec<usize>,
}

impl Code {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An instruction of one byte and a 32-bit constant.
    fn op(&mut self, op: u8, constant: u32) {
        self.bytes.push(op);
        self.push(&constant.to_le_bytes());
    }

    fn cpuid(&mut self, leaf: u32) {
        self.op(0xb8, leaf); // mov eax, leaf
        self.push(&[0x31, 0xc9]); // xor ecx, ecx
        self.push(&[0x0f, 0xa2]); // cpuid
    }

    /// A far conditional jump to the failing exit.
    fn fail_if(&mut self, condition: u8) {
        self.push(&[0x0f, condition]);
        self.to_failure.push(self.bytes.len());
        self.push(&[0; 4]);
    }
}

#[cfg(test)]
mod tests {
    use tinsmith_targets::{Level, Target};

    use super::*;

    #[test]
    fn v2_asks_one_leaf() {
        let code: String = ask_cpuid(Target::x86_64(Level::V2).features).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            code,
            "53b80000000031c90fa23d010000000f821f000000b80100000031c90fa281e10122980081f9012298000f8504000000\
             31c05bc3b8020000005bc3"
        );
    }
}
