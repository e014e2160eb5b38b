//! Branches and loops, whose bodies are random networks too. Bodies have names of their own for what they capture, as the text asks for.

use tinsmith::tensor::DType;

use super::generate::{Plan, Rules, grow};
use super::operators::{Draft, Made, Make, OPERATORS};
use super::{Line, Network, Variable};

pub(super) const CONTROL_FLOW: &[(&str, Make)] = &[("branch", branch), ("counted", counted), ("conditional", conditional), ("scan", scan)];

/// Operators of a body.
const MOST_OPERATORS: usize = 5;
/// Elements of what a body takes, so that many iterations stay quick.
const MOST_ELEMENTS: usize = 1000;

/// A body while it is drawn.
struct Body {
    network: Network,
    /// Its values that are not constants.
    pool: Vec<Variable>,
    tag: String,
}

impl Body {
    /// A network of a few operators on these inputs. What it wants as inputs beside them is captured by the node.
    fn grown(d: &mut Draft<'_>, what: &str, inputs: Vec<Variable>) -> Self {
        let tag = format!("{}{what}", d.tag);
        let n = 1 + d.random.below(MOST_OPERATORS);
        let families: Vec<Make> =
            (0..3).map(|_| if d.random.one_in(12) { d.random.one_of(CONTROL_FLOW).1 } else { d.random.one_of(OPERATORS).1 }).collect();
        let network = Network { inputs, ..Network::default() };
        let (network, pool) = grow(network, d.random, &Plan { families: &families, n, tag: &tag, seed: d.seed, rules: Rules::default() });
        Body { network, pool, tag }
    }

    /// The last value of the same type as `like`, if there is one; `None` also where only an input is.
    fn computed(&self, like: &Variable) -> Option<String> {
        let inputs = &self.network.inputs;
        let fits = |v: &&Variable| v.dtype == like.dtype && v.dims == like.dims && !inputs.iter().any(|i| i.name == v.name);
        self.pool.iter().rev().find(fits).map(|v| v.name.clone())
    }

    /// A value of the type of `like`: computed, else `like` scaled down and shifted, or what it is.
    fn next(&mut self, like: &Variable) -> String {
        if let Some(name) = self.computed(like) {
            return name;
        }
        if like.dtype != DType::F32 {
            return like.name.clone();
        }
        let name = format!("%next{}.{}", self.tag, self.network.lines.len());
        self.line(&name, like, format!("Cos({})", like.name));
        name
    }

    /// A value of the type of `like`, of whatever: computed, or a constant.
    fn of_type(&mut self, like: &Variable) -> String {
        self.computed(like).unwrap_or_else(|| {
            let name = format!("@other{}.{}", self.tag, self.network.lines.len());
            self.line(&name, like, format!("const rand(3) : {}", like.ty()));
            name
        })
    }

    fn line(&mut self, name: &str, like: &Variable, text: String) {
        let result = Variable { name: name.to_owned(), ..like.clone() };
        self.network.lines.push(Line { results: vec![result], text });
    }

    /// Inputs that it has beyond the `n` it began with; those of the node and the graph bear the same names.
    fn wanted(&self, n: usize) -> &[Variable] {
        &self.network.inputs[n..]
    }

    /// Its values of at most so many elements, the last first.
    fn results(&self) -> Vec<Variable> {
        self.pool.iter().rev().filter(|v| v.n_elements() <= MOST_ELEMENTS).cloned().collect()
    }
}

/// What a body calls a value from around.
fn inner(d: &Draft<'_>, v: &Variable, what: &str) -> Variable {
    Variable { name: format!("%{what}{}", d.tag), exact: false, ..v.clone() }
}

/// A second value that a body may read: another one of the pool, mostly.
fn captured(d: &mut Draft<'_>) -> Option<Variable> {
    if d.random.one_in(3) { None } else { d.like(|v| v.n_elements() <= MOST_ELEMENTS) }
}

/// One `i64` or `bool` that is an input.
fn input(d: &mut Draft<'_>, what: &str, dtype: DType) -> String {
    let v = Variable { name: format!("%{what}{}", d.tag), dtype, dims: vec![], exact: true };
    d.inputs.push(v.clone());
    v.name
}

fn names(list: &[Variable]) -> Vec<String> {
    list.iter().map(|v| v.name.clone()).collect()
}

fn branch(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.n_elements() > MOST_ELEMENTS {
        return None;
    }
    let condition = input(d, "condition", DType::Bool);
    let mut outer = vec![x.clone()];
    outer.extend(captured(d));
    let inputs: Vec<Variable> = outer.iter().enumerate().map(|(i, v)| inner(d, v, ["a", "b"][i])).collect();
    let n = inputs.len();
    let mut yes = Body::grown(d, "y", inputs.clone());
    let mut no = Body::grown(d, "n", inputs);
    let n_results = 1 + d.random.below(2);
    let results: Vec<Variable> = yes.results().into_iter().take(n_results).collect();
    yes.network.outputs = names(&results);
    no.network.outputs = results.iter().map(|v| no.of_type(v)).collect();
    // Both have the inputs of both.
    let more: Vec<Variable> = yes.wanted(n).iter().chain(no.wanted(n)).cloned().collect();
    for body in [&mut yes, &mut no] {
        body.network.inputs.truncate(n);
        body.network.inputs.extend(more.iter().cloned());
    }
    d.inputs.extend(more.iter().cloned());
    let mut operands = vec![condition];
    operands.extend(names(&outer));
    operands.extend(names(&more));
    let types: Vec<String> = results.iter().map(Variable::ty).collect();
    d.n_results = results.len();
    let (yes, no) = (yes.network.body("yes"), no.network.body("no"));
    Some((format!("if({}) : {} then {yes} else {no}", operands.join(", "), types.join(", ")), false))
}

