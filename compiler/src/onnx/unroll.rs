//! Loops whose number of iterations is known when compiling, written out: where states are sequences, or change their shapes.

use onnx_protobuf::{GraphProto, type_proto};

use super::function::MAX_PREFIX_BYTES;
use super::model::{Frame, Importer};
use super::node::{At, NODE_BYTES};
use super::problems::Problem;
use super::scope::Known;
use super::sequences::truth;
use crate::tensor::Tensor;

/// Iterations of a loop that is written out because it is no loop of the graph.
const MAX_ITERATIONS: i64 = 1024;

/// A `Loop` before its first iteration.
#[derive(Clone)]
pub(super) struct Start {
    /// How often it runs at most, if that is said.
    pub(super) trip: Option<Known>,
    /// Whether it runs at all; `None`: the trip count alone decides.
    pub(super) condition: Option<Known>,
    pub(super) states: Vec<Known>,
}

impl Importer<'_> {
    /// Whether only a written-out loop can be right: with a state that is no tensor.
    pub(super) fn must_unroll(start: &Start, body: &GraphProto) -> bool {
        let no_tensor = |v: &onnx_protobuf::ValueInfoProto| !matches!(v.type_.value, None | Some(type_proto::Value::TensorType(_)));
        start.states.iter().any(|k| matches!(k, Known::Sequence(_) | Known::Absent)) || body.output.iter().any(no_tensor)
    }

    /// Whether a loop may be written out because it failed as a loop of the graph.
    pub(super) fn may_unroll(&self, start: &Start) -> bool {
        let trip = start.trip.as_ref().and_then(|k| self.constant_trip(k));
        let constant = start.condition.as_ref().is_none_or(|k| k.tensor(&self.graph).is_some());
        constant && trip.is_some_and(|n| n <= MAX_ITERATIONS)
    }

    /// The results of a `Loop`, written out.
    ///
    /// # Errors
    /// If the number of iterations is not known.
    pub(super) fn unrolled(&mut self, at: At<'_>, body: &GraphProto, start: Start) -> Result<Vec<Known>, Problem> {
        let Start { trip, condition, mut states } = start;
        let trip = match trip {
            None => None,
            Some(known) => match known.tensor(&self.graph) {
                Some(t) if t.len() == 1 && t.dtype().is_int() => Some(t.to_ints()[0] as i64),
                Some(t) => return Err(Problem::invalid(format!("the trip count of the loop is `{}`", t.ty()))),
                None => return self.run_time(at, &known, "how often"),
            },
        };
        let forever = condition.is_none();
        let mut condition = condition.unwrap_or_else(|| Known::constant("true", Tensor::from_bools(&[], [true])));
        let mut scanned = vec![vec![]; body.output.len() - 1 - states.len()];
        for i in 0.. {
            if trip.is_some_and(|n| i >= n) {
                break;
            }
            match condition.tensor(&self.graph).map(truth) {
                Some(Some(true)) => {}
                Some(Some(false)) => break,
                Some(None) => return Err(Problem::invalid("the condition of the loop is not one `bool`")),
                None => return self.run_time(at, &condition, "whether"),
            }
            let mut inputs = vec![Known::constant("iteration", Tensor::scalar(i)), condition];
            inputs.extend(states.iter().cloned());
            let mut outputs = self.once(at, body, inputs, i as usize)?;
            if outputs.iter().any(|k| matches!(k, Known::Failed)) {
                return Ok(vec![Known::Failed; at.node.output.len()]);
            }
            let rows = outputs.split_off(1 + states.len());
            scanned.iter_mut().zip(rows).for_each(|(column, k)| column.push(k));
            states = outputs.split_off(1);
            condition = if forever { Known::constant("true", Tensor::from_bools(&[], [true])) } else { outputs.swap_remove(0) };
        }
        let (names, _) = self.names(at, body.output.len() - 1);
        let mut results = states;
        for (column, name) in scanned.iter().zip(&names[results.len()..]) {
            results.push(if name.is_empty() { Known::Failed } else { self.joined(at, column, 0, true, name)? });
        }
        results.truncate(at.node.output.len());
        Ok(results)
    }

    /// A body read once, as iteration `i`: its outputs, with names of their own.
    pub(super) fn once(
        &mut self,
        at: At<'_>,
        body: &GraphProto,
        inputs: Vec<Known>,
        i: impl std::fmt::Display,
    ) -> Result<Vec<Known>, Problem> {
        self.spend(NODE_BYTES)?;
        let name = [&at.node.name].into_iter().chain(&at.node.output).find(|name| !name.is_empty()).cloned().unwrap_or_default();
        let mut prefix = format!("{}{name}.{i}/", at.frame.prefix);
        if prefix.len() > MAX_PREFIX_BYTES {
            prefix.clone_from(&at.frame.prefix);
        }
        let frame = Frame { opset: at.frame.opset, arguments: at.frame.arguments.clone(), prefix };
        self.n_unrolled += 1;
        let outputs = self.read_body(body, inputs, &frame);
        self.n_unrolled -= 1;
        outputs
    }

    /// Why a loop cannot be written out: data decides how often it runs.
    fn run_time(&mut self, at: At<'_>, known: &Known, what: &str) -> Result<Vec<Known>, Problem> {
        if self.depends_on_unbound(known) {
            return Ok(vec![Known::Failed; at.node.output.len()]);
        }
        self.depends_on_values(known);
        let message = format!("a state of the loop is a sequence or optional value, and the values of inputs decide {what} the loop runs");
        Err(Problem::unsupported("dynamic-shape", message).with_help("make that input a constant"))
    }
}
