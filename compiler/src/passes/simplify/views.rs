//! Rules about operators that only move or rename elements. They ask an operator's view and axes, rarely its name.

use crate::graph::{Graph, NodeId, Value};
use crate::ops::{Attribute, View};
use crate::passes::edit::{Outcome, alias, declined, int, kind, make, only_result, operand, remove_dead, replace, splat_operand};
use crate::tensor::{Affine, DType, Tensor};

/// The view that a node with one result is of its first operand.
fn view_of(g: &Graph, node: NodeId) -> Option<(Value, View)> {
    let op = g.node(node).operator()?;
    if g.results(node).len() != 1 {
        return None;
    }
    let input = operand(g, node, 0)?;
    let view = op.view(&g.facts(node))?.into_iter().next()?;
    Some((input, view))
}

/// A view of all elements, in their order, under the same shape.
pub(super) fn no_op_view(g: &mut Graph, node: NodeId) -> Outcome {
    let Some((input, view)) = view_of(g, node) else { return Outcome::No };
    let result = Value { node, result: 0 };
    if g.ty(input) != g.ty(result) || g.ty(input).dims().is_none() {
        return Outcome::No;
    }
    let same = match &view {
        View::Reshape => true,
        // At other sizes there may be something to cut off or to add.
        View::Affine(_) if g.any_padding => false,
        View::Affine(forms) => {
            let dims = g.ty(input).dims().unwrap_or_default();
            forms.iter().enumerate().all(|(axis, f)| *f == Affine::var(axis) || dims[axis] == 1)
        }
    };
    if same { alias(g, result, input) } else { Outcome::No }
}

/// `Dropout` that is not told to train passes its operand; its mask is all true.
pub(super) fn dropout_inference(g: &mut Graph, node: NodeId) -> Outcome {
    if operand(g, node, 2).is_some() && splat_operand(g, node, 2) != Some(0.0) {
        return declined("it may be in training mode");
    }
    match (only_result(g, node), operand(g, node, 0)) {
        (Some(result), Some(input)) => alias(g, result, input),
        _ => declined("its mask is used"),
    }
}

/// An operator that with one operand (or always) gives that operand.
pub(super) fn no_op_copy(g: &mut Graph, node: NodeId) -> Outcome {
    match (g.operands(node).as_slice(), only_result(g, node)) {
        (&[Some(input)], Some(result)) => alias(g, result, input),
        _ => Outcome::No,
    }
}

/// A conversion to the type the value has.
pub(super) fn cast_same(g: &mut Graph, node: NodeId) -> Outcome {
    let (Some(input), result) = (operand(g, node, 0), Value { node, result: 0 }) else { return Outcome::No };
    if g.ty(input) == g.ty(result) { alias(g, result, input) } else { Outcome::No }
}

/// A conversion to a type that holds every value of the first type, and back.
pub(super) fn cast_back(g: &mut Graph, node: NodeId) -> Outcome {
    let Some(wide) = operand(g, node, 0).filter(|v| kind(g, v.node) == "Cast") else { return Outcome::No };
    let (Some(input), result) = (operand(g, wide.node, 0), Value { node, result: 0 }) else { return Outcome::No };
    if g.ty(input) != g.ty(result) {
        return Outcome::No;
    }
    let (from, through) = (g.ty(input).dtype, g.ty(wide).dtype);
    if holds(through, from) { alias(g, result, input) } else { declined(format!("{through} does not hold every {from}")) }
}

/// Whether type `wide` holds every value of type `narrow`.
fn holds(wide: DType, narrow: DType) -> bool {
    if wide.is_small() || narrow.is_small() {
        return wide == narrow;
    }
    let digits = |d: DType| match d {
        DType::Bool => 1,
        DType::F16 => 11,
        DType::BF16 => 8,
        DType::F32 => 24,
        DType::F64 => 53,
        d => d.packed_bits() - u32::from(d.is_signed()),
    };
    let range = |d: DType| match d {
        DType::F16 => 5,
        DType::BF16 | DType::F32 => 8,
        DType::F64 => 11,
        _ => 0,
    };
    match (wide.is_float(), narrow.is_float()) {
        (_, _) if wide == narrow => true,
        (true, true) => digits(wide) >= digits(narrow) && range(wide) >= range(narrow),
        (false, true) => false,
        // 16 bits overflow the half-precision range.
        (true, false) => digits(wide) >= digits(narrow) && (wide != DType::F16 || narrow.bits() < 16),
        (false, false) => wide != DType::Bool && digits(wide) >= digits(narrow) && (wide.is_signed() || !narrow.is_signed()),
    }
}

fn reshape(g: &mut Graph, result: Value, input: Value) -> Outcome {
    let Some(dims) = g.ty(result).dims() else { return declined("its extents are not known") };
    let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
    let name = format!("{}.shape", g.name_of(result));
    let shape = g.add_constant(&name, Tensor::from_slice(&[shape.len()], &shape));
    // An extent of 0 means 0 only where `allowzero` says so.
    let attributes: &[(&str, Attribute)] = if dims.contains(&0) { &[("allowzero", Attribute::Int(1))] } else { &[] };
    let outcome = replace(g, result, make("Reshape", attributes), &[Some(input), Some(shape)]);
    remove_dead(g, shape.node);
    outcome
}

