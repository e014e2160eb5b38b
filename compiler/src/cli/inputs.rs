//! Arrays for a model's inputs: found, checked against its signature, and used to bind its dimensions.

use std::collections::BTreeMap;
use std::path::Path;

use tinsmith::codegen::{Executable, Memory};
use tinsmith::config::Config;
use tinsmith::emit::{Port, StatePort};
use tinsmith::source::{Declared, Form, Signature};
use tinsmith::tensor::{DType, Dim, Size, Tensor, relations};
use tinsmith::{Artifact, Error, source, state};

use super::arrays;

/// Binds the dimensions of a model to the shapes of arrays for all its inputs, of which those that are states may be missing, and gives the
/// arrays as the element types that they stand for.
pub(crate) fn bind_to(
    signature: &Signature,
    mut arrays: BTreeMap<String, Tensor>,
    config: &mut Config,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let is_state = |name: &str| config.states.iter().any(|(input, _)| input == name);
    let mut tensors = BTreeMap::new();
    let mut missing = vec![];
    for input in &signature.inputs {
        if input.form.is_sequence() {
            let mut shapes = vec![];
            while let Some(tensor) = arrays.remove(&source::element_name(&input.name, shapes.len())) {
                let tensor = fit(input, tensor)?;
                let name = source::element_name(&input.name, shapes.len());
                shapes.push(tensor.dims().to_vec());
                tensors.insert(name, tensor);
            }
            config.input_shapes.remove(&input.name);
            config.sequences.insert(input.name.clone(), shapes);
            continue;
        }
        match arrays.remove(&input.name) {
            Some(tensor) => {
                config.sequences.remove(&input.name);
                tensors.insert(input.name.clone(), fit(input, tensor)?);
            }
            None if input.form == Form::Optional => {
                config.input_shapes.remove(&input.name);
                config.sequences.insert(input.name.clone(), vec![]);
            }
            None if is_state(&input.name) => {}
            None => missing.push(format!("`{}`: {input}", input.name)),
        }
    }
    if !missing.is_empty() {
        return Err(Error::Usage(format!("there are no arrays for the inputs {}", missing.join(", "))));
    }
    // An input with a value of its own is in the signature of nobody, but may be a state.
    let (states, others): (BTreeMap<_, _>, BTreeMap<_, _>) = arrays.into_iter().partition(|(name, _)| is_state(name));
    if let Some(name) = others.keys().next() {
        let names: Vec<&str> = signature.inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(Error::Usage(format!("the model has no input `{name}`; its inputs are {}", names.join(", "))));
    }
    tensors.extend(states);
    if !config.dynamic.is_empty() {
        let dims = signature.inputs.iter().flat_map(|i| i.shape.iter().flat_map(|s| &s.0));
        let names: Vec<&str> = dims.filter_map(|d| if let Dim::Symbol(s) = d { Some(&**s) } else { None }).collect();
        let given = relations(&names, &config.relations);
        for (input, tensor) in signature.inputs.iter().filter_map(|i| Some((i, tensors.get(&i.name)?))) {
            for (d, &n) in input.shape.iter().flat_map(|s| &s.0).zip(tensor.dims()) {
                if let Dim::Symbol(s) = d
                    && !config.is_dynamic(s)
                    && !given.contains_key(&**s)
                {
                    config.bindings.insert(s.to_string(), n);
                }
            }
        }
        return Ok(tensors);
    }
    let plain = |name: &str| signature.inputs.iter().any(|i| i.name == name) || is_state(name);
    config.input_shapes.extend(tensors.iter().filter(|(name, _)| plain(name)).map(|(name, t)| (name.clone(), t.dims().to_vec())));
    Ok(tensors)
}

/// Compiles a model for arrays that [`bind_to`] gave. Those whose values decide shapes become constants of the compiled model, in the
/// configuration.
pub(crate) fn compile(path: &Path, arrays: &BTreeMap<String, Tensor>, config: &mut Config) -> Result<Artifact, Error> {
    loop {
        let problems = match tinsmith::compile(path, config) {
            Err(Error::Model(problems)) => problems,
            compiled => return compiled,
        };
        let deciding = source::deciding_inputs(path, config)?;
        let fixed = config.constants.len();
        let new: Vec<_> = deciding.into_iter().filter_map(|name| Some((name.clone(), arrays.get(&name)?.clone()))).collect();
        config.constants.extend(new);
        if config.constants.len() == fixed {
            return Err(Error::Model(problems));
        }
    }
}

