//! `tinsmith inspect MODEL`: what it is, and whether it compiles, with every reason if not.

use serde_json::{Value, json};
use tinsmith::codegen::Machine;
use tinsmith::source::Declared;
use tinsmith::tensor::Dim;
use tinsmith::{Error, source};

use super::options::ModelOptions;
use super::progress::Progress;
use super::{Outcome, bytes_text};

/// Say what a model is, and whether it compiles
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    let config = args.model.config();
    let machine = Machine::parse(config.target.as_deref(), config.cpu.as_deref())?;
    let path = &args.model.model;
    let progress = Progress::new(format!("reading {}", path.display()));
    let signature = source::signature(path)?;
    let ports = |ports: &[Declared]| -> String { ports.iter().map(|p| format!("    {}: {p}\n", p.name)).collect() };
    let mut text = format!("{}\n  inputs\n{}  outputs\n{}", path.display(), ports(&signature.inputs), ports(&signature.outputs));
    let dims = |p: &Declared| -> Option<Vec<Value>> {
        let dim = |d: &Dim| d.fixed().map_or_else(|| json!(d.to_string()), |n| json!(n));
        p.shape.as_ref().map(|shape| shape.0.iter().map(dim).collect())
    };
    let json_ports = |ports: &[Declared]| -> Vec<Value> {
        ports.iter().map(|p| json!({"name": p.name, "dtype": p.dtype.name(), "shape": dims(p)})).collect()
    };
    let mut facts = json!({"inputs": json_ports(&signature.inputs), "outputs": json_ports(&signature.outputs)});

    let listed: Vec<String> = signature.operators.iter().map(|(name, n)| format!("{name} {n}")).collect();
    text += &format!(
        "  operators: {}\n  parameters: {} ({})\n",
        listed.join(", "),
        signature.n_parameters,
        bytes_text(usize::try_from(signature.parameter_bytes).unwrap_or(usize::MAX)),
    );
    facts["operators"] = json!(signature.operators);
    facts["parameters"] = json!(signature.n_parameters);
    facts["parameter_bytes"] = json!(signature.parameter_bytes);
    let source = source::read(path, &config).inspect_err(|_| show(&text, args))?;

    progress.say(format!("compiling {}", path.display()));
    let artifact = tinsmith::compile_source(source, &config, &machine).inspect_err(|_| show(&text, args))?;
    let report = artifact.report(None);
    text += &format!(
        "  multiply-adds: {}\n  memory: workspace {} (at least {}), weights {}\n  compiles for {}: {} kernels, {} steps\n",
        report.n_multiply_adds,
        bytes_text(report.workspace_bytes),
        bytes_text(report.workspace_lower_bound_bytes),
        bytes_text(report.interface.constant_bytes),
        report.interface.machine,
        report.kernels.len(),
        report.n_steps,
    );
    drop(progress);
    if let (Some(facts), Some(more)) = (facts.as_object_mut(), report.to_json().as_object()) {
        for (key, value) in more {
            facts.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Ok(Outcome::done(text, facts))
}

/// What is known of a model that does not compile comes before the reasons.
fn show(text: &str, args: &Args) {
    if !args.model.json {
        super::print(text);
    }
}
