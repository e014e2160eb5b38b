//! Writes a graph as text; [`super::parse`] reads it, and its grammar is there.
//!
//! Types start at a fixed column, values are quoted where their names are odd, and attributes equal to their default are left out.

use std::fmt::{self, Write};

use half::{bf16, f16};

use super::blob::blob_hash;
use super::{Control, Graph, Node, NodeId, NodeKind, Place, Value};
use crate::ops::Attribute;
use crate::tensor::{DType, Tensor};

/// Where the types start, in characters from the start of the line.
const TYPE_COLUMN: usize = 64;
/// Constants of at most this many elements are written in full.
const INLINE_ELEMENTS: usize = 8;
/// Letters of the axes of layouts of any rank but 3 to 5.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self))
    }
}

/// The graph as text.
pub fn print(graph: &Graph) -> String {
    let mut out = String::new();
    write(graph, 0, &mut out);
    out.push('\n');
    out
}

/// A graph whose lines are indented by so many spaces, but for the first; without a new line at its end.
fn write(graph: &Graph, indent: usize, out: &mut String) {
    let _ = write!(out, "graph @{}(", name(&graph.name));
    for (i, &v) in graph.inputs().iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{}: {}", sigil(graph, v), ty(graph, v));
    }
    out.push_str(") -> (");
    for (i, (&v, output)) in graph.outputs().iter().zip(graph.output_names()).enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{}", sigil(graph, v));
        if output != graph.name_of(v) {
            let _ = write!(out, " as {}", name(output));
        }
    }
    out.push(')');
    if let Some(bytes) = graph.arena_bytes {
        let _ = write!(out, " arena {bytes}");
    }
    out.push_str(" {\n");
    let mut group = None;
    for node in graph.grouped_order() {
        let n = graph.node(node);
        if matches!(n.kind, NodeKind::Input) {
            continue;
        }
        if n.group != group {
            if group.is_some() {
                let _ = writeln!(out, "{:indent$}  }}", "");
            }
            if n.group.is_some() {
                let _ = writeln!(out, "{:indent$}  fuse {{", "");
            }
            group = n.group;
        }
        let inner = indent + if group.is_some() { 4 } else { 2 };
        let _ = write!(out, "{:inner$}{}", "", padded(graph, node, TYPE_COLUMN.saturating_sub(inner)));
        if let NodeKind::Control(control) = &n.kind {
            for (word, body) in control.words().iter().zip(control.bodies()) {
                let _ = write!(out, "\n{:inner$}  {word} ", "");
                write(body, inner + 2, out);
            }
        }
        out.push('\n');
    }
    if group.is_some() {
        let _ = writeln!(out, "{:indent$}  }}", "");
    }
    let _ = write!(out, "{:indent$}}}", "");
}

/// The line of one node, without indentation and padding: for diagnostics.
pub fn line(graph: &Graph, node: NodeId) -> String {
    padded(graph, node, 0)
}

/// The value with its sigil: `@` for a constant, `%` for others.
pub fn sigil(graph: &Graph, v: Value) -> String {
    let sigil = if graph.constant(v).is_some() { '@' } else { '%' };
    format!("{sigil}{}", name(graph.name_of(v)))
}

/// A name, quoted if it is odd.
pub fn name(s: &str) -> String {
    if !s.is_empty() && s.chars().all(crate::lexer::is_word) && !s.contains("..") { s.to_owned() } else { quoted(s) }
}

fn quoted(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn padded(graph: &Graph, node: NodeId, column: usize) -> String {
    let n = graph.node(node);
    let mut out = String::new();
    for (i, result) in n.results.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let result = if result.name.is_empty() { "_".to_owned() } else { sigil(graph, Value { node, result: i as u32 }) };
        let _ = write!(out, "{comma}{result}");
    }
    out.push_str(" = ");
    match &n.kind {
        NodeKind::Input => out.push_str("input"),
        NodeKind::Constant(t) => {
            let _ = write!(out, "const {}", constant(t));
        }
        NodeKind::Operator(op) => {
            let _ = write!(out, "{}({})", op.schema().full_name(), operands(graph, node));
            for (key, value) in op.attributes() {
                let _ = write!(out, " {key}={}", attribute(&value));
            }
        }
        NodeKind::Control(control) => {
            let _ = write!(out, "{}({})", control.name(), operands(graph, node));
            if let Control::Loop(l) = control {
                for (key, n) in [("states", l.n_states), ("scanned", l.n_scanned), ("conditional", l.conditional.into())] {
                    if n > 0 {
                        let _ = write!(out, " {key}={n}");
                    }
                }
                if l.backward.contains(&true) {
                    let backward = l.backward.iter().map(|&b| b.into()).collect();
                    let _ = write!(out, " backward={}", attribute(&Attribute::Ints(backward)));
                }
            }
        }
    }
    let width = out.chars().count();
    let _ = write!(out, "{:1$} : {2}", "", column.saturating_sub(width + 3), types(graph, node, n));
    out
}

fn operands(graph: &Graph, node: NodeId) -> String {
    graph.operands(node).iter().map(|v| v.map_or("_".to_owned(), |v| sigil(graph, v))).collect::<Vec<_>>().join(", ")
}

