//! The way to a program for a range of sizes: the model is read for several sizes, and for those that tell functions of them apart, until all
//! extents are functions of the sizes; then once more for those at the edges of the range.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dynamic::{
    Probes, Sizer, check_edge, edge_sizes, fold_alike, probe_sizes, sizes_near, small_varying_constants, varied_constants,
    varying_constants,
};
use super::fit::{self, Wanted};
use super::run_passes_as;
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::graph::{Evaluated, Graph, NodeKind, Spreads};
use crate::passes::Report;
use crate::tensor::{Parameter, Tensor};

/// Numbers of sizes side by side that a model is read for, in turn.
const DENSE_PROBES: [i64; 4] = [2, 8, 18, 66];
/// The most sizes that are read because functions differ there.
const MOST_ASKED: usize = 64;

/// Gives the graph for some sizes, and what else is known of the model; reading computes no values of these names.
pub type ReadAt<'a, S, E> = dyn FnMut(&[i64], &BTreeSet<String>) -> Result<(Graph, S), E> + 'a;

/// Compiles a graph, with what else is known of the model, for the range of probes.
pub type CompileFor<'a, S, T, E> = dyn FnMut(Graph, S, &Probes) -> Result<T, E> + 'a;

/// Compiles for all values of the parameters. `compile` gets what is read for the first sizes as it was
/// read, the others with passes run; `problems` are those of its errors.
///
/// # Errors
/// Those of `read` and `compile`, and what is not the same at the edges of the range.
pub fn compile_range<S: Clone, T, E: From<Vec<Diagnostic>>>(
    parameters: &[Parameter],
    config: &Config,
    read: &mut ReadAt<'_, S, E>,
    compile: &mut CompileFor<'_, S, T, E>,
    problems: fn(&E) -> &[Diagnostic],
) -> Result<T, E> {
    match compile_from(true, parameters, config, read, compile, problems) {
        Err(e) => {
            let [stored, greatest] = [true, false].map(|beyond| probe_sizes(parameters, DENSE_PROBES[0], beyond).swap_remove(0));
            let nothing = BTreeSet::new();
            if stored == greatest || read(&stored, &nothing).is_ok() || read(&greatest, &nothing).is_err() {
                return Err(e);
            }
            compile_from(false, parameters, config, read, compile, problems)
        }
        done => done,
    }
}

/// As [`compile_range`], where the model can be read for sizes `beyond` the ranges or not.
fn compile_from<S: Clone, T, E: From<Vec<Diagnostic>>>(
    beyond: bool,
    parameters: &[Parameter],
    config: &Config,
    read: &mut ReadAt<'_, S, E>,
    compile: &mut CompileFor<'_, S, T, E>,
    problems: fn(&E) -> &[Diagnostic],
) -> Result<T, E> {
    match compile_with((beyond, false), parameters, config, read, compile, problems) {
        // Some windows have padding at odd sizes alone.
        Err(e) if fit::wants_any_padding(problems(&e)) => {
            let again = compile_with((beyond, true), parameters, config, read, compile, problems);
            again.map_err(|other| if fit::wants_any_padding(problems(&other)) { e } else { other })
        }
        done => done,
    }
}

