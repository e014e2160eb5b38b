//! Branches and loops of which a run chooses the sizes: bodies at all probes, numbers of iterations.

use super::super::fit::Misfit;
use super::shapes::is_part;
use super::{Probes, Sizer};
use crate::graph::{Control, Graph, NodeId};
use crate::tensor::Size;

/// What is known of a control node in two graphs.
#[derive(PartialEq, Eq)]
struct Form {
    name: &'static str,
    n_states: usize,
    n_scanned: usize,
    conditional: bool,
    backward: Vec<bool>,
}

impl Form {
    fn of(control: &Control) -> Form {
        let name = control.name();
        match control {
            Control::If(_) => Form { name, n_states: 0, n_scanned: 0, conditional: false, backward: vec![] },
            Control::Loop(l) => Form {
                name,
                n_states: l.n_states,
                n_scanned: l.n_scanned,
                conditional: l.conditional,
                backward: (0..l.n_scanned + l.n_scanned_results()).map(|i| l.is_backward(i)).collect(),
            },
        }
    }
}

/// How often a loop runs at most, as far as that is known when it is compiled.
pub(super) fn trips_of(graph: &Graph, node: NodeId) -> Option<usize> {
    let Some(Control::Loop(l)) = graph.node(node).control() else { return None };
    let facts: Vec<_> = graph.operands(node).into_iter().map(|v| v.map(|v| graph.fact(v))).collect();
    l.trips(&facts).ok().flatten()
}

/// Whether two control nodes, of which the second stands for the first at other sizes, are the same but for extents and iterations.
///
/// # Errors
/// What differs.
pub(super) fn same_form((graph, node): (&Graph, NodeId), (other, twin): (&Graph, NodeId)) -> Result<(), &'static str> {
    let (Some(a), Some(b)) = (graph.node(node).control(), other.node(twin).control()) else {
        return Err("it is not there for other sizes");
    };
    if Form::of(a) != Form::of(b) || trips_of(graph, node).is_some() != trips_of(other, twin).is_some() {
        return Err("its states and slices depend on the sizes");
    }
    let is_loop = matches!(a, Control::Loop(_));
    for (i, (v, w)) in graph.operands(node).into_iter().zip(other.operands(twin)).enumerate() {
        // The number of iterations is a size.
        if is_loop && i == 0 {
            continue;
        }
        let same = match (v.and_then(|v| graph.constant(v)), w.and_then(|w| other.constant(w))) {
            (Some(whole), Some(part)) => is_part(part, whole),
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Err("the values of a constant that it reads depend on the sizes");
        }
    }
    Ok(())
}

impl Sizer<'_> {
    /// Whether a branch or a loop is the same at all sizes, its bodies aside.
    pub(super) fn check_control(&self, graph: &Graph, node: NodeId) -> Result<(), Misfit> {
        for (other, map) in self.probes.graphs.iter().zip(&self.nodes) {
            let twin = *map.get(&node).ok_or_else(|| Misfit::varies("it is not there for other sizes"))?;
            same_form((graph, node), (other, twin)).map_err(Misfit::varies)?;
        }
        let varies = self.trips(graph, node)?.is_some();
        let Some(Control::Loop(l)) = graph.node(node).control() else { return Ok(()) };
        if varies && (0..l.n_scanned + l.n_scanned_results()).any(|i| l.is_backward(i)) {
            return Err(Misfit::varies("a loop goes backward over an axis whose extent varies"));
        }
        Ok(())
    }

    /// How often a loop runs at most, where that depends on the sizes.
    pub(in crate::pipeline) fn trips(&self, graph: &Graph, node: NodeId) -> Result<Option<Size>, Misfit> {
        let Some(mine) = trips_of(graph, node) else { return Ok(None) };
        let theirs = self.probes.graphs.iter().zip(&self.nodes).map(|(g, map)| trips_of(g, *map.get(&node)?));
        let all: Option<Vec<usize>> = [Some(mine)].into_iter().chain(theirs).collect();
        let all = all.ok_or_else(|| Misfit::varies("whether its number of iterations is known depends on the sizes"))?;
        self.fitter.fit(&all.iter().map(|&n| i64::try_from(n).unwrap_or(i64::MAX)).collect::<Vec<_>>())
    }

    /// A body of a branch or loop at all probes.
    pub(in crate::pipeline) fn body(&self, node: NodeId, body: usize) -> Probes {
        let of = |(g, map): (&Graph, &std::collections::HashMap<NodeId, NodeId>)| {
            let control = g.node(map[&node]).control().expect("a control node that was checked");
            let mut body = control.bodies()[body].clone();
            (body.any_padding, body.any_size) = (self.probes.any_padding, true);
            body
        };
        let graphs = self.probes.graphs.iter().zip(&self.nodes).map(of).collect();
        Probes { graphs, as_stored: true, known: self.fitter.known.sizes(), ..self.probes.without_graphs() }
    }
}
