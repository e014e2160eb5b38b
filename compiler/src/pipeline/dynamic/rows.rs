//! Rows that a run makes shorter: joined in all graphs alike.

use super::{Probes, Sizer};
use crate::graph::{Graph, Value};
use crate::passes::join_rows;

impl Sizer<'_> {
    /// Joins the rows of products along axes that vary ([`join_rows`]), and gives the probes whose graphs have them joined too; `None`
    /// where there are none.
    pub(in crate::pipeline) fn join_rows(&self, graph: &mut Graph) -> Option<Probes> {
        let varies = |v: Value, axis: usize| self.bounds(v).get(axis).is_some_and(Option::is_some);
        let found = join_rows::find(graph, &varies);
        if found.is_empty() {
            return None;
        }
        let mut graphs = self.probes.graphs.clone();
        for rows in &found {
            for (other, map) in graphs.iter_mut().zip(&self.nodes) {
                rows.in_other(map)?.join(other);
            }
            rows.join(graph);
        }
        Some(Probes { graphs, ..self.probes.without_graphs() })
    }
}
