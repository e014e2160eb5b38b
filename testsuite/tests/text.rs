//! The laws of the graph's text, over every fixture.

use std::fs;
use std::path::PathBuf;

use tinsmith::graph::{self, Graph};
use tinsmith::tensor::{Dim, Tensor};
use tinsmith_testsuite::fixture;

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(fixture(folder)).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "graph"));
    files.sort();
    assert!(!files.is_empty(), "there are fixtures in {folder}");
    files
}

fn read(text: &str, blobs: &graph::Blobs) -> Result<Graph, String> {
    let graph = graph::parse_with(text, blobs).map_err(|e| e.to_string())?;
    graph::verify(&graph).map_err(|problems| problems[0].to_string())?;
    Ok(graph)
}

#[test]
fn printed_graphs_read_back() {
    for file in files("graphs") {
        let name = file.display();
        let first = read(&fs::read_to_string(&file).unwrap(), &graph::Blobs::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = graph::print(&first);
        assert_eq!(text, graph::print(&first), "{name}");
        let blobs = graph::read_blobs(&graph::write_blobs(&graph::blobs(&first))).unwrap();
        let second = read(&text, &blobs).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
        assert_eq!(graph::print(&second), text, "{name}");
        for id in first.order() {
            for v in first.results(id) {
                let same = second.find(first.name_of(v)).unwrap_or_else(|| panic!("{name}: `{}` is lost", first.name_of(v)));
                assert_eq!(first.constant(v), second.constant(same), "{name}: `{}`", first.name_of(v));
                assert_eq!(first.info(v).layout, second.info(same).layout, "{name}");
            }
        }
    }
}

#[test]
fn a_graph_that_was_printed_computes_the_same() {
    for file in files("graphs") {
        let first = read(&fs::read_to_string(&file).unwrap(), &graph::Blobs::new()).unwrap();
        let second = read(&graph::print(&first), &graph::blobs(&first)).unwrap();
        let inputs: Vec<Tensor> = first.inputs().iter().enumerate().map(|(i, &v)| sample(first.ty(v), i as u64)).collect();
        let (a, b) = (graph::eval(&first, &inputs), graph::eval(&second, &inputs));
        assert!(a.is_ok() && a == b, "{}: {a:?}", file.display());
    }
}

/// A value with 2 for every open extent; integers are indices that every table has.
fn sample(ty: &tinsmith::tensor::Type, seed: u64) -> Tensor {
    let dims: Vec<usize> = ty.shape.0.iter().map(|d: &Dim| d.fixed().unwrap_or(2)).collect();
    if ty.dtype.is_float() { graph::rand(ty.dtype, &dims, seed) } else { Tensor::zeros(ty.dtype, &dims) }
}

#[test]
fn wrong_text_is_refused_at_its_line() {
    for file in files("errors") {
        let text = fs::read_to_string(&file).unwrap();
        let expected = text.lines().next().and_then(|l| l.strip_prefix("// error: ")).expect("the first line says the error");
        let found = read(&text, &graph::Blobs::new()).err().unwrap_or_else(|| panic!("{} reads", file.display()));
        let squeezed = found.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed, expected, "{}", file.display());
    }
}
