//! A graph again with other types of its inputs: every type inferred anew, bodies included.

use std::collections::HashMap;

use super::{Control, Graph, NodeKind, Value, print};
use crate::ops::InferError;
use crate::tensor::Type;

/// The graph with inputs of these types, in order.
///
/// # Errors
/// The line of the first node that has no type then, and why.
pub fn retype(old: &Graph, inputs: &[Type]) -> Result<Graph, (String, InferError)> {
    let mut new = Graph::new(old.name.clone());
    let mut values: HashMap<Value, Value> = HashMap::new();
    for (&input, ty) in old.inputs().iter().zip(inputs) {
        values.insert(input, new.add_input(old.name_of(input), ty.clone()));
    }
    for id in old.order() {
        let node = old.node(id);
        let operands: Vec<_> = old.operands(id).into_iter().map(|v| v.and_then(|v| values.get(&v).copied())).collect();
        let names: Vec<String> = node.results.iter().map(|r| r.name.clone()).collect();
        let failed = |e: InferError| (print::line(old, id), e);
        let added = match &node.kind {
            NodeKind::Input => continue,
            NodeKind::Constant(tensor) => new.add_constant(&names[0], tensor.clone()).node,
            NodeKind::Operator(op) => new.add_node(op.clone(), &operands, &names, &node.label).map_err(failed)?,
            NodeKind::Control(control) => {
                let types: Vec<Option<Type>> = operands.iter().map(|v| v.map(|v| new.ty(v).clone())).collect();
                let control = retype_bodies(control, &types)?;
                new.add_control(control, &operands, &names, &node.label).map_err(failed)?
            }
        };
        for result in 0..node.results.len() as u32 {
            values.insert(Value { node: id, result }, Value { node: added, result });
        }
    }
    let outputs = old.output_names().iter().cloned().zip(old.outputs().iter().filter_map(|v| values.get(v).copied()));
    new.set_outputs(outputs.collect());
    Ok(new)
}

/// A branch or loop whose bodies get operands of these types.
fn retype_bodies(control: &Control, operands: &[Option<Type>]) -> Result<Control, (String, InferError)> {
    let mut control = control.clone();
    let (first, _) = control.first_operands();
    let slices = match &control {
        Control::If(_) => 0..0,
        Control::Loop(l) => 1 + l.n_states..1 + l.n_states + l.n_scanned,
    };
    let is_loop = matches!(control, Control::Loop(_));
    for body in control.bodies_mut() {
        let ty = |(i, &v): (usize, &Value)| match operands.get(first + i) {
            Some(Some(ty)) if slices.contains(&i) && ty.rank() > 0 => ty.with_dims(ty.shape.0[1..].iter().cloned()),
            // The number of the iteration has a type of its own.
            Some(Some(ty)) if !(is_loop && i == 0) => ty.clone(),
            _ => body.ty(v).clone(),
        };
        let types: Vec<Type> = body.inputs().iter().enumerate().map(ty).collect();
        *body = retype(body, &types)?;
    }
    Ok(control)
}
