//! Branches and loops: captured constants move into the bodies, branches whose condition is known become what they choose, and what nobody
//! reads is not handed in or out.
//!
//! Requires: types, constants folded. Ensures: no body captures a constant (but where it has no type with it), or what it does not read, or a
//! value twice; no condition of a branch is constant; states that never change are captured instead; bodies are folded. Keeps: values, bit for bit.

use std::collections::BTreeSet;

use super::Report;
use super::edit::remove_dead;
use super::eliminate::dead_code;
use super::fold_constants::fold_constants_of;
use crate::graph::{Control, Graph, NodeId, NodeKind, Value, verify};
use crate::tensor::Type;

const PASS: &str = "control-flow";

/// Simplifies branches and loops.
pub fn control_flow(g: &mut Graph, report: &mut Report) {
    control_flow_of(g, None, report);
}

/// As [`control_flow`], where names are given with constants in bodies folded to the values of these names alone.
pub fn control_flow_of(g: &mut Graph, folded: Option<&BTreeSet<String>>, report: &mut Report) {
    for node in g.control_nodes() {
        if !g.contains(node) {
            continue;
        }
        let mut form = Form::of(g, node);
        form.capture_unchanging_states(report);
        let captured = form.control.clone();
        form.take_constants(g, report);
        for (i, body) in form.control.bodies_mut().into_iter().enumerate() {
            simplify_body(body, folded, report);
            // A body that never runs may have an index outside, or else no type: if it runs, that shows then.
            if verify(body).is_err() {
                *body = captured.bodies()[i].clone();
                report.declined.insert(("captured-constant", form.name.clone()), format!("`{}` has no type with them", body.name));
                simplify_body(body, folded, report);
            }
        }
        form.drop_unread(report);
        let node = form.write(g, node);
        if let Some(inlined) = choose(g, node) {
            report.applied(PASS, "constant-condition", &inlined);
        }
    }
}

fn simplify_body(body: &mut Graph, folded: Option<&BTreeSet<String>>, report: &mut Report) {
    fold_constants_of(body, folded, report);
    control_flow_of(body, folded, report);
    dead_code(body, report);
}

/// A branch or loop while it changes.
struct Form {
    control: Control,
    operands: Vec<Option<Value>>,
    results: Vec<Option<Value>>,
    types: Vec<Type>,
    name: String,
    label: String,
}

impl Form {
    fn of(g: &Graph, node: NodeId) -> Form {
        let n = g.node(node);
        let results: Vec<Option<Value>> = (0..n.results.len())
            .map(|i| Value { node, result: i as u32 })
            .map(|v| (!g.name_of(v).is_empty() && g.n_uses(v) > 0).then_some(v))
            .collect();
        let name = n.results.iter().find(|r| !r.name.is_empty()).map_or(String::new(), |r| r.name.clone());
        Form {
            control: n.control().expect("a branch or loop").clone(),
            operands: g.operands(node),
            types: n.results.iter().map(|r| r.ty.clone()).collect(),
            results,
            name,
            label: n.label.clone(),
        }
    }

    /// States that each iteration hands on as they are become captured values, and their results the operands.
    fn capture_unchanging_states(&mut self, report: &mut Report) {
        let Control::Loop(l) = &mut self.control else { return };
        let first = usize::from(l.conditional);
        for i in (first..l.n_states).rev() {
            let (input, output) = (l.body.inputs()[1 + i], l.body.outputs()[i]);
            // A result that is read stays one: its operand may be an input or a constant, which an output cannot be.
            if input != output || self.results[i].is_some() {
                continue;
            }
            let mut inputs: Vec<usize> = (0..l.body.inputs().len()).filter(|&k| k != 1 + i).collect();
            inputs.push(1 + i);
            let outputs: Vec<usize> = (0..l.body.outputs().len()).filter(|&k| k != i).collect();
            l.body = l.body.select(&inputs, &outputs);
            l.n_states -= 1;
            let operand = self.operands.remove(1 + i);
            self.operands.push(operand);
            self.results.remove(i);
            self.types.remove(i);
            report.applied(PASS, "unchanging-state", &self.name);
        }
    }