/// As [`compile_from`], where windows have the padding of this size, or that of any size.
fn compile_with<S: Clone, T, E: From<Vec<Diagnostic>>>(
    (beyond, any_padding): (bool, bool),
    parameters: &[Parameter],
    config: &Config,
    read: &mut ReadAt<'_, S, E>,
    compile: &mut CompileFor<'_, S, T, E>,
    problems: fn(&E) -> &[Diagnostic],
) -> Result<T, E> {
    let passed = |graph: Graph, names: Option<&BTreeSet<String>>| {
        let mut folded = Graph::default();
        let (graph, report) = run_passes_as(graph, config, names.cloned(), &mut |pass, graph| {
            if pass == CONTROL_FLOW {
                folded = graph.clone();
            }
        });
        (graph, folded, report)
    };
    // More probes are more beside the same, and stored for the same sizes.
    let few = probe_sizes(parameters, DENSE_PROBES[0], beyond);
    let evaluated = Arc::new(Evaluated::default());
    let mut weights: Option<Graph> = None;
    let mut read = |at: &[i64], computed: &Arc<BTreeSet<String>>| {
        let (mut graph, about) = read(at, computed)?;
        graph.evaluated = Some(Arc::clone(&evaluated));
        match &weights {
            Some(with) => share_constants(&mut graph, with),
            None => weights = Some(graph.clone()),
        }
        (graph.any_padding, graph.any_size, graph.computed) = (any_padding, true, Arc::clone(computed));
        Ok::<_, E>((graph, about))
    };
    let mut computed = Arc::new(BTreeSet::new());
    // Of these, what needs a constant decides whether they may be computed.
    let mut small = Some(BTreeSet::new());
    let (mut first, about, mut unchanged, merged, varied) = loop {
        let mut read_all = |computed: &Arc<BTreeSet<String>>| {
            let (mut first, about) = read(&few[0], computed)?;
            let mut unchanged: BTreeMap<Vec<i64>, Graph> = BTreeMap::new();
            for at in &few[1..] {
                let (graph, _) = read(at, computed)?;
                fold_alike(&mut first, &graph);
                unchanged.insert(at.clone(), graph);
            }
            Ok::<_, E>((first, about, unchanged))
        };
        let (first, about, unchanged) = match read_all(&computed) {
            Err(_) if let Some(names) = small.take_if(|names| !names.is_empty()) => {
                Arc::make_mut(&mut computed).retain(|name| !names.contains(name));
                continue;
            }
            done => done?,
        };
        // What constants decide, but not the same for all sizes, is computed in a run.
        let of_first = passed(first.clone(), None);
        let (others, reports): (Vec<Graph>, Vec<Report>) =
            unchanged.values().map(|graph| passed(graph.clone(), None)).map(|(_, folded, report)| (folded, report)).unzip();
        let varying = varying_constants(&of_first.1, &others);
        let known = computed.len();
        Arc::make_mut(&mut computed).extend(varying);
        if let Some(small) = small.as_mut().filter(|_| computed.len() == known) {
            let sizes = few[..1].iter().chain(unchanged.keys()).cloned().collect();
            small.extend(small_varying_constants(&of_first.1, &others, parameters, sizes));
            Arc::make_mut(&mut computed).extend(small.iter().cloned());
        }
        if computed.len() == known {
            let all: Vec<(&Graph, &Report)> = [(&first, &of_first.2)].into_iter().chain(unchanged.values().zip(&reports)).collect();
            let merged = merged_everywhere(&all);
            break (first, about, unchanged, Arc::new(merged), Arc::new(varied_constants(&of_first.1, &others)));
        }
    };
    // What is equal at some sizes only stays apart, and so do constants that are others at others.
    unchanged.values_mut().chain([&mut first]).for_each(|graph| keep_apart(graph, &merged, &varied));
    let mut read = |at: &[i64], computed: &Arc<BTreeSet<String>>| {
        let (mut graph, about) = read(at, computed)?;
        keep_apart(&mut graph, &merged, &varied);
        Ok::<_, E>((graph, about))
    };
    let (stored, folded, report) = passed(first.clone(), None);
    let mut split = split_constants(folded.clone());
    // How large a result is decides whether it is folded, already where it is read: as for the first, so for all.
    let mut names: BTreeSet<String> = report.applied.into_iter().filter(|a| a.pass == FOLDING).map(|a| a.value).collect();
    names_of_constants(&first, &mut names);
    let mut known: BTreeMap<Vec<i64>, (Graph, Graph)> = BTreeMap::new();
    let mut dense = DENSE_PROBES.into_iter();
    let mut near = dense.next().unwrap_or(1);
    let mut asked: BTreeSet<Vec<i64>> = BTreeSet::new();
    // What was found at an edge, before the model was read for sizes near it.
    let mut refused: Option<Vec<Diagnostic>> = None;
    let told = |refused: Option<Vec<Diagnostic>>, e: E| match refused {
        Some(first) if any_padding || !fit::wants_any_padding(problems(&e)) => first.into(),
        _ => e,
    };
    loop {
        let mut sizes = probe_sizes(parameters, near, beyond);
        let others: Vec<Vec<i64>> = asked.iter().filter(|at| !sizes.contains(at)).cloned().collect();
        sizes.extend(others);
        for at in &sizes[1..] {
            if !known.contains_key(at) {
                let mut graph = unchanged.remove(at).map_or_else(|| Ok(read(at, &computed)?.0), Ok::<_, E>)?;
                fold_alike(&mut graph, &first);
                let (mut graph, mut other, _) = passed(graph, Some(&names));
                share_constants(&mut graph, &stored);
                share_constants(&mut other, &folded);
                known.insert(at.clone(), (graph, split_constants(other)));
            }
        }
        let (mut graphs, mut all_folded): (Vec<Graph>, Vec<Graph>) = sizes[1..].iter().map(|at| known[at].clone()).unzip();
        note_spreads(&stored, &mut first, &mut graphs);
        note_spreads(&folded, &mut split, &mut all_folded);
        let wanted = Wanted::new(asked.len() >= MOST_ASKED, dense.len() == 0);
        let mut more = |wanted: &Wanted| {
            let before = asked.len();
            asked.extend(wanted.take().into_iter().filter(|at| !sizes.contains(at)));
            asked.len() > before
        };
        let probes = Probes {
            parameters: parameters.to_vec(),
            sizes: sizes.clone(),
            graphs: all_folded,
            as_stored: false,
            any_padding,
            known: vec![],
            wanted,
        };
        // Extents alone say most of what is asked.
        let _ = Sizer::partial(&split, &probes);
        if more(&probes.wanted) {
            continue;
        }
        let all_folded = probes.graphs;
        let probes = Probes { graphs, ..probes };
        let done = match compile(first.clone(), about.clone(), &probes) {
            Err(e) if fit::wants_more_probes(problems(&e)) => {
                if !more(&probes.wanted) {
                    near = dense.next().ok_or_else(|| told(refused.take(), e))?;
                }
                continue;
            }
            done => done.map_err(|e| told(refused.take(), e))?,
        };
        let probes = Probes { graphs: all_folded, ..probes };
        let (sizer, _) = Sizer::partial(&split, &probes)?;
        let at_edge = |mut graph: Graph| {
            fold_alike(&mut graph, &first);
            passed(graph, Some(&names)).1
        };
        let mut found = vec![];
        for at in edge_sizes(parameters, &sizes).into_iter().chain(sizer.bends()) {
            found = check_edge(&split, &sizer, &split_constants(at_edge(read(&at, &computed)?.0)), &at);
            if !found.is_empty() {
                break;
            }
        }
        match (found.is_empty(), refused) {
            (true, _) => return Ok(done),
            (false, None) if fit::wants_more_probes(&found) => {
                asked.extend(sizes_near(parameters, &sizes[0]));
                refused = Some(found);
            }
            (false, before) => return Err(before.unwrap_or(found).into()),
        }
    }
}

