//! `tinsmith verify MODEL IN.npz REF.npz`, or with ONNX's `test_data_set_*` folders: runs, compares, and names the first node whose
//! value differs from the graph's interpreter.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tinsmith::codegen::{Executable, Memory, Place};
use tinsmith::source::{Form, Signature};
use tinsmith::tensor::Tensor;
use tinsmith::{Artifact, Error, Pool, graph, onnx, pipeline, source};

use super::compare::{Tolerance, compare};
use super::options::ModelOptions;
use super::progress::Progress;
use super::session::{Ran, Session};
use super::{Outcome, WRONG, arrays, inputs};

/// Run a model and compare its outputs with expected ones
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// IN.npz and REF.npz, of several cases in turn; or folders: `test_data_set_*`, or what holds them. Without any, those beside the
    /// model. With --state each case begins where the one before it ended, unless it gives the states
    data: Vec<PathBuf>,
    /// Allowed difference, relative to the expected value
    #[arg(long, default_value_t = 1e-3)]
    rtol: f64,
    /// Allowed difference, added to it
    #[arg(long, default_value_t = 1e-5)]
    atol: f64,
}

/// Inputs and the outputs that they should give.
struct Case {
    name: String,
    inputs: BTreeMap<String, Tensor>,
    expected: Expected,
}

/// Outputs by name, or in the order of the model's.
enum Expected {
    Named(BTreeMap<String, Tensor>),
    InOrder(Vec<Tensor>),
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    let signature = source::signature(&args.model.model)?;
    let cases = cases(args, &signature)?;
    let tolerance = Tolerance { rtol: args.rtol, atol: args.atol };
    let progress = Progress::new(String::new());
    let mut text = String::new();
    let mut facts = vec![];
    let mut wrong = 0;
    let mut session = Session::new(&args.model.model, &signature, args.model.config_here());
    for case in cases {
        progress.say(format!("verifying {}", case.name));
        let result = verify(args, &mut session, case, tolerance)?;
        wrong += usize::from(!result.passed);
        text += &result.text;
        facts.push(result.json);
    }
    drop(progress);
    let n = facts.len();
    text += &format!("{} of {n} cases agree\n", n - wrong);
    let json = json!({"passed": wrong == 0, "cases": facts});
    Ok(Outcome { status: if wrong > 0 { WRONG } else { 0 }, text, json })
}

struct Verified {
    passed: bool,
    text: String,
    json: serde_json::Value,
}

fn verify(args: &Args, session: &mut Session<'_>, case: Case, tolerance: Tolerance) -> Result<Verified, Error> {
    let pool = args.model.pool();
    let Ran { artifact, executable, tensors, status, outputs } = session.run(case.inputs, pool.as_ref().map(Pool::hook))?;
    let outputs: HashMap<String, Tensor> = outputs.into_iter().collect();

    let mut text = String::new();
    let mut facts = vec![];
    let mut passed = status.is_ok();
    if let Err(status) = status {
        text += &format!("{}: the model returned status {}: {status}\n", case.name, status.0);
    } else {
        let expected: Vec<(String, Tensor)> = match case.expected {
            Expected::Named(tensors) => tensors.into_iter().collect(),
            Expected::InOrder(tensors) => artifact.interface.outputs.iter().map(|p| p.name.clone()).zip(tensors).collect(),
        };
        for (name, expected) in expected {
            let Some(found) = outputs.get(&name) else {
                return Err(Error::Usage(format!("the model has no output `{name}`")));
            };
            let expected = inputs::as_type(expected, found.dtype());
            let (what, max_abs) = match compare(found, &expected, tolerance) {
                Ok(max_abs) => (None, max_abs),
                Err(d) => (Some(d.what), d.max_abs),
            };
            passed &= what.is_none();
            let told = what.clone().unwrap_or_else(|| format!("agrees, within {max_abs:.3e}"));
            text += &format!("{}: {name}: {told}\n", case.name);
            let max_abs = if max_abs.is_finite() { json!(max_abs) } else { json!(null) };
            facts.push(json!({"output": name, "passed": what.is_none(), "max_abs_error": max_abs, "difference": what}));
        }
    }
    let mut node = None;
    if !passed && !args.model.config_here().dynamic.is_empty() {
        text += "  where it begins to differ is not looked for with `--dynamic`: bind the sizes to find it\n";
    } else if !passed {
        let first = first_difference(artifact, executable, &tensors, tolerance)?;
        text += &match &first {
            Some(f) => format!("  the first node that differs from the interpreter: {}\n    {}\n    {}\n", f.node, f.line, f.what),
            None => "  no node differs from the interpreter of the compiled graph\n".to_owned(),
        };
        node = first.map(|f| json!({"node": f.node, "value": f.value, "line": f.line, "difference": f.what}));
    }
    let json = json!({"name": case.name, "passed": passed, "outputs": facts, "first_difference": node});
    Ok(Verified { passed, text, json })
}

/// Where compiled code and interpreter part.
struct FirstDifference {
    node: String,
    value: String,
    line: String,
    what: String,
}

