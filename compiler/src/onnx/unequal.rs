//! Branches whose results differ in extents: both give the greatest ones, and which branch runs decides how much is meant.

use super::region::Body;
use super::sizes::Place;
use crate::graph::{Graph, Value};
use crate::ops::movement::{Expand, Pad};
use crate::tensor::Tensor;

/// Makes the results of two branches, the first `n_values` of their outputs, of the same types: where extents differ, or data decides those
/// of one, it does so for both, and further outputs say how much is meant. The places of these extents, or `None` if the results cannot
/// be made so. `extents` says which data decides already, and `cause` what decides the others.
pub(super) fn alike(bodies: [&mut Body; 2], extents: &[Vec<Place>], n_values: usize, cause: &str) -> Option<Vec<Place>> {
    let dims = |body: &Body| (0..n_values).map(|i| body.graph.ty(body.graph.outputs()[i]).dims()).collect::<Vec<_>>();
    let of = [dims(bodies[0]), dims(bodies[1])];
    let mut places: Vec<Place> = vec![];
    for (i, (a, b)) in of[0].iter().zip(&of[1]).enumerate() {
        let (Some(a), Some(b)) = (a, b) else {
            // Sizes of a range are the same or an error, which says so.
            if extents.iter().flatten().any(|p| p.0 == i) && extents[0] != extents[1] {
                return None;
            }
            places.extend(extents[0].iter().filter(|p| p.0 == i).cloned());
            continue;
        };
        let differs = |axis: usize| a.len() == b.len() && a[axis] != b[axis];
        for axis in 0..a.len().max(b.len()) {
            let decided = extents.iter().flatten().find(|p| (p.0, p.1) == (i, axis));
            match decided {
                Some(_) if a.len() != b.len() => return None,
                Some(place) => places.push(place.clone()),
                None if a.len() == b.len() && differs(axis) => places.push((i, axis, cause.to_owned())),
                None => {}
            }
        }
    }
    for (k, body) in bodies.into_iter().enumerate() {
        let outputs: Vec<(String, Value)> = body.graph.output_names().iter().cloned().zip(body.graph.outputs().iter().copied()).collect();
        let mut all = vec![];
        for (i, (name, v)) in outputs[..n_values].iter().enumerate() {
            all.push((name.clone(), padded(&mut body.graph, *v, [of[k][i].as_deref(), of[1 - k][i].as_deref()], &places, i)));
        }
        for (i, axis, _) in &places {
            let own = extents[k].iter().position(|p| (p.0, p.1) == (*i, *axis));
            all.push(match own {
                Some(at) => outputs[n_values + at].clone(),
                None => {
                    let name = format!("{}.extent{axis}", outputs[*i].0);
                    let extent = of[k][*i].as_ref()?[*axis] as i64;
                    (name.clone(), body.graph.add_constant(&name, Tensor::from_slice(&[1], &[extent])))
                }
            });
        }
        body.graph.set_outputs(all);
    }
    Some(places)
}

/// The value with zeros behind it, as far as another one reaches.
fn padded(graph: &mut Graph, v: Value, dims: [Option<&[usize]>; 2], places: &[Place], output: usize) -> Value {
    let [Some(dims), Some(wanted)] = dims else { return v };
    let missing: Vec<i64> = (0..dims.len())
        .map(|axis| {
            let decided = places.iter().any(|p| (p.0, p.1) == (output, axis));
            if decided { wanted[axis].saturating_sub(dims[axis]) as i64 } else { 0 }
        })
        .collect();
    if missing.iter().all(|&m| m == 0) {
        return v;
    }
    let name = format!("{}.padded", graph.name_of(v));
    if dims.contains(&0) {
        let all: Vec<i64> = dims.iter().zip(&missing).map(|(&d, &m)| d as i64 + m).collect();
        let dtype = graph.ty(v).dtype;
        let zero = graph.add_constant(&format!("{name}.zero"), Tensor::from_bytes(dtype, &[], &vec![0; dtype.size_bytes()]));
        let shape = graph.add_constant(&format!("{name}.dims"), Tensor::from_slice(&[all.len()], &all));
        let node = graph.add_node(Box::new(Expand {}), &[Some(zero), Some(shape)], &[name], "").expect("a number that is repeated");
        return Value { node, result: 0 };
    }
    let pads: Vec<i64> = vec![0; dims.len()].into_iter().chain(missing).collect();
    let pads = graph.add_constant(&format!("{name}.pads"), Tensor::from_slice(&[pads.len()], &pads));
    let pad = Box::new(Pad { mode: "constant".to_owned() });
    let node = graph.add_node(pad, &[Some(v), Some(pads)], &[name], "").expect("operands that fit");
    Value { node, result: 0 }
}