fn types(graph: &Graph, node: NodeId, n: &Node) -> String {
    let types = (0..n.results.len()).map(|i| ty(graph, Value { node, result: i as u32 }));
    types.collect::<Vec<_>>().join(", ")
}

/// Type, layout and place of a value.
fn ty(graph: &Graph, v: Value) -> String {
    let info = graph.info(v);
    let mut out = info.ty.to_string();
    if let Some(layout) = &info.layout {
        let _ = write!(out, " as {}", layout_tag(layout));
    }
    let number = |i: usize| if i == 0 { String::new() } else { format!(" {i}") };
    let _ = match &info.place {
        None => Ok(()),
        Some(Place::Arena(range)) => write!(out, " at {}..{}", range.start, range.end),
        Some(Place::Input(i)) => write!(out, " at input{}", number(*i)),
        Some(Place::Output(i)) => write!(out, " at output{}", number(*i)),
        Some(Place::Constant) => write!(out, " at constant"),
        Some(Place::Within(v)) => write!(out, " at {}", sigil(graph, *v)),
    };
    out
}

/// A letter for each axis of a value of this rank, as in `nchw`.
pub(super) fn axis_letters(rank: usize) -> &'static str {
    match rank {
        3 => "ncw",
        4 => "nchw",
        5 => "ncdhw",
        _ => LETTERS,
    }
}

/// A physical order of axes as a tag: `nhwc`.
fn layout_tag(layout: &[usize]) -> String {
    let letters = axis_letters(layout.len()).as_bytes();
    layout.iter().map(|&axis| letters.get(axis).map_or('?', |&b| b as char)).collect()
}

/// How a constant is written.
pub(super) enum Form {
    Inline,
    Splat,
    Blob,
}

impl Form {
    pub(super) fn of(t: &Tensor) -> Form {
        if t.len() <= INLINE_ELEMENTS {
            return Form::Inline;
        }
        let bytes = t.bytes();
        let size = t.dtype().size_bytes();
        if bytes.chunks_exact(size).all(|c| c == &bytes[..size]) { Form::Splat } else { Form::Blob }
    }
}

fn constant(t: &Tensor) -> String {
    match Form::of(t) {
        Form::Inline => format!("[{}]", (0..t.len()).map(|i| element(t, i)).collect::<Vec<_>>().join(",")),
        Form::Splat => format!("splat({})", element(t, 0)),
        Form::Blob => format!("blob({})", blob_hash(t)),
    }
}

/// Every element, whatever their number.
fn elements(t: &Tensor) -> String {
    (0..t.len()).map(|i| element(t, i)).collect::<Vec<_>>().join(",")
}

/// Element `i`, in the shortest form that reads back to the same bits.
fn element(t: &Tensor, i: usize) -> String {
    match t.dtype() {
        DType::Bool => (t.as_slice::<u8>()[i] != 0).to_string(),
        DType::F32 => {
            let x = t.as_slice::<f32>()[i];
            float(x.into(), format!("{x:?}"), x.to_bits().into(), f32::NAN.to_bits().into())
        }
        DType::F64 => {
            let x = t.as_slice::<f64>()[i];
            float(x, format!("{x:?}"), x.to_bits(), f64::NAN.to_bits())
        }
        DType::F16 => {
            let x = t.as_slice::<f16>()[i];
            float(x.into(), format!("{:?}", x.to_f32()), x.to_bits().into(), f16::NAN.to_bits().into())
        }
        DType::BF16 => {
            let x = t.as_slice::<bf16>()[i];
            float(x.into(), format!("{:?}", x.to_f32()), x.to_bits().into(), bf16::NAN.to_bits().into())
        }
        dtype => {
            let size = dtype.size_bytes();
            let bytes = &t.bytes()[i * size..][..size];
            Tensor::from_bytes(dtype.storage(), &[], bytes).to_ints()[0].to_string()
        }
    }
}

fn float(x: f64, shortest: String, bits: u64, nan: u64) -> String {
    match () {
        () if x.is_nan() && bits == nan => "nan".to_owned(),
        () if x.is_nan() => format!("nan(0x{bits:x})"),
        () if x.is_infinite() => if x > 0.0 { "inf" } else { "-inf" }.to_owned(),
        () => shortest.strip_suffix(".0").unwrap_or(&shortest).to_owned(),
    }
}

/// An attribute's value; floats always look like floats.
pub fn attribute(value: &Attribute) -> String {
    let float = |x: &f32| match x {
        x if x.is_nan() => "nan".to_owned(),
        x => format!("{x:?}"),
    };
    let list = |items: Vec<String>| format!("[{}]", items.join(","));
    match value {
        Attribute::Int(i) => i.to_string(),
        Attribute::Float(x) => float(x),
        Attribute::String(s) => quoted(s),
        Attribute::Ints(v) => list(v.iter().map(i64::to_string).collect()),
        Attribute::Floats(v) => list(v.iter().map(float).collect()),
        Attribute::Strings(v) => list(v.iter().map(|s| quoted(s)).collect()),
        Attribute::Tensor(t) => format!("{}{{{}}}", t.ty(), elements(t)),
    }
}