    /// Captured constants become constants of the bodies.
    fn take_constants(&mut self, g: &Graph, report: &mut Report) {
        let (first, captured) = self.control.first_operands();
        for i in captured..self.operands.len() {
            let Some((v, tensor)) = self.operands[i].and_then(|v| Some((v, g.constant(v)?))) else { continue };
            for body in self.control.bodies_mut() {
                let input = body.inputs()[i - first];
                if body.n_uses(input) > 0 {
                    let constant = body.add_constant(g.name_of(v), tensor.clone());
                    body.replace_uses(input, constant);
                    report.applied(PASS, "captured-constant", body.name_of(constant));
                }
            }
        }
    }

    /// Captured values that no body reads or that another operand is already go, and outputs of bodies that nobody reads.
    fn drop_unread(&mut self, report: &mut Report) {
        let (first, captured) = self.control.first_operands();
        let mut inputs: Vec<usize> = (0..captured - first).collect();
        for i in captured..self.operands.len() {
            let same = (captured..i).find(|&k| self.operands[k] == self.operands[i] && inputs.contains(&(k - first)));
            if let Some(k) = same {
                for body in self.control.bodies_mut() {
                    let (old, new) = (body.inputs()[i - first], body.inputs()[k - first]);
                    body.replace_uses(old, new);
                }
            }
            if self.control.bodies().iter().any(|b| b.n_uses(b.inputs()[i - first]) > 0) {
                inputs.push(i - first);
            }
        }
        let n_states = match &self.control {
            Control::If(_) => 0,
            Control::Loop(l) => l.n_states,
        };
        let outputs: Vec<usize> = (0..self.results.len()).filter(|&i| i < n_states || self.results[i].is_some()).collect();
        if let Control::Loop(l) = &mut self.control
            && !l.backward.is_empty()
        {
            let scanned = (0..l.n_scanned).chain(outputs.iter().filter(|&&i| i >= n_states).map(|i| l.n_scanned + i - n_states));
            l.backward = scanned.map(|i| l.is_backward(i)).collect();
        }
        let kept = |list: &[usize], all: usize| list.len() < all;
        if kept(&inputs, self.control.bodies()[0].inputs().len()) || kept(&outputs, self.results.len()) {
            for body in self.control.bodies_mut() {
                *body = body.select(&inputs, &outputs);
                dead_code(body, report);
            }
        }
        let mut operands: Vec<Option<Value>> = self.operands[..first].to_vec();
        operands.extend(inputs.iter().map(|i| self.operands[first + i]));
        self.operands = operands;
        self.types = outputs.iter().map(|&i| self.types[i].clone()).collect();
        self.results = outputs.iter().map(|&i| self.results[i]).collect();
    }

    /// Puts the form in the place of the node.
    fn write(self, g: &mut Graph, node: NodeId) -> NodeId {
        let results = self.types.into_iter().map(|ty| (String::new(), ty)).collect();
        let new = g.add_typed_control(self.control, &self.operands, results, &self.label);
        let mut names = vec![];
        for (i, old) in self.results.into_iter().enumerate() {
            let Some(old) = old else { continue };
            names.push((i, g.name_of(old).to_owned()));
            // Without a name a result cannot be used.
            g.rename(Value { node: new, result: i as u32 }, g.name_of(old).to_owned().as_str());
            g.replace_uses(old, Value { node: new, result: i as u32 });
        }
        remove_dead(g, node);
        for (i, name) in names {
            g.rename(Value { node: new, result: i as u32 }, &name);
        }
        new
    }
}