/// Runs step by step, comparing every value in memory with the interpreter's.
fn first_difference(
    artifact: &Artifact,
    executable: &Executable,
    tensors: &[Tensor],
    tolerance: Tolerance,
) -> Result<Option<FirstDifference>, Error> {
    let graph = &artifact.compiled.graph;
    let mut values: HashMap<String, Tensor> = HashMap::new();
    let wanted: std::collections::HashSet<&str> =
        artifact.compiled.steps.iter().flat_map(|s| s.values.iter().map(|v| v.name.as_str())).collect();
    let evaluated = graph::eval_with(graph, tensors, &mut |value, tensor| {
        let name = graph.name_of(value);
        if wanted.contains(name) {
            values.insert(name.to_owned(), tensor.clone());
        }
    });
    let mut memory = inputs::memory(artifact, executable, tensors)?;
    for part in artifact.compiled.program.units() {
        let steps = &artifact.compiled.steps[part.steps()];
        let Some(step) = steps.last() else { continue };
        let node = step.nodes.last().cloned().unwrap_or_default();
        let line = |name: &str| graph.find(name).map_or_else(String::new, |v| graph::line(graph, v.node).trim().to_owned());
        if let Err(status) = executable.run_part(&part, &mut memory) {
            let value = step.values.first().map_or_else(String::new, |v| v.name.clone());
            return Ok(Some(FirstDifference { node, line: line(&value), value, what: format!("status {}: {status}", status.0) }));
        }
        for value in steps.iter().flat_map(|s| &s.values) {
            let Some(expected) = values.get(&value.name) else { continue };
            let found = pipeline::read_placed(value, bytes_at(&memory, value.base));
            if let Err(d) = compare(&found, expected, tolerance) {
                return Ok(Some(FirstDifference { node, value: value.name.clone(), line: line(&value.name), what: d.what }));
            }
        }
    }
    match evaluated {
        Ok(_) => Ok(None),
        Err(e) => Err(Error::Bug(format!("the interpreter fails where compiled code does not: {e}"))),
    }
}

fn bytes_at(memory: &Memory, place: Place) -> &[u8] {
    match place {
        Place::Arena(offset) => &memory.workspace.as_slice()[offset..],
        Place::Input(i, offset) => &memory.inputs[i].as_slice()[offset..],
        Place::Output(i, offset) => &memory.outputs[i].as_slice()[offset..],
        Place::Constant(..) | Place::Pointer(..) => &[],
    }
}

fn cases(args: &Args, signature: &Signature) -> Result<Vec<Case>, Error> {
    let is_npz = |p: &Path| p.extension().is_some_and(|e| e == "npz");
    if !args.data.is_empty() && args.data.iter().all(|p| is_npz(p)) && args.data.len().is_multiple_of(2) {
        let case = |input: &Path, reference: &Path| {
            let expected = Expected::Named(arrays::read_npz(reference)?);
            let name = reference.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Case { name, inputs: arrays::read_npz(input)?, expected })
        };
        return args.data.chunks(2).map(|pair| case(&pair[0], &pair[1])).collect();
    }
    if let Some(file) = args.data.iter().find(|p| !p.is_dir()) {
        return Err(Error::Usage(format!("`{}` is not a folder; expected IN.npz and REF.npz, or folders", file.display())));
    }
    let beside = [args.model.model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()];
    let mut folders = vec![];
    for folder in if args.data.is_empty() { &beside[..] } else { &args.data } {
        let entries = fs::read_dir(folder).map_err(|e| Error::read(folder, e))?;
        let mut sets: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|e| e.file_name().to_string_lossy().starts_with("test_data_set_"))
            .map(|e| e.path())
            .collect();
        sets.sort();
        if sets.is_empty() && folder.join("output_0.pb").exists() {
            sets.push(folder.clone());
        }
        folders.append(&mut sets);
    }
    if folders.is_empty() {
        return Err(Error::Usage("there are no `test_data_set_*` folders; expected IN.npz and REF.npz, or folders".to_owned()));
    }
    folders.iter().map(|folder| case_of(folder, signature)).collect()
}

/// A folder with `input_0.pb ...` and `output_0.pb ...`.
fn case_of(folder: &Path, signature: &Signature) -> Result<Case, Error> {
    let read = |file: String, form: Form| onnx::read_value_file(&folder.join(file), form).map_err(Error::Model);
    let mut inputs = BTreeMap::new();
    for (i, input) in signature.inputs.iter().enumerate() {
        for (j, tensor) in read(format!("input_{i}.pb"), input.form)?.into_iter().enumerate() {
            let name = if input.form.is_sequence() { source::element_name(&input.name, j) } else { input.name.clone() };
            inputs.insert(name, tensor);
        }
    }
    let mut expected = vec![];
    let n_outputs = (0..).take_while(|i| folder.join(format!("output_{i}.pb")).exists()).count();
    for i in 0..n_outputs {
        // Outputs without a type are not in the signature.
        let form = signature.outputs.get(i).filter(|_| n_outputs == signature.outputs.len()).map_or(Form::Tensor, |o| o.form);
        expected.extend(read(format!("output_{i}.pb"), form)?);
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Case { name, inputs, expected: Expected::InOrder(expected) })
}
