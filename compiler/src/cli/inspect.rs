//! `tinsmith inspect MODEL`: what it is, and whether it compiles, with every reason if not.

use serde_json::{Value, json};
use tinsmith::codegen::Machine;
use tinsmith::source::Declared;
use tinsmith::steps::{MoveFacts, StepFacts};
use tinsmith::tensor::Dim;
use tinsmith::{Error, source};

use super::options::ModelOptions;
use super::progress::Progress;
use super::{Outcome, bytes_text, emitters};

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
    if !artifact.states.is_empty() {
        let listed: Vec<String> = report.interface.state_ports().map(|(p, next, _)| format!("{} = {next}", p.name)).collect();
        text += &format!("  state: {} ({})\n", bytes_text(report.interface.state_bytes), listed.join(", "));
    }
    let steps = artifact.steps();
    text += &emitters::text(&steps);
    text += &moves_text(&steps);
    facts["moves"] = moves_json(&steps);
    facts["moved_bytes"] = json!(moved_bytes(&steps));
    facts["emitters"] = emitters::json(&steps);
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

/// Moves that the text names.
const SHOWN_MOVES: usize = 12;

/// The moves of all steps, those of most bytes first.
fn moves(steps: &[StepFacts]) -> Vec<(&StepFacts, &MoveFacts)> {
    let mut moves: Vec<_> = steps.iter().flat_map(|s| s.moves.iter().map(move |m| (s, m))).collect();
    moves.sort_by_key(|(_, m)| std::cmp::Reverse(m.bytes));
    moves
}

fn moved_bytes(steps: &[StepFacts]) -> usize {
    moves(steps).iter().map(|(_, m)| m.bytes).sum()
}

fn moves_text(steps: &[StepFacts]) -> String {
    let moves = moves(steps);
    if moves.is_empty() {
        return "  no data moves remain\n".to_owned();
    }
    let kernels = steps.iter().filter(|s| s.only_moves).count();
    let inside = steps.iter().filter(|s| !s.only_moves && !s.moves.is_empty()).count();
    let mut text = format!(
        "  data moves that remain: {} a run; steps that do nothing else {kernels}, others with moves inside {inside}\n",
        bytes_text(moved_bytes(steps))
    );
    for (step, m) in moves.iter().take(SHOWN_MOVES) {
        let from = m.from.as_deref().unwrap_or("constants");
        let place = if step.only_moves { "step  " } else { "inside" };
        let to = if m.into_scratch { "scratch" } else { &m.to };
        text += &format!("    {:>10}  {place}  {}: {from} -> {to}\n", bytes_text(m.bytes), step.label);
    }
    if moves.len() > SHOWN_MOVES {
        let rest: usize = moves[SHOWN_MOVES..].iter().map(|(_, m)| m.bytes).sum();
        text += &format!("    {:>10}  in {} more; --json has them all\n", bytes_text(rest), moves.len() - SHOWN_MOVES);
    }
    text
}

fn moves_json(steps: &[StepFacts]) -> Value {
    let one = |(step, m): &(&StepFacts, &MoveFacts)| {
        json!({
            "step": step.label, "nodes": step.nodes, "kernel": step.kernel, "schedule": step.schedule, "only_moves": step.only_moves,
            "from": m.from, "to": m.to, "into_scratch": m.into_scratch, "bytes": m.bytes,
        })
    };
    moves(steps).iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tinsmith::codegen::EmittedBy;

    fn step(label: &str, wide: bool, only_moves: bool, moves: &[(Option<&str>, &str, bool, usize)]) -> StepFacts {
        let one = |&(from, to, into_scratch, bytes): &(Option<&str>, &str, bool, usize)| MoveFacts {
            from: from.map(str::to_owned),
            to: to.to_owned(),
            into_scratch,
            bytes,
        };
        StepFacts {
            label: label.into(),
            nodes: vec![label.into()],
            runs: 1,
            kernel: format!("k_{label}"),
            schedule: "map(lanes=8)".into(),
            emitter: EmittedBy { wide, vector_bits: 256, refused: (!wide).then(|| "`cos` is not known".into()) },
            multiply_adds: 0,
            flops: 0.0,
            operations: 0.0,
            constant_bytes: 0,
            value_bytes: 0,
            moves: moves.iter().map(one).collect(),
            only_moves,
        }
    }

    #[test]
    fn moves_and_emitters_are_listed() {
        let mut steps = vec![
            step("conv", true, false, &[(Some("x"), "x.padded", true, 20_000), (None, "x.padded", true, 100)]),
            step("transpose", false, true, &[(Some("x"), "y", false, 40_000)]),
            step("relu", true, false, &[]),
        ];
        insta::assert_snapshot!(emitters::text(&steps) + &moves_text(&steps), @r"
        kernels by emitter and bits of vectors: clif 256 1, wide 256 2
          1 not by the wide emitter: `cos` is not known
        data moves that remain: 58.7 KiB a run; steps that do nothing else 1, others with moves inside 1
            39.1 KiB  step    transpose: x -> y
            19.5 KiB  inside  conv: x -> scratch
               100 B  inside  conv: constants -> scratch
        ");
        insta::assert_snapshot!(format!("{:#}", moves_json(&steps)[0]), @r#"
        {
          "bytes": 40000,
          "from": "x",
          "into_scratch": false,
          "kernel": "k_transpose",
          "nodes": [
            "transpose"
          ],
          "only_moves": true,
          "schedule": "map(lanes=8)",
          "step": "transpose",
          "to": "y"
        }
        "#);
        steps.retain(|s| s.label == "relu");
        assert_eq!(moves_text(&steps), "  no data moves remain\n");
    }
}