/// The pass that makes one of equal values.
const ELIMINATION: &str = "eliminate";
/// The pass after which shapes are numbers.
const FOLDING: &str = "fold-constants";
/// The pass after which they are in bodies too.
const CONTROL_FLOW: &str = "control-flow";

fn names_of_constants(graph: &Graph, names: &mut BTreeSet<String>) {
    for n in graph.order() {
        match &graph.node(n).kind {
            NodeKind::Constant(_) => names.extend(graph.node(n).results.iter().map(|r| r.name.clone())),
            NodeKind::Control(control) => control.bodies().into_iter().for_each(|body| names_of_constants(body, names)),
            NodeKind::Input | NodeKind::Operator(_) => {}
        }
    }
}

/// Names of values that became others, which are equal, in all graphs that have them: where they are small, the reader has made them one.
fn merged_everywhere(all: &[(&Graph, &Report)]) -> BTreeSet<String> {
    let names: Vec<BTreeSet<String>> = all.iter().map(|(graph, _)| names_of_values(graph)).collect();
    let merged = |report: &Report| -> BTreeSet<String> {
        report.applied.iter().filter(|a| a.pass == ELIMINATION).map(|a| a.value.clone()).collect()
    };
    let merged: Vec<BTreeSet<String>> = all.iter().map(|(_, report)| merged(report)).collect();
    let everywhere = |name: &&String| names.iter().zip(&merged).all(|(names, merged)| merged.contains(*name) || !names.contains(*name));
    merged.iter().flatten().filter(everywhere).cloned().collect()
}