/// A reshape of a reshape is one, whatever the operators are called.
pub(super) fn merge_reshapes(g: &mut Graph, node: NodeId) -> Outcome {
    let Some((middle, View::Reshape)) = view_of(g, node) else { return Outcome::No };
    let Some((input, View::Reshape)) = view_of(g, middle.node) else { return Outcome::No };
    reshape(g, Value { node, result: 0 }, input)
}

/// The permutation of a transposing node: result axis `i` is the operand's `perm[i]`.
fn permutation(g: &Graph, node: NodeId) -> Option<(Value, Vec<usize>)> {
    let (input, View::Affine(forms)) = view_of(g, node)? else { return None };
    let rank = g.ty(Value { node, result: 0 }).rank();
    let mut perm = vec![usize::MAX; rank];
    for (axis, form) in forms.iter().enumerate() {
        match form.terms.as_slice() {
            &[(v, 1)] if form.constant == 0 && perm[v] == usize::MAX => perm[v] = axis,
            _ => return None,
        }
    }
    (forms.len() == rank).then_some((input, perm))
}

/// A transposition of a transposition is one.
pub(super) fn merge_transposes(g: &mut Graph, node: NodeId) -> Outcome {
    let Some((middle, outer)) = permutation(g, node) else { return Outcome::No };
    if kind(g, middle.node) != "Transpose" {
        return Outcome::No;
    }
    let Some((input, inner)) = permutation(g, middle.node) else { return Outcome::No };
    let perm: Vec<i64> = outer.iter().map(|&axis| inner[axis] as i64).collect();
    replace(g, Value { node, result: 0 }, make("Transpose", &[("perm", Attribute::Ints(perm))]), &[Some(input)])
}

/// A transposition that moves only axes of extent 1 is a reshape.
pub(super) fn transpose_of_ones(g: &mut Graph, node: NodeId) -> Outcome {
    let Some((input, perm)) = permutation(g, node) else { return Outcome::No };
    let Some(dims) = g.ty(input).dims() else { return Outcome::No };
    let moved: Vec<usize> = perm.iter().copied().filter(|&axis| dims[axis] != 1).collect();
    if !moved.is_sorted() {
        return Outcome::No;
    }
    reshape(g, Value { node, result: 0 }, input)
}

/// The axis of a concatenation, counted from the first.
fn concatenated_axis(g: &Graph, node: NodeId) -> Option<i64> {
    let op = g.node(node).operator().filter(|_| kind(g, node) == "Concat")?;
    let axis = int(op, "axis", 0);
    Some(if axis < 0 { axis + g.ty(Value { node, result: 0 }).rank() as i64 } else { axis })
}

/// The longest other concatenation that some neighbours among these operands are the operands of, and where they begin.
fn part_of_concatenation(g: &Graph, operands: &[Option<Value>], axis: i64) -> Option<(usize, usize, NodeId)> {
    let starts = operands.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?)));
    let parts = starts.flat_map(|(start, v)| {
        let readers = g.users(v).into_iter().filter(|u| u.1 == 0 && concatenated_axis(g, u.0) == Some(axis));
        readers.filter_map(move |(other, _)| {
            let part = g.operands(other);
            let fits = (2..operands.len()).contains(&part.len()) && operands[start..].starts_with(&part);
            fits.then_some((part.len(), start, other))
        })
    });
    parts.max_by_key(|p| (p.0, std::cmp::Reverse(p.1)))
}

/// A concatenation of more values takes one of some of them whole: written into it, that one is no copy.
pub(super) fn concat_of_concat(g: &mut Graph, node: NodeId) -> Outcome {
    let Some(axis) = concatenated_axis(g, node) else { return Outcome::No };
    let mut operands = g.operands(node);
    let n_operands = operands.len();
    while let Some((n, start, part)) = part_of_concatenation(g, &operands, axis) {
        operands.splice(start..start + n, [Some(Value { node: part, result: 0 })]);
    }
    if operands.len() == n_operands {
        return Outcome::No;
    }
    replace(g, Value { node, result: 0 }, make("Concat", &[("axis", Attribute::Int(axis))]), &operands)
}

/// An element-wise operator broadcasts by itself.
pub(super) fn expand_element_wise(g: &mut Graph, node: NodeId) -> Outcome {
    let Some(op) = g.node(node).operator() else { return Outcome::No };
    let operands = g.operands(node);
    let Some(i) = operands.iter().position(|v| v.is_some_and(|v| kind(g, v.node) == "Expand")) else { return Outcome::No };
    let mut facts = g.facts(node);
    if !op.axes(&facts).elementwise {
        return Outcome::No;
    }
    let Some(input) = operands[i].and_then(|v| operand(g, v.node, 0)) else { return Outcome::No };
    facts.facts[i] = Some(g.fact(input));
    let types: Vec<_> = g.node(node).results.iter().map(|r| r.ty.clone()).collect();
    match op.infer(&facts) {
        Ok(inferred) if inferred.get(..types.len()) == Some(&types[..]) => {
            g.set_operand(node, i, Some(input));
            Outcome::Done
        }
        _ => declined("the expanded shape is the result's"),
    }
}