/// How a loop ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// After a number of iterations.
    Count,
    /// When a state of its own is false.
    Condition,
    /// After the slices of an operand.
    Slices,
}

fn counted(d: &mut Draft<'_>, x: &Variable) -> Made {
    a_loop(d, x, End::Count)
}

fn conditional(d: &mut Draft<'_>, x: &Variable) -> Made {
    a_loop(d, x, End::Condition)
}

fn scan(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dims.is_empty() || x.dims[0] == 0 || x.dims[0] > 12 {
        return None;
    }
    a_loop(d, x, End::Slices)
}

fn a_loop(d: &mut Draft<'_>, x: &Variable, end: End) -> Made {
    if x.n_elements() > MOST_ELEMENTS || !(x.dtype == DType::F32 || end == End::Slices) {
        return None;
    }
    let trip = match end {
        End::Slices => "_".to_owned(),
        // At run time, or known.
        _ if d.random.one_in(2) => {
            let n = input(d, "count", DType::I64);
            let absolute = format!("%absolute{}", d.tag);
            let result = Variable { name: absolute.clone(), dtype: DType::I64, dims: vec![], exact: true };
            d.before.push(Line { results: vec![result], text: format!("Abs({n})") });
            absolute
        }
        End::Condition if d.random.one_in(2) => "_".to_owned(),
        _ => {
            let n = d.random.below(5);
            d.constant("count", format!("[{n}]"), DType::I64, &[])
        }
    };
    let number = Variable { name: format!("%i{}", d.tag), dtype: DType::I64, dims: vec![], exact: true };
    let (mut operands, mut inputs) = (vec![trip.clone()], vec![number.clone()]);
    let mut states = vec![];
    if end == End::Condition {
        operands.push(d.constant("true", "[true]".to_owned(), DType::Bool, &[]));
        inputs.push(Variable { name: format!("%c{}", d.tag), dtype: DType::Bool, dims: vec![], exact: true });
    }
    let first = if end == End::Slices { d.like(|v| v.dtype == DType::F32 && v.n_elements() <= MOST_ELEMENTS) } else { Some(x.clone()) };
    let second = if d.random.one_in(2) { d.like(|v| v.dtype == DType::F32 && v.n_elements() <= MOST_ELEMENTS) } else { None };
    for (state, what) in [(first, "s"), (second, "t")] {
        let Some(state) = state else { continue };
        states.push(inner(d, &state, what));
        operands.push(state.name);
    }
    inputs.extend(states.iter().cloned());
    if end == End::Slices {
        operands.push(x.name.clone());
        let slice = Variable { dims: x.dims[1..].to_vec(), ..inner(d, x, "slice") };
        inputs.push(slice);
    }
    if let Some(v) = captured(d) {
        operands.push(v.name.clone());
        inputs.push(inner(d, &v, "captured"));
    }
    let n = inputs.len();
    let mut body = Body::grown(d, "l", inputs);
    if end == End::Condition {
        let limit = d.random.below(4);
        let (constant, more) = (format!("@limit{}", body.tag), format!("%more{}", body.tag));
        body.line(&constant, &number, format!("const [{limit}] : i64[]"));
        let flag = Variable { dtype: DType::Bool, ..number.clone() };
        body.line(&more, &flag, format!("Less({}, {constant})", number.name));
        body.network.outputs.push(more);
    }
    let next: Vec<String> = states.iter().map(|s| body.next(s)).collect();
    body.network.outputs.extend(next);
    // Scanned results need a number of slices that is known.
    let known = end == End::Slices || (end == End::Count && trip.starts_with('@'));
    let n_scanned = if known { d.random.below(2) + usize::from(states.is_empty()) } else { 0 };
    let scanned: Vec<Variable> = body.results().into_iter().take(n_scanned).collect();
    body.network.outputs.extend(names(&scanned));
    let n_states = states.len() + usize::from(end == End::Condition);
    let mut attributes = vec![];
    if n_states > 0 {
        attributes.push(format!("states={n_states}"));
    }
    if end == End::Slices {
        attributes.push("scanned=1".to_owned());
        if d.random.one_in(3) {
            let flags: Vec<&str> = (0..=scanned.len()).map(|_| d.random.one_of(&["0", "1"])).collect();
            attributes.push(format!("backward=[{}]", flags.join(",")));
        }
    }
    if end == End::Condition {
        attributes.push("conditional=1".to_owned());
    }
    operands.extend(names(body.wanted(n)));
    d.inputs.extend(body.wanted(n).iter().cloned());
    d.n_results = n_states + scanned.len();
    Some((format!("loop({}) {} do {}", operands.join(", "), attributes.join(" "), body.network.body("body")), false))
}
