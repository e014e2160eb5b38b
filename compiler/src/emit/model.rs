//! `NAME_model`: what a library says about itself, as constant data in the layout of [`tinsmith_targets::abi`].

use std::mem::{offset_of, size_of};

use cranelift_codegen::ir::{InstBuilder, types};
use cranelift_module::{DataDescription, FuncId, Linkage, Module};
use tinsmith_targets::abi::{ABI_VERSION, DTypeCode, Model, Tensor};

use super::object::{define, module_error};
use super::{EmitError, Interface};
use crate::codegen::program::ALIGN_BYTES;

/// Defines the description and the exported function that returns its address.
pub(super) fn define_model<M: Module>(module: &mut M, interface: &Interface) -> Result<FuncId, EmitError> {
    let id = module.declare_data("tinsmith.model", Linkage::Local, false, false).map_err(module_error)?;
    let description = Description::of(interface);
    let mut data = DataDescription::new();
    data.define(description.bytes.into());
    data.set_align(8);
    let here = module.declare_data_in_data(id, &mut data);
    for (at, target) in description.pointers {
        data.write_data_addr(at as u32, here, target as i64);
    }
    module.define_data(id, &data).map_err(module_error)?;
    define(module, &format!("{}_model", interface.name), Linkage::Export, &[types::I64], |module, b| {
        let data = module.declare_data_in_func(id, b.func);
        let address = b.ins().symbol_value(types::I64, data);
        b.ins().return_(&[address]);
    })
}

/// The struct, then its tensors, their extents, and the strings, with pointers as offsets from the beginning.
struct Description {
    bytes: Vec<u8>,
    /// Where a pointer is, and the offset it points to.
    pointers: Vec<(usize, usize)>,
}

impl Description {
    fn of(interface: &Interface) -> Self {
        let tensors = size_of::<Model>();
        let (inputs, outputs) = (interface.input_parameters().count(), interface.output_parameters().count());
        let ports: Vec<_> = interface.parameters().map(|p| p.0).chain(interface.state_ports().map(|s| s.0)).collect();
        let mut d = Description { bytes: vec![0; tensors + ports.len() * size_of::<Tensor>()], pointers: vec![] };
        d.u32(offset_of!(Model, abi), ABI_VERSION);
        d.u32(offset_of!(Model, n_inputs), inputs as u32);
        d.u32(offset_of!(Model, n_outputs), outputs as u32);
        d.u32(offset_of!(Model, workspace_align), ALIGN_BYTES as u32);
        d.u64(offset_of!(Model, workspace_bytes), interface.workspace_bytes as u64);
        d.u64(offset_of!(Model, constant_bytes), interface.constant_bytes as u64);
        d.pointers.push((offset_of!(Model, inputs), tensors));
        d.pointers.push((offset_of!(Model, outputs), tensors + inputs * size_of::<Tensor>()));
        d.u64(offset_of!(Model, state_bytes), interface.state_bytes as u64);
        d.u64(offset_of!(Model, n_states), interface.states.len() as u64);
        d.pointers.push((offset_of!(Model, states), tensors + (inputs + outputs) * size_of::<Tensor>()));
        for (i, port) in ports.iter().enumerate() {
            let at = tensors + i * size_of::<Tensor>();
            let extents = d.bytes.len();
            d.bytes.extend(port.dims.iter().flat_map(|&n| (n as u64).to_le_bytes()));
            d.pointers.push((at + offset_of!(Tensor, dims), extents));
            d.u32(at + offset_of!(Tensor, rank), port.dims.len() as u32);
            d.u32(at + offset_of!(Tensor, dtype), DTypeCode::parse(port.dtype.storage().name()).map_or(0, |code| code as u32));
            d.u64(at + offset_of!(Tensor, bytes), port.bytes() as u64);
        }
        for (i, port) in ports.iter().enumerate() {
            d.string(tensors + i * size_of::<Tensor>() + offset_of!(Tensor, name), &port.name);
        }
        d.string(offset_of!(Model, name), &interface.title);
        d.string(offset_of!(Model, version), &interface.version);
        d.string(offset_of!(Model, source_hash), &interface.source_hash);
        d.string(offset_of!(Model, target), &interface.machine.to_string());
        d
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Appends a string, ending at its first NUL if it has one, and points to it.
    fn string(&mut self, at: usize, text: &str) {
        self.pointers.push((at, self.bytes.len()));
        self.bytes.extend(text.bytes().take_while(|&b| b != 0));
        self.bytes.push(0);
    }
}
