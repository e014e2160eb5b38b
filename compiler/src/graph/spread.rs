//! What the extents of values are at all sizes that a model is read for: lowering at one of them may need the greatest.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Graph, Value};
use crate::tensor::Spread;

/// Extents of the values of a graph by their names, and those in its bodies by the name of the first result around them.
#[derive(Clone, Default, Debug)]
pub struct Spreads {
    of: Arc<HashMap<String, Spread>>,
    bodies: BTreeMap<String, Vec<Spreads>>,
}

impl Spreads {
    /// Of `graph`, for which everything is stored, and the same model read for other sizes.
    pub fn new(graph: &Graph, others: &[&Graph]) -> Spreads {
        let mut of = HashMap::new();
        let mut bodies = BTreeMap::new();
        for n in graph.order() {
            for v in graph.results(n) {
                let Some(dims) = graph.ty(v).dims() else { continue };
                let theirs: Option<Vec<Vec<usize>>> = others.iter().map(|g| g.ty(g.find(graph.name_of(v))?).dims()).collect();
                let Some(theirs) = theirs.filter(|all| all.iter().all(|d| d.len() == dims.len())) else { continue };
                let varies = (0..dims.len()).map(|k| theirs.iter().any(|d| d[k] != dims[k])).collect();
                of.insert(graph.name_of(v).to_owned(), Spread { dims, varies });
            }
            let Some(control) = graph.node(n).control() else { continue };
            let Some(name) = graph.node(n).results.first().map(|r| r.name.clone()) else { continue };
            let twins: Option<Vec<Vec<&Graph>>> = others.iter().map(|g| Some(g.node(g.find(&name)?.node).control()?.bodies())).collect();
            let Some(twins) = twins.filter(|all| all.iter().all(|b| b.len() == control.bodies().len())) else { continue };
            let of_body = |(k, body): (usize, &Graph)| Spreads::new(body, &twins.iter().map(|b| b[k]).collect::<Vec<_>>());
            bodies.insert(name, control.bodies().into_iter().enumerate().map(of_body).collect());
        }
        Spreads { of: Arc::new(of), bodies }
    }
}

impl Graph {
    /// Takes note of extents at all sizes, in bodies too.
    pub fn note_spreads(&mut self, spreads: &Spreads) {
        self.spreads = Arc::clone(&spreads.of);
        for n in self.control_nodes() {
            let name = self.node(n).results.first().map(|r| r.name.clone()).unwrap_or_default();
            let (Some(of), Some(control)) = (spreads.bodies.get(&name), self.node_mut(n).control_mut()) else { continue };
            control.bodies_mut().into_iter().zip(of).for_each(|(body, spreads)| body.note_spreads(spreads));
        }
    }

    /// The extents of a value at all sizes, where they are known.
    pub fn spread(&self, v: Value) -> Option<&Spread> {
        self.spreads.get(self.name_of(v))
    }
}
