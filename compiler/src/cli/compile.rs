//! `tinsmith compile MODEL -o DIR`: a static library with its header, Rust module and build files, or any stage's text.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;
use tinsmith::{Error, Output};

use super::options::ModelOptions;
use super::progress::Progress;
use super::{Outcome, bytes_text};

/// Compile a model to a static library
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// The folder to write to; created where it is missing
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// The name that files and functions derive from; the default is the model file's
    #[arg(long)]
    name: Option<String>,
    /// What to write
    #[arg(long, value_delimiter = ',', value_name = "STAGES", default_value = "lib")]
    emit: Vec<Stage>,
    /// Also write the graph after these passes
    #[arg(long, value_delimiter = ',', value_name = "PASSES")]
    emit_after: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Stage {
    /// The graph after all passes
    Graph,
    /// The tensor expressions of every step
    Expr,
    /// The kernels as loops
    Nest,
    /// The functions in Cranelift's form
    Clif,
    /// The functions as instructions
    Asm,
    /// The object file
    Obj,
    /// The static library, C header, Rust module, pkg-config and CMake files
    Lib,
    /// The report as JSON
    Report,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Error> {
    let start = Instant::now();
    let mut config = args.model.config();
    config.name.clone_from(&args.name);
    config.dump.after = args.emit_after.iter().cloned().collect();
    let outputs: Vec<Output> = args
        .emit
        .iter()
        .map(|stage| match stage {
            Stage::Graph => Output::Graph,
            Stage::Expr => Output::Expr,
            Stage::Nest => Output::Nest,
            Stage::Clif => Output::Clif,
            Stage::Asm => Output::Asm,
            Stage::Obj => Output::Object,
            Stage::Lib => Output::Library,
            Stage::Report => Output::Report,
        })
        .collect();
    let progress = Progress::new(format!("compiling {}", args.model.model.display()));
    let artifact = tinsmith::compile(&args.model.model, &config)?;
    progress.say(format!("writing {}", args.output.display()));
    let written = artifact.write(&args.output, &outputs)?;
    drop(progress);

    let seconds = start.elapsed().as_secs_f64();
    let mut text = String::new();
    let mut files = vec![];
    for path in &written.files {
        let bytes = std::fs::metadata(path).map_or(0, |m| m.len() as usize);
        text += &format!("{:>10}  {}\n", bytes_text(bytes), path.display());
        files.push(json!({"path": path.display().to_string(), "bytes": bytes}));
    }
    let report = &written.report;
    let state = match report.interface.state_bytes {
        0 => String::new(),
        bytes => format!("state {}, ", bytes_text(bytes)),
    };
    text += &format!(
        "{} for {}: {} nodes in {} steps, weights {}, workspace {} (at least {}), {state}{seconds:.2} s\n",
        report.interface.name,
        report.interface.machine,
        report.n_nodes,
        report.n_steps,
        bytes_text(report.interface.constant_bytes),
        bytes_text(report.workspace_bytes),
        bytes_text(report.workspace_lower_bound_bytes),
    );
    for q in &report.quantized {
        text += &format!(
            "quantized {}: signal to noise {:.1} dB, {} to {}\n",
            q.weights,
            q.snr_db,
            bytes_text(q.before_bytes),
            bytes_text(q.after_bytes)
        );
    }
    for p in &report.pruned {
        text += &format!("pruned {}: {} of {} channels stay\n", p.value, p.after, p.before);
    }
    let mut facts = report.to_json();
    facts["files"] = files.into();
    facts["seconds"] = seconds.into();
    Ok(Outcome::done(text, facts))
}
