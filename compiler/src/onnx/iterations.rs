//! How often a loop runs whose condition follows from constants alone, as in the recurrences that TensorFlow's models are exported with: what decides
//! it is run when compiling.

use super::model::Importer;
use super::region::Body;
use super::scope::Known;
use crate::graph::{self, Graph, Value};
use crate::tensor::Tensor;

/// Elements that are computed at most while iterations are counted.
const MAX_ELEMENTS: usize = 1 << 18;

impl Importer<'_> {
    /// A trip count that is a constant.
    pub(super) fn constant_trip(&self, trip: &Known) -> Option<i64> {
        trip.tensor(&self.graph).filter(|t| t.len() == 1).map(|t| t.to_ints()[0] as i64)
    }

    /// How often a loop runs whose body was read and whose condition at the beginning is `condition`; `None` if data decides it.
    pub(super) fn iterations(&self, body: &Body, trip: Option<&Known>, condition: &Known, states: &[Value]) -> Option<i64> {
        condition.tensor(&self.graph)?;
        let limit = match trip {
            Some(trip) => Some(self.constant_trip(trip)?),
            None => None,
        };
        let given: Vec<Option<Tensor>> = states.iter().chain(&body.captured).map(|&v| self.graph.constant(v).cloned()).collect();
        count(&body.graph, &given, states.len(), limit)
    }
}

/// The number of iterations of a conditional loop that begins, at most `limit`; `None` if data decides, or counting takes too long.
///
/// `body` has the inputs iteration, condition, states, captured values; its outputs are the condition, the states, and slices. `given` are the states at
/// the beginning and the captured values, where they are constants.
fn count(body: &Graph, given: &[Option<Tensor>], n_states: usize, limit: Option<i64>) -> Option<i64> {
    let (decides, inputs) = deciding(body, n_states);
    let mut values = vec![];
    for &i in &inputs {
        values.push(match i {
            0 => Tensor::scalar(0i64),
            1 => return None,
            i => given[i - 2].clone()?,
        });
    }
    let mut elements = 1;
    for node in decides.order() {
        for v in decides.results(node) {
            elements += decides.ty(v).dims()?.iter().product::<usize>();
        }
    }
    let most = (MAX_ELEMENTS / elements) as i64;
    for i in 0..=most {
        if limit.is_some_and(|n| i >= n) {
            return Some(i);
        }
        if let Some(at) = inputs.iter().position(|&k| k == 0) {
            values[at] = Tensor::scalar(i);
        }
        let outputs = graph::eval(&decides, &values).ok()?;
        if outputs[0].to_ints()[0] == 0 {
            return Some(i + 1);
        }
        let before = values.clone();
        let states = inputs.iter().enumerate().filter(|(_, k)| (2..2 + n_states).contains(*k));
        for ((at, _), next) in states.zip(&outputs[1..]) {
            values[at] = next.clone();
        }
        if values == before && limit.is_none() && !inputs.contains(&0) {
            return None; // It never ends.
        }
    }
    None
}

/// The part of a body that decides its condition: the condition and the states that it follows from, in order; and the positions of its inputs.
fn deciding(body: &Graph, n_states: usize) -> (Graph, Vec<usize>) {
    let mut outputs = vec![0];
    loop {
        let (cone, inputs) = body.cone(&outputs);
        let wanted: Vec<usize> = [0].into_iter().chain(inputs.iter().filter(|i| (2..2 + n_states).contains(*i)).map(|i| i - 1)).collect();
        if wanted == outputs {
            return (cone, inputs);
        }
        outputs = wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::count;
    use crate::graph::parse;
    use crate::onnx::ImportOptions;
    use crate::onnx::tests::{D, graph, ints, model, node, options, problems, read, subgraph, value};
    use crate::tensor::Tensor;

    /// Counts by `%step` up to `%end`, beside a state that data gives.
    const BODY: &str = "graph @b(%i: i64[], %c: bool[], %at: i32[], %x: f32[2], %end: i32[], %step: i32[], %w: f32[2]) -> (%again, %next, %y, %x as slice) {
      %y = Mul(%x, %w)
      %next = Add(%at, %step)
      %again = Less(%next, %end)
    }";

    fn iterations(end: Option<i32>, step: i32, limit: Option<i64>) -> Option<i64> {
        let scalar = |x: i32| Some(Tensor::scalar(x));
        count(&parse(BODY).unwrap(), &[scalar(0), None, end.and_then(scalar), scalar(step), None], 2, limit)
    }

    #[test]
    fn conditions_of_constants_are_counted() {
        assert_eq!(iterations(Some(7), 2, None), Some(4));
        assert_eq!(iterations(Some(7), 2, Some(3)), Some(3));
        assert_eq!(iterations(Some(7), 2, Some(9)), Some(4));
        assert_eq!(iterations(Some(-1), 2, None), Some(1));
        assert_eq!(iterations(Some(7), 2, Some(-1)), Some(0));
        assert_eq!(iterations(None, 2, None), None);
        assert_eq!(iterations(Some(7), 0, None), None);
    }

    #[test]
    fn a_loop_with_a_counter_of_its_own_gives_slices() {
        let nodes = vec![
            node("Add", &["at", "one"], &["next"], vec![]),
            node("Less", &["next", "end"], &["again"], vec![]),
            node("Add", &["s", "s"], &["t"], vec![]),
            node("Identity", &["end"], &["still"], vec![]),
        ];
        let states = vec![
            value("i", 7, &[]),
            value("c", 9, &[]),
            value("at", 7, &[D::N(1)]),
            value("end", 7, &[D::N(1)]),
            value("s", 1, &[D::N(1)]),
        ];
        let body = graph(states, vec![ints("one", &[1])], nodes, &["again", "next", "still", "t", "s"]);
        let import = |end: &str, options: &ImportOptions| {
            let nodes = vec![
                node("Shape", &["x"], &["n"], vec![]),
                node("Less", &["zero", "n"], &["some"], vec![]),
                node("Loop", &["", "some", "zero", end, "k"], &["at", "end", "y", "rows"], vec![subgraph("body", body.clone())]),
            ];
            let inputs = vec![value("x", 1, &[D::N(3)]), value("m", 7, &[D::N(1)]), value("k", 1, &[D::N(1)])];
            let m = model(17, graph(inputs, vec![ints("zero", &[0])], nodes, &["y", "rows"]));
            (read(&m, options), m)
        };
        let (g, _) = import("n", &options());
        let inputs = [Tensor::from_slice(&[3], &[0f32; 3]), Tensor::from_slice(&[1], &[9i64]), Tensor::from_slice(&[1], &[2f32])];
        let y = crate::graph::eval(&g.unwrap(), &inputs).unwrap();
        assert_eq!((y[0].to_f64s(), y[1].to_f64s()), (vec![16.0], vec![2.0, 4.0, 8.0]));
        let (_, m) = import("m", &options());
        assert!(problems(&m).contains("the number of iterations, which decides an extent, depends on data"), "{}", problems(&m));
    }
}