/// A tensor for each input of a compiled model: its array, or what the state begins with.
pub(crate) fn in_order(artifact: &Artifact, mut arrays: BTreeMap<String, Tensor>) -> Vec<Tensor> {
    let mut initial = state::initial(&artifact.compiled.graph, &artifact.states);
    let inputs = artifact.interface.inputs.iter();
    inputs.filter_map(|p| arrays.remove(&p.name).or_else(|| initial.remove(&p.name))).collect()
}

/// The arrays `input_0.npy`, `input_1.npy`, ... of a folder, by the inputs' names; of a sequence `input_I_0.npy`, `input_I_1.npy`, ...
pub(crate) fn from_folder(folder: &Path, signature: &Signature) -> Result<BTreeMap<String, Tensor>, Error> {
    let mut arrays = BTreeMap::new();
    for (i, input) in signature.inputs.iter().enumerate() {
        if input.form.is_sequence() {
            let element = |j: usize| folder.join(format!("input_{i}_{j}.npy"));
            for j in (0..).take_while(|&j| element(j).exists()) {
                arrays.insert(source::element_name(&input.name, j), arrays::read_npy(&element(j))?);
            }
            continue;
        }
        if input.form == Form::Optional && !folder.join(format!("input_{i}.npy")).exists() {
            continue;
        }
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
/// table has; for states what they begin with.
pub(crate) fn random(artifact: &Artifact) -> Vec<Tensor> {
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
        (port.name.clone(), Tensor::from_f64s(port.dtype, &port.dims, &values))
    };
    let arrays = artifact.interface.input_parameters().map(one).collect();
    in_order(artifact, arrays)
}

/// Buffers with the inputs in them.
pub(crate) fn memory(artifact: &Artifact, executable: &Executable, inputs: &[Tensor]) -> Result<Memory, Error> {
    let mut memory = executable.memory();
    for (port, tensor) in artifact.interface.inputs.iter().zip(inputs) {
        for (size, &n) in port.sizes.iter().zip(tensor.dims()) {
            if let Size::Parameter(p) = size {
                memory.sizes[*p as usize] = n as i64;
            }
        }
    }
    let sizes = memory.sizes.clone();
    for ((port, tensor), buffer) in artifact.interface.inputs.iter().zip(inputs).zip(&mut memory.inputs) {
        if tensor.dims() != port.dims_of_run(&sizes) || tensor.dtype() != port.dtype || tensor.bytes().len() > buffer.as_slice().len() {
            return Err(Error::Usage(format!("input `{}` is {}, which an array {} does not fit", port.name, port.ty(), tensor.ty())));
        }
        buffer.as_mut_slice()[..tensor.bytes().len()].copy_from_slice(tensor.bytes());
    }
    Ok(memory)
}

/// The outputs in the buffers, with their names; the next values of states are where the states are. What has padding is cut to its actual
/// shape.
pub(crate) fn outputs(artifact: &Artifact, memory: &Memory) -> Vec<(String, Tensor)> {
    let outputs = &artifact.interface.outputs;
    let one = |(j, port): (usize, &Port)| {
        let state = artifact.interface.states.iter().find(|s| s.output == j);
        let buffer = state.map_or_else(|| &memory.outputs[j], |s| &memory.inputs[s.input]).as_slice();
        let dims = match port.shape_in {
            None => port.dims_of_run(&memory.sizes),
            Some(shape) => {
                let extents = Tensor::from_bytes(DType::I64, &outputs[shape].dims, memory.outputs[shape].as_slice()).to_ints();
                extents.iter().zip(&port.dims).map(|(&n, &most)| (n.max(0) as usize).min(most)).collect()
            }
        };
        let bytes = dims.iter().product::<usize>() * port.dtype.size_bytes();
        (port.name.clone(), Tensor::from_bytes(port.dtype, &dims, &buffer[..bytes.min(buffer.len())]))
    };
    let is_shape = |j: usize| outputs.iter().any(|p| p.shape_in == Some(j));
    outputs.iter().enumerate().filter(|(j, _)| !is_shape(*j)).map(one).collect()
}

/// The values of the states in the buffers, by the inputs' names.
pub(crate) fn states(artifact: &Artifact, memory: &Memory) -> BTreeMap<String, Tensor> {
    let one = |s: &StatePort| {
        let port = &artifact.interface.inputs[s.input];
        (port.name.clone(), Tensor::from_bytes(port.dtype, &port.dims, memory.inputs[s.input].as_slice()))
    };
    artifact.interface.states.iter().map(one).collect()
}
