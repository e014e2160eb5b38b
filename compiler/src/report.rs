//! What a compilation came to: sizes, the memory plan, kernels, and what the passes changed.

use serde_json::{Value, json};

use crate::compile::Artifact;
use crate::emit::object::ObjectFile;
use crate::emit::{Interface, Port, StatePort};
use crate::passes::report::{Pruned, Quantized};

/// Sizes, the memory plan, and what the passes did.
#[derive(Clone, Debug)]
pub struct Report {
    /// What callers see.
    pub interface: Interface,
    /// Operators of the model as it was read.
    pub n_nodes: usize,
    /// Calls of kernels in a run.
    pub n_steps: usize,
    /// Kernels: name, schedule, bytes of code where code was made.
    pub kernels: Vec<(String, String, Option<usize>)>,
    /// Size of the arena.
    pub workspace_bytes: usize,
    /// No plan needs fewer bytes than this.
    pub workspace_lower_bound_bytes: usize,
    /// Size of the object file, where one was made.
    pub object_bytes: Option<usize>,
    /// The largest stack frame of a kernel, where code was made.
    pub stack_bytes: Option<usize>,
    /// Multiply-adds of one run.
    pub n_multiply_adds: u64,
    /// Weights that were quantized.
    pub quantized: Vec<Quantized>,
    /// Channels that left the network.
    pub pruned: Vec<Pruned>,
}

impl Report {
    pub(crate) fn new(artifact: &Artifact, object: Option<&ObjectFile>) -> Self {
        let compiled = &artifact.compiled;
        let kernel_bytes = |i: usize| object.and_then(|o| o.kernel_bytes.get(i).copied());
        Report {
            interface: artifact.interface.clone(),
            n_nodes: artifact.source.graph.operator_nodes().len(),
            n_steps: compiled.program.steps.len(),
            kernels: compiled
                .program
                .kernels
                .iter()
                .enumerate()
                .map(|(i, k)| (k.name.clone(), k.schedule.clone(), kernel_bytes(i)))
                .collect(),
            workspace_bytes: compiled.program.workspace_bytes,
            workspace_lower_bound_bytes: compiled.lower_bound_bytes,
            object_bytes: object.map(|o| o.bytes.len()),
            stack_bytes: object.map(|o| o.kernel_stack_bytes),
            n_multiply_adds: compiled.step_multiply_adds().iter().sum(),
            quantized: artifact.passes.quantized.clone(),
            pruned: artifact.passes.pruned.clone(),
        }
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Value {
        let port = |p: &Port| json!({"name": p.name, "parameter": p.ident, "dtype": p.dtype.name(), "shape": p.dims});
        let output = |p: &Port| {
            let mut facts = port(p);
            if let Some(shape) = p.shape_in {
                facts["actual_shape"] = json!(self.interface.outputs[shape].name);
            }
            facts
        };
        let state = |(p, next, s): (&Port, &str, &StatePort)| json!({"name": p.name, "next": next, "dtype": p.dtype.name(), "shape": p.dims, "offset": s.offset, "has_initial": s.has_initial});
        let quantized: Vec<Value> = self.quantized.iter().map(quantized_json).collect();
        let pruned: Vec<Value> = self
            .pruned
            .iter()
            .map(|p| json!({"value": p.value, "before": p.before, "after": p.after, "constant": p.n_constant, "unread": p.n_unread}))
            .collect();
        let kernels: Vec<Value> =
            self.kernels.iter().map(|(name, schedule, bytes)| json!({"name": name, "schedule": schedule, "code_bytes": bytes})).collect();
        json!({
            "name": self.interface.name,
            "title": self.interface.title,
            "target": self.interface.machine.to_string(),
            "version": self.interface.version,
            "source_hash": self.interface.source_hash,
            "inputs": self.interface.input_parameters().map(port).collect::<Vec<_>>(),
            "outputs": self.interface.output_parameters().map(output).collect::<Vec<_>>(),
            "states": self.interface.state_ports().map(state).collect::<Vec<_>>(),
            "state_bytes": self.interface.state_bytes,
            "n_nodes": self.n_nodes,
            "n_steps": self.n_steps,
            "multiply_adds": self.n_multiply_adds,
            "constant_bytes": self.interface.constant_bytes,
            "workspace_bytes": self.workspace_bytes,
            "workspace_lower_bound_bytes": self.workspace_lower_bound_bytes,
            "object_bytes": self.object_bytes,
            "stack_bytes": self.stack_bytes,
            "quantized": quantized,
            "pruned": pruned,
            "kernels": kernels,
        })
    }
}

fn quantized_json(q: &Quantized) -> Value {
    // Infinite where nothing changed, which JSON cannot say.
    let snr_db = if q.snr_db.is_finite() { json!(q.snr_db) } else { Value::Null };
    json!({
        "weights": q.weights, "user": q.user, "elements": q.n_elements, "before_bytes": q.before_bytes, "after_bytes": q.after_bytes,
        "snr_db": snr_db, "max_abs_error": q.max_abs_error,
    })
}