/// Puts the branch that a constant condition chooses in the place of a node; the name of a result if so.
fn choose(g: &mut Graph, node: NodeId) -> Option<String> {
    let Some(Control::If(b)) = g.node(node).control() else { return None };
    let operands = g.operands(node);
    let condition = g.constant(operands[0]?)?.to_ints()[0] != 0;
    let body = if condition { b.then_branch.clone() } else { b.else_branch.clone() };
    let results: Vec<(usize, String)> = g.results(node).into_iter().map(|v| (v.result as usize, g.name_of(v).to_owned())).collect();
    // An output of the graph cannot be an input, a constant or another output: it stays a branch.
    let outputs: Vec<Value> = results.iter().map(|r| body.outputs()[r.0]).collect();
    let is_plain = |v: &Value| matches!(body.node(v.node).kind, NodeKind::Operator(_) | NodeKind::Control(_));
    let is_once = |v: &Value| outputs.iter().filter(|o| *o == v).count() == 1;
    let any_output = results.iter().any(|r| g.is_output(Value { node, result: r.0 as u32 }));
    if any_output && !outputs.iter().all(|v| is_plain(v) && is_once(v)) {
        return None;
    }
    let inner = g.splice(&body, &operands[1..]);
    for ((i, _), v) in results.iter().zip(&outputs) {
        g.replace_uses(Value { node, result: *i as u32 }, inner[v]);
    }
    remove_dead(g, node);
    for ((_, name), v) in results.iter().zip(&outputs) {
        if is_plain(v) {
            g.rename(inner[v], name);
        }
    }
    Some(results.first().map_or(String::new(), |r| r.1.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::exact;

    #[test]
    fn constants_move_into_bodies() {
        let text = "graph @g(%c: bool[], %x: f32[2], %z: f32[2]) -> (%y) {
          @w = const [1,2] : f32[2]
          @v = const [3,4] : f32[2]
          %y, %unread = if(%c, %x, @w, @v, %z, %x) then graph @yes(%x: f32[2], %w: f32[2], %v: f32[2], %z: f32[2], %again: f32[2]) -> (%y, %z) {
            %u = Add(%w, %v)
            %y = Add(%x, %u)
          } else graph @no(%x: f32[2], %w: f32[2], %v: f32[2], %z: f32[2], %again: f32[2]) -> (%y, %x) {
            %y = Mul(%again, %v)
          }
        }";
        let (after, report) = exact(control_flow, text);
        insta::assert_snapshot!(after);
        assert!(report.applied.iter().any(|a| a.rule == "captured-constant"));
    }

    #[test]
    fn states_that_stay_are_captured() {
        let text = "graph @g(%n: i64[], %x: f32[2], %w: f32[2]) -> (%y) {
          %y, %_w = loop(%n, %x, %w) states=2 do graph @b(%i: i64[], %s: f32[2], %w: f32[2]) -> (%t, %w) {
            %t = Add(%s, %w)
          }
        }";
        let (after, report) = exact(control_flow, text);
        insta::assert_snapshot!(after);
        assert_eq!(report.applied.iter().filter(|a| a.rule == "unchanging-state").count(), 1);
    }

    #[test]
    fn a_body_that_constants_make_wrong_captures_them() {
        let text = "graph @g(%x: f32[]) -> (%y) {
          @low = const [-1000] : f32[]
          @at = const [4,1] : i64[2]
          %c = Less(%x, @low)
          %y = if(%c, @at) then graph @yes(%at: i64[2]) -> (%y) {
            @i = const [0] : i64[]
            %place = Gather(%at, @i)
            %y = Gather(%at, %place)
          } else graph @no(%at: i64[2]) -> (%y) {
            @i = const [1] : i64[]
            %y = Gather(%at, @i)
          }
        }";
        let (after, report) = exact(control_flow, text);
        assert!(after.contains("Gather(%at, @i)") && after.contains("@y = const [1] "), "{after}");
        assert_eq!(report.declined.values().next().unwrap(), "`yes` has no type with them");
    }

    #[test]
    fn a_known_condition_chooses() {
        let text = "graph @g(%x: f32[2]) -> (%y, %z) {
          @c = const [false] : bool[]
          %y, %t = if(@c, %x) then graph @yes(%x: f32[2]) -> (%y, %x) {
            %y = Neg(%x)
          } else graph @no(%x: f32[2]) -> (%y, %z) {
            %y = Abs(%x)
            %z = Exp(%y)
          }
          %z = Add(%t, %x)
        }";
        let (after, _) = exact(control_flow, text);
        assert!(after.contains("%y = Abs(%x)") && after.contains("%t = Exp(%y)") && !after.contains("if("), "{after}");
    }
}
