//! `tinsmith run MODEL IN.npz -o OUT.npz`: compiles in memory, runs once, writes the outputs.

use std::path::PathBuf;

use serde_json::json;
use tinsmith::tensor::Tensor;
use tinsmith::{Error, Pool, emit, source};

use super::options::ModelOptions;
use super::progress::Progress;
use super::{Outcome, arrays, inputs};

/// Compile a model in memory, run it once, and write its outputs
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// The inputs by name, as .npz; for one input also an .npy file
    #[arg(conflicts_with = "inputs", required_unless_present = "inputs")]
    input: Option<PathBuf>,
    /// Where to write the outputs by name, as .npz; for one output also an .npy file
    #[arg(short, long, value_name = "FILE", conflicts_with = "outputs")]
    output: Option<PathBuf>,
    /// A folder with input_0.npy, input_1.npy, ... in the order of the model's inputs
    #[arg(long, value_name = "DIR")]
    inputs: Option<PathBuf>,
    /// A folder for output_0.npy, output_1.npy, ... in the order of the model's outputs
    #[arg(long, value_name = "DIR")]
    outputs: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    let mut config = args.model.config_here();
    let signature = source::signature(&args.model.model)?;
    let arrays = match (&args.input, &args.inputs) {
        (Some(file), _) if file.extension().is_some_and(|e| e == "npy") => {
            let [input] = &signature.inputs[..] else {
                return Err(Error::Usage(format!("the model has {} inputs; an .npy file is for one", signature.inputs.len())));
            };
            [(input.name.clone(), arrays::read_npy(file)?)].into()
        }
        (Some(file), _) => arrays::read_npz(file)?,
        (None, Some(folder)) => inputs::from_folder(folder, &signature)?,
        (None, None) => return Err(Error::Usage("there are no inputs".to_owned())),
    };
    let progress = Progress::new(format!("compiling {}", args.model.model.display()));
    let (artifact, tensors) = inputs::compile(&args.model.model, &signature, arrays, &mut config)?;
    let executable = artifact.executable()?;
    progress.say("running".to_owned());
    let mut memory = inputs::memory(&artifact, &executable, &tensors)?;
    let pool = args.model.pool();
    executable.run_with(&mut memory, pool.as_ref().map(Pool::hook))?;
    drop(progress);
    let outputs = inputs::outputs(&artifact, &memory);
    write(args, &outputs)?;
    Ok(told(&outputs))
}

fn write(args: &Args, outputs: &[(String, Tensor)]) -> Result<(), Error> {
    if let Some(file) = &args.output {
        if file.extension().is_some_and(|e| e == "npy") {
            let [(_, tensor)] = outputs else {
                return Err(Error::Usage(format!("the model has {} outputs; an .npy file is for one", outputs.len())));
            };
            arrays::write_npy(file, tensor)?;
        } else {
            arrays::write_npz(file, outputs)?;
        }
    }
    if let Some(folder) = &args.outputs {
        emit::files::create_folder(folder)?;
        for (i, (_, tensor)) in outputs.iter().enumerate() {
            arrays::write_npy(&folder.join(format!("output_{i}.npy")), tensor)?;
        }
    }
    Ok(())
}

/// Most elements of an output that are shown.
const SHOWN: usize = 16;

fn told(outputs: &[(String, Tensor)]) -> Outcome {
    let mut text = String::new();
    let mut facts = vec![];
    for (name, tensor) in outputs {
        let values = tensor.to_f64s();
        let shown: Vec<String> = values.iter().take(SHOWN).map(|x| format!("{}", *x as f32)).collect();
        let more = if values.len() > SHOWN { ", ..." } else { "" };
        text += &format!("{name}: {} = [{}{more}]\n", tensor.ty(), shown.join(", "));
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        facts.push(json!({"name": name, "dtype": tensor.dtype().name(), "shape": tensor.dims(), "min": least, "max": greatest}));
    }
    Outcome::done(text, json!({"outputs": facts}))
}
