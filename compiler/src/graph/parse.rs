//! Reads the text of graphs; [`super::print`] writes it. The result is not verified.
//!
//! ```text
//! graph     = "graph" "@" name "(" [input {"," input}] ")" "->" "(" [output {"," output}] ")" ["arena" int] "{" {line | fuse} "}"
//! input     = "%" name ":" type
//! output    = value ["as" name]
//! fuse      = "fuse" "{" {line} "}"
//! line      = result {"," result} "=" ("const" data | op | control) [":" type {"," type}] {("then" | "else" | "do") graph}
//! result    = value | "_"
//! op        = name "(" [operand {"," operand}] ")" {name "=" attribute}
//! control   = ("if" | "loop") "(" [operand {"," operand}] ")" {name "=" attribute}
//! operand   = value | "_"
//! data      = "[" [number {"," number}] "]" | "splat" "(" number ")" | "rand" "(" int ")" | "blob" "(" name ")"
//! attribute = number | string | "[" [attribute {"," attribute}] "]" | dtype dims "{" [number {"," number}] "}"
//! type      = dtype dims ["as" letters] ["at" place]
//! dims      = "[" [dim {"," dim}] "]"
//! dim       = int | name | "?"
//! place     = int ".." int | "input" [int] | "output" [int] | "constant" | value
//! value     = ("%" | "@") name
//! name      = letters, digits, "_" and "." | string
//! ```
//!
//! `//` starts a comment. Types of operators may be left out; constants need theirs.

use std::collections::HashMap;

use half::{bf16, f16};

use super::blob::{Blobs, rand};
use super::print::{self, axis_letters};
use super::{Branches, Control, Graph, Loop, NodeId, Place, Value};
use crate::lexer::{Lexer, Result, reads_tokens};
use crate::ops::{self, Attribute, Attributes};
use crate::tensor::{DType, Dim, Shape, Tensor, Type};

/// Elements of a constant that text may ask for without giving them.
const MAX_ELEMENTS: usize = 1 << 28;
const MAX_DEPTH: usize = 8;
/// Bodies within bodies.
const MAX_BODY_DEPTH: usize = 32;

pub use crate::lexer::ParseError;

/// The graph with the given text, which has no blobs.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(text: &str) -> Result<Graph> {
    parse_with(text, &Blobs::new())
}

/// The graph with the given text, whose blobs are in `blobs`.
///
/// # Errors
/// The first line that is wrong.
pub fn parse_with(text: &str, blobs: &Blobs) -> Result<Graph> {
    let mut p = Parser {
        lexer: Lexer::new(text),
        graph: Graph::new(""),
        blobs,
        values: HashMap::new(),
        places: vec![],
        groups: 0,
        depth: 0,
        body_failed: false,
    };
    p.graph()?;
    p.end()?;
    Ok(p.graph)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    graph: Graph,
    blobs: &'a Blobs,
    values: HashMap<String, Value>,
    // Values whose place is within another one, which may come later: the line, the value, the name of the other.
    places: Vec<(usize, Value, String)>,
    groups: u32,
    // Bodies around the graph, and whether an error is one of a body's lines.
    depth: usize,
    body_failed: bool,
}

/// A type with what later stages add to it.
struct Annotated {
    ty: Type,
    layout: Option<Vec<usize>>,
    place: Option<Place>,
    within: Option<String>,
}

