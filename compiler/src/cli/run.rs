//! `tinsmith run MODEL IN.npz -o OUT.npz`: compiles in memory, runs once, or once for each of several cases, writes the outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tinsmith::source::Signature;
use tinsmith::tensor::Tensor;
use tinsmith::{Error, Pool, emit, source};

use super::options::ModelOptions;
use super::progress::Progress;
use super::session::Session;
use super::{Outcome, arrays, emitters, inputs};

/// Compile a model in memory, run it, and write its outputs
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// The inputs by name, as .npz; for one input also an .npy file. Several files, or a folder of .npz files, are cases that run one after
    /// the other: with --state each begins where the one before it ended, unless it gives the states
    #[arg(conflicts_with = "inputs", required_unless_present = "inputs")]
    input: Vec<PathBuf>,
    /// Where to write the outputs by name, as .npz; for one output also an .npy file. For several cases a folder, which gets a file
    /// of the name of every case's
    #[arg(short, long, value_name = "FILE", conflicts_with = "outputs")]
    output: Option<PathBuf>,
    /// A folder with input_0.npy, input_1.npy, ... in the order of the model's inputs; of a sequence input_0_0.npy, input_0_1.npy, ...; an
    /// optional input without a value has no file
    #[arg(long, value_name = "DIR")]
    inputs: Option<PathBuf>,
    /// A folder for output_0.npy, output_1.npy, ... in the order of the model's outputs; of a sequence output_0_0.npy, output_0_1.npy, ...
    #[arg(long, value_name = "DIR")]
    outputs: Option<PathBuf>,
}

/// Arrays of one run.
struct Case {
    name: String,
    arrays: BTreeMap<String, Tensor>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    let signature = source::signature(&args.model.model)?;
    let cases = cases(args, &signature)?;
    let several = cases.len() > 1 || args.input.iter().any(|p| p.is_dir());
    if several && args.outputs.is_some() {
        return Err(Error::Usage("`--outputs` is for one case; `-o` takes a folder for several".to_owned()));
    }
    let progress = Progress::new(format!("compiling {}", args.model.model.display()));
    let pool = args.model.pool();
    let mut session = Session::new(&args.model.model, &signature, args.model.config_here());
    let mut text = String::new();
    let mut facts = vec![];
    let mut emitters = Value::Null;
    for case in cases {
        let ran = session.run(case.arrays, pool.as_ref().map(Pool::hook))?;
        progress.say(format!("ran {}", case.name));
        ran.status?;
        let one = told(&ran.outputs);
        emitters = emitters::json(&ran.artifact.steps());
        if several {
            if let Some(folder) = &args.output {
                emit::files::create_folder(folder)?;
                arrays::write_npz(&folder.join(format!("{}.npz", case.name)), &ran.outputs)?;
            }
            text += &one.0.lines().map(|line| format!("{}: {line}\n", case.name)).collect::<String>();
            facts.push(json!({"name": case.name, "outputs": one.1}));
        } else {
            write(args, &ran.outputs, &ran.artifact.source.sequences)?;
            drop(progress);
            return Ok(Outcome::done(one.0, json!({"outputs": one.1, "emitters": emitters})));
        }
    }
    drop(progress);
    Ok(Outcome::done(text, json!({"cases": facts, "emitters": emitters})))
}

fn cases(args: &Args, signature: &Signature) -> Result<Vec<Case>, Error> {
    let name_of = |file: &Path| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(folder) = &args.inputs {
        return Ok(vec![Case { name: name_of(folder), arrays: inputs::from_folder(folder, signature)? }]);
    }
    let mut files = vec![];
    for path in &args.input {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|e| Error::read(path, e))?;
            let mut inside: Vec<PathBuf> =
                entries.filter_map(Result::ok).map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "npz")).collect();
            inside.sort();
            if inside.is_empty() {
                return Err(Error::Usage(format!("there are no .npz files in `{}`", path.display())));
            }
            files.append(&mut inside);
        } else {
            files.push(path.clone());
        }
    }
    let mut names = BTreeSet::new();
    let mut cases = vec![];
    for file in files {
        let arrays = if file.extension().is_some_and(|e| e == "npy") {
            let wanted: Vec<_> = signature.inputs.iter().filter(|i| !args.model.is_state(&i.name)).collect();
            let [input] = &wanted[..] else {
                return Err(Error::Usage(format!("the model has {} inputs; an .npy file is for one", wanted.len())));
            };
            [(input.name.clone(), arrays::read_npy(&file)?)].into()
        } else {
            arrays::read_npz(&file)?
        };
        let name = name_of(&file);
        if !names.insert(name.clone()) {
            return Err(Error::Usage(format!("two cases are named `{name}`")));
        }
        cases.push(Case { name, arrays });
    }
    Ok(cases)
}

fn write(args: &Args, outputs: &[(String, Tensor)], sequences: &[Range<usize>]) -> Result<(), Error> {
    if let Some(file) = &args.output {
        if file.extension().is_some_and(|e| e == "npy") {
            let plain: Vec<_> = outputs.iter().filter(|(name, _)| !args.model.is_next_state(name)).collect();
            let [(_, tensor)] = plain[..] else {
                return Err(Error::Usage(format!("the model has {} outputs; an .npy file is for one", plain.len())));
            };
            arrays::write_npy(file, tensor)?;
        } else {
            arrays::write_npz(file, outputs)?;
        }
    }
    if let Some(folder) = &args.outputs {
        emit::files::create_folder(folder)?;
        for (name, tensor) in numbers(outputs.len(), sequences).iter().zip(outputs.iter().map(|o| &o.1)) {
            arrays::write_npy(&folder.join(format!("output_{name}.npy")), tensor)?;
        }
    }
    Ok(())
}

/// Numbers of so many tensors as the outputs of a model, of which these are sequences: `1_0` is the first element of the second output.
fn numbers(n: usize, sequences: &[Range<usize>]) -> Vec<String> {
    let mut numbers = vec![];
    let mut sequences = sequences.iter().peekable();
    for i in 0.. {
        if let Some(range) = sequences.next_if(|range| range.start == numbers.len()) {
            numbers.extend((0..range.len()).map(|j| format!("{i}_{j}")));
        } else if numbers.len() < n {
            numbers.push(i.to_string());
        } else {
            break;
        }
    }
    numbers
}

/// Most elements of an output that are shown.
const SHOWN: usize = 16;

/// Outputs in words and for programs.
fn told(outputs: &[(String, Tensor)]) -> (String, Vec<Value>) {
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
    (text, facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_sequences_have_two_numbers() {
        assert_eq!(numbers(2, &[]), ["0", "1"]);
        assert_eq!(numbers(4, &[0..0, 1..3, 4..4]), ["1", "2_0", "2_1", "3"]);
    }
}