/// The names of all values of a graph and its bodies.
fn names_of_values(graph: &Graph) -> BTreeSet<String> {
    let nodes = graph.order().into_iter().map(|n| graph.node(n));
    nodes.fold(BTreeSet::new(), |mut names, node| {
        names.extend(node.results.iter().map(|r| r.name.clone()));
        names.extend(node.control().into_iter().flat_map(|c| c.bodies()).flat_map(names_of_values));
        names
    })
}

/// Lets only the first of these values become others in a graph and its bodies, and the second ones no parts of others.
fn keep_apart(graph: &mut Graph, merged: &Arc<BTreeSet<String>>, varied: &Arc<BTreeSet<String>>) {
    (graph.merged, graph.varied) = (Some(Arc::clone(merged)), Arc::clone(varied));
    for n in graph.control_nodes() {
        graph.node_mut(n).control_mut().into_iter().flat_map(|c| c.bodies_mut()).for_each(|body| keep_apart(body, merged, varied));
    }
}

/// Tells `first`, which is `stored` before or after passes, and the other graphs what extents all of them have.
fn note_spreads(stored: &Graph, first: &mut Graph, others: &mut [Graph]) {
    let spreads = Spreads::new(stored, &others.iter().collect::<Vec<_>>());
    [first].into_iter().chain(others).for_each(|graph| graph.note_spreads(&spreads));
}

/// Lets a graph hold the same copies of weights as another.
fn share_constants(graph: &mut Graph, with: &Graph) {
    for n in graph.order() {
        let twin = graph.node(n).results.first().and_then(|r| with.find(&r.name)).map(|v| v.node);
        if let (Some(control), Some(twin)) = (graph.node_mut(n).control_mut(), twin.and_then(|n| with.node(n).control())) {
            control.bodies_mut().into_iter().zip(twin.bodies()).for_each(|(body, with)| share_constants(body, with));
        }
        let NodeKind::Constant(tensor) = &graph.node(n).kind else { continue };
        let name = &graph.node(n).results[0].name;
        let same = |t: &&Tensor| t.ty() == tensor.ty() && t.bytes() == tensor.bytes();
        if let Some(shared) = with.find(name).and_then(|v| with.constant(v)).filter(same).cloned() {
            graph.node_mut(n).kind = NodeKind::Constant(shared);
        }
    }
}

/// Gives every reader of a constant one of its own: which constants are equal, and so one, may depend on the sizes.
fn split_constants(mut graph: Graph) -> Graph {
    for n in graph.control_nodes() {
        for body in graph.node_mut(n).control_mut().into_iter().flat_map(|c| c.bodies_mut()) {
            *body = split_constants(std::mem::take(body));
        }
    }
    for n in graph.order() {
        let NodeKind::Constant(tensor) = graph.node(n).kind.clone() else { continue };
        let v = graph.results(n)[0];
        for (user, operand) in graph.users(v).into_iter().skip(1) {
            let own = graph.add_constant(graph.name_of(v).to_owned().as_str(), tensor.clone());
            graph.set_operand(user, operand, Some(own));
        }
    }
    graph
}