/// What the data of a constant is, before its type is known.
enum Data<'a> {
    List(Vec<&'a str>),
    Splat(&'a str),
    Rand(u64),
    Blob(String),
}

reads_tokens!(Parser);

impl<'a> Parser<'a> {
    fn graph(&mut self) -> Result<()> {
        self.expect_word("graph")?;
        self.expect("@")?;
        self.graph.name = self.name()?;
        self.list("(", ")", |p| {
            p.expect("%")?;
            let name = p.name()?;
            p.expect(":")?;
            let ty = p.annotated()?;
            let v = p.graph.add_input(&name, ty.ty.clone());
            p.define(&name, v)?;
            p.annotate(v, ty);
            Ok(())
        })?;
        self.expect("->")?;
        let outputs = self.list("(", ")", |p| {
            let (line, name) = (p.line_number(), p.value_name()?);
            let output = if p.eat_word("as") { p.name()? } else { name.clone() };
            Ok((line, name, output))
        })?;
        if self.eat_word("arena") {
            self.graph.arena_bytes = Some(self.small()?);
        }
        self.expect("{")?;
        while !self.eat("}") {
            if self.eat_word("fuse") {
                self.expect("{")?;
                let group = self.groups;
                self.groups += 1;
                while !self.eat("}") {
                    let node = self.line()?;
                    self.graph.node_mut(node).group = Some(group);
                }
            } else {
                self.line()?;
            }
        }
        let find = |values: &HashMap<String, Value>, line, name: &str| {
            values.get(name).copied().ok_or_else(|| ParseError { line, message: format!("`%{}` is not defined", print::name(name)) })
        };
        let outputs =
            outputs.into_iter().map(|(line, name, output)| Ok((output, find(&self.values, line, &name)?))).collect::<Result<_>>()?;
        self.graph.set_outputs(outputs);
        for (line, v, name) in std::mem::take(&mut self.places) {
            self.graph.info_mut(v).place = Some(Place::Within(find(&self.values, line, &name)?));
        }
        Ok(())
    }

    fn define(&mut self, name: &str, v: Value) -> Result<()> {
        match self.values.insert(name.to_owned(), v) {
            None => Ok(()),
            Some(_) => self.error(format!("`{}` is defined twice", print::name(name))),
        }
    }

    fn value_name(&mut self) -> Result<String> {
        if !self.eat("%") {
            self.expect("@")?;
        }
        self.name()
    }

    fn operand(&mut self) -> Result<Option<Value>> {
        if self.eat_word("_") {
            return Ok(None);
        }
        let name = self.value_name()?;
        match self.values.get(&name) {
            Some(&v) => Ok(Some(v)),
            None => self.error(format!("`{}` is not defined above", print::name(&name))),
        }
    }

    /// A line; its errors are at its start, however far the parser had to look.
    fn line(&mut self) -> Result<NodeId> {
        self.skip();
        let line = self.line_number();
        self.node().map_err(|e| if self.body_failed { e } else { ParseError { line, ..e } })
    }

    fn node(&mut self) -> Result<NodeId> {
        let mut results = vec![];
        loop {
            results.push(if self.eat_word("_") { String::new() } else { self.value_name()? });
            if !self.eat(",") {
                break;
            }
        }
        self.expect("=")?;
        let op = self.name()?;
        if op == "const" {
            return self.constant(results);
        }
        if op == "if" || op == "loop" {
            return self.control(&op, results);
        }
        let Some(schema) = ops::find(&op) else { return self.error(format!("`{op}` is not an operator")) };
        let operands = self.list("(", ")", Self::operand)?;
        let mut attributes = self.attributes(&["", "fuse", "_"])?;
        let operator = (schema.build)(&mut attributes).or_else(|e| self.error(e.to_string()))?;
        let (least, greatest) = schema.arity();
        if !(least..=greatest).contains(&operands.len()) {
            return self.error(format!("`{op}` with {} operands", operands.len()));
        }
        let types = self.types(results.len())?;
        let node = match &types {
            Some(types) => {
                let results = results.iter().cloned().zip(types.iter().map(|t| t.ty.clone())).collect();
                self.graph.add_typed_node(operator, &operands, results, "")
            }
            None => self.graph.add_node(operator, &operands, &results, "").or_else(|e| self.error(e.to_string()))?,
        };
        self.define_results(node, &results, types)?;
        Ok(node)
    }

    fn define_results(&mut self, node: NodeId, results: &[String], types: Option<Vec<Annotated>>) -> Result<()> {
        for (i, name) in results.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            self.define(name, Value { node, result: i as u32 })?;
        }
        for (i, ty) in types.into_iter().flatten().enumerate() {
            self.annotate(Value { node, result: i as u32 }, ty);
        }
        Ok(())
    }

    /// Attributes up to one of some words: those that begin the next line, and those that may follow in this one.
    fn attributes(&mut self, ends: &[&str]) -> Result<Attributes> {
        let mut attributes = Attributes::default();
        while !ends.contains(&self.peek()) {
            let name = self.name()?;
            self.expect("=")?;
            let value = self.attribute(0)?;
            attributes.0.insert(name, value);
        }
        Ok(attributes)
    }

    /// A branch or a loop.
    fn control(&mut self, kind: &str, results: Vec<String>) -> Result<NodeId> {
        let operands = self.list("(", ")", Self::operand)?;
        let mut attributes = self.attributes(&["", "then", "do"])?;
        let types = self.types(results.len())?;
        let control = if kind == "if" {
            self.expect_word("then")?;
            let then_branch = self.body()?;
            self.expect_word("else")?;
            Control::If(Box::new(Branches { then_branch, else_branch: self.body()? }))
        } else {
            let count = |a: Option<Attribute>| match a {
                None => Some(0),
                Some(Attribute::Int(n)) => usize::try_from(n).ok(),
                Some(_) => None,
            };
            let [n_states, n_scanned, conditional] = ["states", "scanned", "conditional"].map(|name| count(attributes.0.remove(name)));
            let backward = match attributes.0.remove("backward") {
                None => Some(vec![]),
                Some(Attribute::Ints(list)) => Some(list.iter().map(|&b| b != 0).collect()),
                Some(_) => None,
            };
            let (Some(n_states), Some(n_scanned), Some(conditional), Some(backward)) = (n_states, n_scanned, conditional, backward) else {
                return self.error("`loop` has numbers `states`, `scanned`, `conditional` and a list `backward`");
            };
            self.expect_word("do")?;
            Control::Loop(Box::new(Loop { body: self.body()?, n_states, n_scanned, conditional: conditional > 0, backward }))
        };
        if let Some(name) = attributes.0.keys().next() {
            return self.error(format!("`{kind}` has no attribute `{name}`"));
        }
        let node = match &types {
            Some(types) => {
                let results = results.iter().cloned().zip(types.iter().map(|t| t.ty.clone())).collect();
                self.graph.add_typed_control(control, &operands, results, "")
            }
            None => self.graph.add_control(control, &operands, &results, "").or_else(|e| self.error(e.to_string()))?,
        };
        self.define_results(node, &results, types)?;
        Ok(node)
    }

    /// A graph inside this one, with names of its own.
    fn body(&mut self) -> Result<Graph> {
        if self.depth >= MAX_BODY_DEPTH {
            return self.error(format!("graphs are nested more than {MAX_BODY_DEPTH} deep"));
        }
        let outer = (
            std::mem::replace(&mut self.graph, Graph::new("")),
            std::mem::take(&mut self.values),
            std::mem::take(&mut self.places),
            std::mem::take(&mut self.groups),
        );
        self.depth += 1;
        let read = self.graph();
        self.body_failed |= read.is_err();
        read?;
        self.depth -= 1;
        let body = std::mem::replace(&mut self.graph, outer.0);
        (self.values, self.places, self.groups) = (outer.1, outer.2, outer.3);
        Ok(body)
    }

    fn types(&mut self, n: usize) -> Result<Option<Vec<Annotated>>> {
        if !self.eat(":") {
            return Ok(None);
        }
        let mut types = vec![self.annotated()?];
        while self.eat(",") {
            types.push(self.annotated()?);
        }
        if types.len() == n { Ok(Some(types)) } else { self.error(format!("{} types of {n} results", types.len())) }
    }

    fn annotate(&mut self, v: Value, ty: Annotated) {
        let line = self.line_number();
        if let Some(name) = ty.within {
            self.places.push((line, v, name));
        }
        let info = self.graph.info_mut(v);
        info.layout = ty.layout;
        info.place = ty.place;
    }

    fn constant(&mut self, results: Vec<String>) -> Result<NodeId> {
        let [name] = &results[..] else { return self.error("a constant has one result") };
        let data = self.data()?;
        let ty = self.types(1)?.and_then(|mut t| t.pop());
        let Some(ty) = ty else { return self.error("a constant needs its type") };
        let Some(dims) = ty.ty.dims() else { return self.error("a constant has an unknown dimension") };
        let dtype = ty.ty.dtype;
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_ELEMENTS);
        let Some(count) = count else { return self.error(format!("`{}` has too many elements", ty.ty)) };
        let tensor = match data {
            Data::Rand(seed) => rand(dtype, &dims, seed),
            Data::Splat(text) => {
                let element = self.element(dtype, text)?;
                Tensor::from_bytes(dtype, &dims, &element.repeat(count))
            }
            Data::List(items) if items.len() == count => self.elements(dtype, &dims, &items)?,
            Data::List(items) => return self.error(format!("{} elements of `{}`", items.len(), ty.ty)),
            Data::Blob(hash) => match self.blobs.get(&hash) {
                None => return self.error(format!("the contents of `blob({hash})` are not at hand")),
                Some(t) if t.bytes().len() == count * dtype.size_bytes() => Tensor::from_bytes(dtype, &dims, t.bytes()),
                Some(t) => return self.error(format!("`blob({hash})` has {} bytes, not those of `{}`", t.bytes().len(), ty.ty)),
            },
        };
        let v = self.graph.add_constant(name, tensor);
        self.define(name, v)?;
        self.annotate(v, ty);
        Ok(v.node)
    }

    fn data(&mut self) -> Result<Data<'a>> {
        if self.next_char() == Some('[') {
            return Ok(Data::List(self.list("[", "]", Self::number)?));
        }
        let form = self.word("a constant's value")?;
        self.expect("(")?;
        let data = match form {
            "splat" => Data::Splat(self.number()?),
            "rand" => Data::Rand(self.digits()?),
            "blob" => Data::Blob(self.name()?),
            _ => return self.error(format!("`{form}` is not a form of constants: `[..]`, `splat`, `rand` or `blob`")),
        };
        self.expect(")")?;
        Ok(data)
    }

    /// The text of a number, `true`, `inf` or `nan(0x7fc00001)`.
    fn number(&mut self) -> Result<&'a str> {
        let mut len = self.peek_number().len();
        let rest = self.rest();
        if rest[..len].ends_with("nan") && rest[len..].starts_with("(0x") {
            len += rest[len..].find(')').map_or(0, |end| end + 1);
        }
        if len == 0 {
            return self.expected("a number");
        }
        self.advance(len);
        Ok(&rest[..len])
    }

    fn elements(&self, dtype: DType, dims: &[usize], items: &[&str]) -> Result<Tensor> {
        let bytes = items.iter().map(|item| self.element(dtype, item)).collect::<Result<Vec<_>>>()?.concat();
        Ok(Tensor::from_bytes(dtype, dims, &bytes))
    }

    /// The bytes of an element.
    fn element(&self, dtype: DType, text: &str) -> Result<Vec<u8>> {
        let bits = text.strip_prefix("nan(0x").and_then(|t| t.strip_suffix(')')).and_then(|t| u64::from_str_radix(t, 16).ok());
        let bytes = match (dtype.storage(), bits) {
            (DType::F16 | DType::BF16 | DType::F32 | DType::F64, Some(bits)) => Some(bits.to_le_bytes()[..dtype.size_bytes()].to_vec()),
            (DType::F16, _) => text.parse().ok().map(|x| f16::from_f32(x).to_le_bytes().to_vec()),
            (DType::BF16, _) => text.parse().ok().map(|x| bf16::from_f32(x).to_le_bytes().to_vec()),
            (DType::F32, _) => text.parse().ok().map(|x: f32| if x.is_nan() { f32::NAN } else { x }.to_le_bytes().to_vec()),
            (DType::F64, _) => text.parse().ok().map(|x: f64| if x.is_nan() { f64::NAN } else { x }.to_le_bytes().to_vec()),
            (DType::Bool, _) => ["false", "true"].iter().position(|t| *t == text).map(|b| vec![b as u8]),
            (DType::I8, _) => text.parse().ok().map(|x: i8| x.to_le_bytes().to_vec()),
            (DType::I16, _) => text.parse().ok().map(|x: i16| x.to_le_bytes().to_vec()),
            (DType::I32, _) => text.parse().ok().map(|x: i32| x.to_le_bytes().to_vec()),
            (DType::I64, _) => text.parse().ok().map(|x: i64| x.to_le_bytes().to_vec()),
            (DType::U8, _) => text.parse().ok().map(|x: u8| x.to_le_bytes().to_vec()),
            (DType::U16, _) => text.parse().ok().map(|x: u16| x.to_le_bytes().to_vec()),
            (DType::U32, _) => text.parse().ok().map(|x: u32| x.to_le_bytes().to_vec()),
            (DType::U64, _) => text.parse().ok().map(|x: u64| x.to_le_bytes().to_vec()),
            // No type is stored as another one that is stored as a third.
            _ => None,
        };
        bytes.map_or_else(|| self.error(format!("`{text}` is not a value of type {dtype}")), Ok)
    }

    fn attribute(&mut self, depth: usize) -> Result<Attribute> {
        match self.next_char() {
            Some('"') => Ok(Attribute::String(self.string()?)),
            Some('[') if depth < MAX_DEPTH => {
                let items = self.list("[", "]", |p| p.attribute(depth + 1))?;
                let ints: Option<Vec<i64>> = items.iter().map(|a| if let Attribute::Int(i) = a { Some(*i) } else { None }).collect();
                let floats: Option<Vec<f32>> = items.iter().map(|a| if let Attribute::Float(x) = a { Some(*x) } else { None }).collect();
                let strings: Option<Vec<String>> =
                    items.iter().map(|a| if let Attribute::String(s) = a { Some(s.clone()) } else { None }).collect();
                let list = ints.map(Attribute::Ints).or(floats.map(Attribute::Floats)).or(strings.map(Attribute::Strings));
                list.map_or_else(|| self.error("a list of several types"), Ok)
            }
            _ => {
                let text = self.number()?;
                if let Ok(dtype) = text.parse::<DType>() {
                    let dims = self.list("[", "]", |p| p.small::<usize>())?;
                    let items = self.list("{", "}", Self::number)?;
                    if dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(items.len()) {
                        return self.error(format!("{} elements of {dtype}{dims:?}", items.len()));
                    }
                    return Ok(Attribute::Tensor(self.elements(dtype, &dims, &items)?));
                }
                if let Ok(i) = text.parse() {
                    return Ok(Attribute::Int(i));
                }
                text.parse().map(Attribute::Float).or_else(|_| self.error(format!("`{text}` is not an attribute's value")))
            }
        }
    }

    fn annotated(&mut self) -> Result<Annotated> {
        let word = self.word("a type")?;
        let dtype = word.parse::<DType>().or_else(|e| self.error(e))?;
        let dims = self.list("[", "]", |p| {
            if p.eat("?") {
                return Ok(Dim::Unknown);
            }
            if p.at_digit() {
                return Ok(Dim::Fixed(p.small()?));
            }
            Ok(Dim::Symbol(p.name()?.into()))
        })?;
        let mut out = Annotated { ty: Type::new(dtype, Shape(dims)), layout: None, place: None, within: None };
        if self.eat_word("as") {
            out.layout = Some(self.layout(out.ty.rank())?);
        }
        if self.eat_word("at") {
            (out.place, out.within) = self.place()?;
        }
        Ok(out)
    }

    fn layout(&mut self, rank: usize) -> Result<Vec<usize>> {
        let tag = self.word("a layout")?;
        let layout: Option<Vec<usize>> = tag.chars().map(|c| axis_letters(rank).find(c).filter(|&axis| axis < rank)).collect();
        match layout {
            Some(layout) if layout.len() == rank && (0..rank).all(|axis| layout.contains(&axis)) => Ok(layout),
            _ => self.error(format!("`{tag}` is not an order of the axes `{}`", axis_letters(rank).get(..rank).unwrap_or("abc.."))),
        }
    }

    fn place(&mut self) -> Result<(Option<Place>, Option<String>)> {
        if matches!(self.next_char(), Some('%' | '@')) {
            return Ok((None, Some(self.value_name()?)));
        }
        let word = self.word("a place")?;
        let place = match word {
            "constant" => Place::Constant,
            "input" | "output" => {
                let number = self.at_digit();
                let i = if number { self.small()? } else { 0 };
                if word == "input" { Place::Input(i) } else { Place::Output(i) }
            }
            start => {
                let end = if self.eat("..") { self.word("the end of a place")? } else { "" };
                let (Ok(from), Ok(to)) = (start.parse(), end.parse()) else {
                    return self.error(format!("`{start}{}{end}` is not a place", if end.is_empty() { "" } else { ".." }));
                };
                Place::Arena(from..to)
            }
        };
        Ok((Some(place), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{blobs, print, read_blobs, verify, write_blobs};

    /// Prints and reads until it must be a fixed point.
    fn round_trip(text: &str) -> String {
        let graph = parse(text).unwrap();
        verify(&graph).unwrap();
        let printed = print(&graph);
        let again = parse_with(&printed, &blobs(&graph)).unwrap();
        verify(&again).unwrap();
        assert_eq!(print(&again), printed);
        printed
    }

    #[test]
    fn a_graph_reads_and_prints() {
        insta::assert_snapshot!(round_trip("
            graph @stem(%image: f32[1,3,8,8], %\"odd name\": f32[N,?]) -> (%pool, %soft as \"/out\") {
              @w = const rand(1) : f32[4,3,3,3]   // seeded
              @b = const splat(0.5) : f32[16]
              @s = const [0.5,-0,inf,nan,1e-30,-inf] : f32[6]
              %conv = Conv(%image, @w, _) strides=[2,2] pads=[1,1,1,1]
              %pool = MaxPool(%conv) kernel_shape=[2,2]
              %soft = Softmax(%\"odd name\") axis=0
            }"), @r#"
        graph @stem(%image: f32[1,3,8,8], %"odd name": f32[N,?]) -> (%pool, %soft as "/out") {
          @w = const blob(hd5c30a745173feed)                          : f32[4,3,3,3]
          @b = const splat(0.5)                                       : f32[16]
          @s = const [0.5,-0,inf,nan,1e-30,-inf]                      : f32[6]
          %conv = Conv(%image, @w, _) pads=[1,1,1,1] strides=[2,2]    : f32[1,4,4,4]
          %pool = MaxPool(%conv) kernel_shape=[2,2]                   : f32[1,4,3,3]
          %soft = Softmax(%"odd name") axis=0                         : f32[N,?]
        }
        "#);
    }

    #[test]
    fn later_stages_are_part_of_the_text() {
        insta::assert_snapshot!(round_trip("
            graph @g(%x: f32[1,2,3,4] at input) -> (%y) arena 96 {
              fuse {
                %a = Softmax(%x) : f32[1,2,3,4] as nhwc at 0..96
                %b = Softmax(%a) : f32[1,2,3,4] as nhwc at %y
              }
              %y = Add(%b, %b) : f32[1,2,3,4] at output
            }"), @r#"
        graph @g(%x: f32[1,2,3,4] at input) -> (%y) arena 96 {
          fuse {
            %a = Softmax(%x)                                          : f32[1,2,3,4] as nhwc at 0..96
            %b = Softmax(%a)                                          : f32[1,2,3,4] as nhwc at %y
          }
          %y = Add(%b, %b)                                            : f32[1,2,3,4] at output
        }
        "#);
    }

    #[test]
    fn constants_of_every_type_keep_their_bits() {
        let mut text = "graph @g() -> () {\n".to_owned();
        for dtype in DType::ALL {
            let graph_type = format!("{dtype}[3,4]");
            text += &format!("  @a_{dtype} = const rand(7) : {graph_type}\n  @b_{dtype} = const rand(7) : {dtype}[2]\n");
        }
        text += "  @nan = const [nan(0x7fc00001)] : f32[]\n}";
        let graph = parse(&text).unwrap();
        let printed = round_trip(&text);
        let again = parse_with(&printed, &read_blobs(&write_blobs(&blobs(&graph))).unwrap()).unwrap();
        for node in graph.order() {
            let name = &graph.node(node).results[0].name;
            assert_eq!(graph.node(node).constant(), again.constant(again.find(name).unwrap()), "{name}");
        }
    }

    fn error(body: &str) -> String {
        parse(&format!("graph @g(%x: f32[2,2]) -> (%x) {{\n{body}\n}}")).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_their_line() {
        insta::assert_snapshot!([
            error("%y = Nope(%x)"),
            error("%y = Add(%x, %z)"),
            error("%y = Add(%x, %x) axis=1"),
            error("%y = Add(%x)"),
            error("\n%y = Softmax(%x) axis=5"),
            error("%x = Softmax(%x)"),
            error("@c = const [1,2] : f32[3]"),
            error("@c = const [1.5] : i64[1]"),
            error("@c = const splat(1) : f32[999999999,999999999,999999999,999999999]"),
            error("@c = const [1]"),
            error("%y = Softmax(%x) : f32[2,2] as nhwc"),
            error("%y = Softmax(%x) : f99[2,2]"),
            error("%y = Softmax(%x) axis="),
            error("%\"open = "),
            error("} }"),
        ].join("\n"), @r#"
        line 2: `Nope` is not an operator
        line 2: `z` is not defined above
        line 2: attribute `axis` is unknown
        line 2: `Add` with 1 operands
        line 3: axis 5 of a value of rank 2
        line 2: `x` is defined twice
        line 2: 2 elements of `f32[3]`
        line 2: `1.5` is not a value of type i64
        line 2: `f32[999999999,999999999,999999999,999999999]` has too many elements
        line 2: a constant needs its type
        line 2: `nhwc` is not an order of the axes `ab`
        line 2: `f99` is not an element type
        line 2: expected a number, found `}`
        line 2: a string without end
        line 2: expected the end of the text, found `}`
        "#);
    }

    #[test]
    fn no_text_makes_it_panic() {
        let text = print(
            &parse(
                "graph @g(%x: f32[N,\"a b\"]) -> (%y as z) arena 5 {\n  fuse {\n    @c = const [1,nan] : f32[2] at 0..8\n    \
            %y, _ = MaxPool(%x) kernel_shape=[2] auto_pad=\"VALID\" : f32[1], i64[1] as a\n  }\n}",
            )
            .unwrap(),
        );
        for at in (0..text.len()).filter(|&at| text.is_char_boundary(at)) {
            let _ = parse(&text[..at]);
            let _ = parse(&text[at..]);
            for piece in ["\"", "}", "(", "0", "-", "?", "@", "é"] {
                let _ = parse(&format!("{}{piece}{}", &text[..at], &text[at..]));
            }
        }
    }
}
