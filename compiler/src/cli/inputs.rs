//! Arrays for a model's inputs: found, checked against its signature, and used to bind its dimensions.

use std::collections::BTreeMap;
use std::path::Path;

use tinsmith::codegen::{Executable, Memory};
use tinsmith::config::Config;
use tinsmith::emit::Port;
use tinsmith::source::{Declared, Signature};
use tinsmith::tensor::{DType, Tensor};
use tinsmith::{Artifact, Error, source};

use super::arrays;

/// Binds the dimensions of a model to the shapes of arrays for all its inputs, and gives the arrays in the order of the
/// inputs.
pub(crate) fn bind_to(signature: &Signature, mut arrays: BTreeMap<String, Tensor>, config: &mut Config) -> Result<Vec<Tensor>, Error> {
    let mut tensors = vec![];
    let mut missing = vec![];
    for input in &signature.inputs {
        match arrays.remove(&input.name) {
            Some(tensor) => tensors.push(fit(input, tensor)?),
            None => missing.push(format!("`{}`: {input}", input.name)),
        }
    }
    if !missing.is_empty() {
        return Err(Error::Usage(format!("there are no arrays for the inputs {}", missing.join(", "))));
    }
    if let Some(name) = arrays.keys().next() {
        let names: Vec<&str> = signature.inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(Error::Usage(format!("the model has no input `{name}`; its inputs are {}", names.join(", "))));
    }
    for (input, tensor) in signature.inputs.iter().zip(&tensors) {
        config.input_shapes.insert(input.name.clone(), tensor.dims().to_vec());
    }
    Ok(tensors)
}

/// Compiles a model for arrays for all its inputs. Those whose values decide shapes become constants of the compiled model; the arrays of
/// the others are given back in order.
pub(crate) fn compile(
    path: &Path,
    signature: &Signature,
    arrays: BTreeMap<String, Tensor>,
    config: &mut Config,
) -> Result<(Artifact, Vec<Tensor>), Error> {
    let tensors = bind_to(signature, arrays, config)?;
    let names = || signature.inputs.iter().map(|i| &i.name);
    loop {
        let problems = match tinsmith::compile(path, config) {
            Err(Error::Model(problems)) => problems,
            compiled => {
                let rest = names().zip(tensors).filter(|(name, _)| !config.constants.contains_key(*name)).map(|(_, t)| t);
                return Ok((compiled?, rest.collect()));
            }
        };
        let deciding = source::deciding_inputs(path, config)?;
        let fixed = config.constants.len();
        let new = names().zip(&tensors).filter(|(name, _)| deciding.contains(*name)).map(|(name, t)| (name.clone(), t.clone()));
        config.constants.extend(new);
        if config.constants.len() == fixed {
            return Err(Error::Model(problems));
        }
    }
}

/// The arrays `input_0.npy`, `input_1.npy`, ... of a folder, by the inputs' names.
pub(crate) fn from_folder(folder: &Path, signature: &Signature) -> Result<BTreeMap<String, Tensor>, Error> {
    let mut arrays = BTreeMap::new();
    for (i, input) in signature.inputs.iter().enumerate() {
        arrays.insert(input.name.clone(), arrays::read_npy(&folder.join(format!("input_{i}.npy")))?);
    }
    Ok(arrays)
}

/// The array as an element type that it may stand for, or an error that says what does not fit.
fn fit(input: &Declared, tensor: Tensor) -> Result<Tensor, Error> {
    let tensor = as_type(tensor, input.dtype);
    // Writers of arrays make vectors of scalars.
    let scalar = input.shape.as_ref().is_some_and(|s| s.rank() == 0) && tensor.len() == 1;
    let tensor = if scalar { tensor.reshape(&[]) } else { tensor };
    if !input.fits(tensor.dims()) || tensor.dtype() != input.dtype {
        return Err(Error::Usage(format!("input `{}` is {input}, which an array {} does not fit", input.name, tensor.ty())));
    }
    Ok(tensor)
}

/// The same bits as `bf16` where the file could only say `u16`.
pub(crate) fn as_type(tensor: Tensor, dtype: DType) -> Tensor {
    let travels_as = if dtype == DType::BF16 { DType::U16 } else { dtype.storage() };
    if dtype != tensor.dtype() && tensor.dtype() == travels_as {
        return Tensor::from_bytes(dtype, tensor.dims(), tensor.bytes());
    }
    tensor
}

/// Arrays for the inputs of a compiled model, the same for the same model: floats in -1..1, integers 0 and 1, which every
/// table has.
pub(crate) fn random(ports: &[Port]) -> Vec<Tensor> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let one = |port: &Port| {
        let is_float = port.dtype.is_float();
        let values: Vec<f64> = (0..port.n_elements()).map(|_| if is_float { 2.0 * next() - 1.0 } else { (2.0 * next()).floor() }).collect();
        Tensor::from_f64s(port.dtype, &port.dims, &values)
    };
    ports.iter().map(one).collect()
}

/// Buffers with the inputs in them.
pub(crate) fn memory(artifact: &Artifact, executable: &Executable, inputs: &[Tensor]) -> Result<Memory, Error> {
    let mut memory = executable.memory();
    for ((port, tensor), buffer) in artifact.interface.inputs.iter().zip(inputs).zip(&mut memory.inputs) {
        if tensor.dims() != port.dims || tensor.dtype() != port.dtype {
            return Err(Error::Usage(format!("input `{}` is {}, which an array {} does not fit", port.name, port.ty(), tensor.ty())));
        }
        buffer.as_mut_slice().copy_from_slice(tensor.bytes());
    }
    Ok(memory)
}

/// The outputs in the buffers, with their names.
pub(crate) fn outputs(artifact: &Artifact, memory: &Memory) -> Vec<(String, Tensor)> {
    let one = |(port, buffer): (&Port, &tinsmith::codegen::AlignedBytes)| {
        (port.name.clone(), Tensor::from_bytes(port.dtype, &port.dims, buffer.as_slice()))
    };
    artifact.interface.outputs.iter().zip(&memory.outputs).map(one).collect()
}
