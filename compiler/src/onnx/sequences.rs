//! Sequences and optional values, which end here: a sequence whose length is known when compiling is so many values, an optional value is
//! what it holds, or nothing. Positions and lengths are constants; where data decides them, the node is refused.
//!
//! Specification: <https://onnx.ai/onnx/operators/onnx__SequenceAt.html> and its neighbours, opsets 11 to 24;
//! <https://onnx.ai/onnx/operators/onnx__Optional.html>, opsets 15 to 18.

use std::rc::Rc;

use super::model::Importer;
use super::node::{At, NODE_BYTES};
use super::opset::Draft;
use super::problems::Problem;
use super::scope::Known;
use crate::ops::{Attribute, Attributes, normalize_axis};
use crate::tensor::{DType, Tensor};

/// Operators on sequences and optional values. `SequenceMap` has a graph inside: [`super::subgraph`].
pub(super) const OPERATORS: [&str; 11] = [
    "ConcatFromSequence",
    "Optional",
    "OptionalGetElement",
    "OptionalHasElement",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SplitToSequence",
];

/// What a copy of an element of a sequence counts towards the greatest size of a model.
const ELEMENT_BYTES: usize = 256;

/// A sequence of these values; failed if one of them is.
pub(super) fn sequence(elements: Vec<Known>) -> Known {
    if elements.iter().any(|k| matches!(k, Known::Failed)) { Known::Failed } else { Known::Sequence(Rc::new(elements)) }
}

impl Importer<'_> {
    /// The results of an operator on sequences or optional values, or of one that takes such; `None` for all other nodes.
    ///
    /// # Errors
    /// If its operands are not what it takes, or a position or length is no constant.
    pub(super) fn collection(&mut self, at: At<'_>, name: &str) -> Result<Option<Vec<Known>>, Problem> {
        let operands: Vec<Known> =
            at.node.input.iter().map(|name| Ok(self.operand(name)?.unwrap_or(Known::Absent))).collect::<Result<_, Problem>>()?;
        let takes_any = name == "Identity" && matches!(operands[..], [Known::Sequence(_) | Known::Absent]);
        if !OPERATORS.contains(&name) && !takes_any {
            return match at.node.input.iter().zip(&operands).find(|(_, k)| matches!(k, Known::Sequence(_))) {
                Some((operand, _)) => Err(Problem::invalid(format!("operand `{operand}` of `{name}` is a sequence"))),
                None => Ok(None),
            };
        }
        if operands.iter().any(|k| matches!(k, Known::Failed)) {
            return Ok(Some(vec![Known::Failed]));
        }
        let operand = |i: usize| operands.get(i).cloned().unwrap_or(Known::Absent);
        let position =
            |this: &mut Self, elements: &[Known], past: bool| this.position(at, &operand(if past { 2 } else { 1 }), elements.len(), past);
        let result = match name {
            "Identity" | "Optional" => operand(0),
            "OptionalGetElement" => match operand(0) {
                Known::Absent => return Err(Problem::invalid("`OptionalGetElement` of an optional without a value")),
                known => known,
            },
            "OptionalHasElement" => {
                let has = !matches!(operand(0), Known::Absent);
                Known::constant(&self.result_name(at), Tensor::from_bools(&[], [has]))
            }
            "SequenceEmpty" => sequence(vec![]),
            "SequenceConstruct" => {
                self.spend(NODE_BYTES + ELEMENT_BYTES * operands.len())?;
                self.of_tensors(at, operands)?
            }
            "SequenceLength" => {
                let n = self.elements(at, &operand(0))?.len() as i64;
                Known::constant(&self.result_name(at), Tensor::scalar(n))
            }
            "SequenceAt" => {
                let elements = self.elements(at, &operand(0))?;
                match position(self, &elements, false)? {
                    Some(at) => elements[at].clone(),
                    None => Known::Failed,
                }
            }
            "SequenceErase" => {
                let mut elements = self.elements(at, &operand(0))?.to_vec();
                self.spend(NODE_BYTES + ELEMENT_BYTES * elements.len())?;
                let last = elements.len().checked_sub(1).ok_or_else(|| Problem::invalid("`SequenceErase` of an empty sequence"))?;
                match if matches!(operand(1), Known::Absent) { Some(last) } else { position(self, &elements, false)? } {
                    Some(at) => {
                        elements.remove(at);
                        sequence(elements)
                    }
                    None => Known::Failed,
                }
            }
            "SequenceInsert" => {
                let mut elements = self.elements(at, &operand(0))?.to_vec();
                self.spend(NODE_BYTES + ELEMENT_BYTES * elements.len())?;
                match if matches!(operand(2), Known::Absent) { Some(elements.len()) } else { position(self, &elements, true)? } {
                    Some(position) => {
                        self.same_dtype(at, &operand(1), elements.first().unwrap_or(&operand(1)))?;
                        elements.insert(position, operand(1));
                        Known::Sequence(Rc::new(elements))
                    }
                    None => Known::Failed,
                }
            }
            "SplitToSequence" => self.split_to_sequence(at, &operand(0), &operand(1))?,
            _ => self.concat_from_sequence(at, &operand(0))?,
        };
        Ok(Some(vec![result]))
    }

    /// The elements of a sequence.
    pub(super) fn elements(&self, at: At<'_>, known: &Known) -> Result<Rc<Vec<Known>>, Problem> {
        match known {
            Known::Sequence(elements) => Ok(elements.clone()),
            _ => Err(Problem::invalid(format!("the first operand of `{}` is not a sequence", at.node.op_type))),
        }
    }

    /// A sequence of tensors, which are of one element type.
    fn of_tensors(&self, at: At<'_>, elements: Vec<Known>) -> Result<Known, Problem> {
        for known in elements.iter().skip(1) {
            self.same_dtype(at, known, &elements[0])?;
        }
        if let Some(first) = elements.first() {
            self.same_dtype(at, first, first)?;
        }
        Ok(sequence(elements))
    }

    fn same_dtype(&self, at: At<'_>, known: &Known, first: &Known) -> Result<(), Problem> {
        let dtype = |known: &Known| match known {
            Known::Value(v) => Ok(self.graph.ty(*v).dtype),
            Known::Constant(c) => Ok(c.tensor.dtype()),
            _ => Err(Problem::invalid(format!("`{}` makes a sequence of what is no tensor", at.node.op_type))),
        };
        let (first, other) = (dtype(first)?, dtype(known)?);
        if first == other { Ok(()) } else { Err(Problem::invalid(format!("a sequence of `{first}` gets an element of `{other}`"))) }
    }

    /// A position in a sequence of so many elements, or, if `past`, perhaps behind the last; `None` if a dimension without extent decides it.
    fn position(&mut self, at: At<'_>, known: &Known, len: usize, past: bool) -> Result<Option<usize>, Problem> {
        let Some(list) = self.known_ints(at, known, "the position")? else { return Ok(None) };
        let [p] = list[..] else {
            return Err(Problem::invalid(format!("the position in `{}` has {} elements, not one", at.node.op_type, list.len())));
        };
        let from_front = if p < 0 { p.saturating_add(len as i64) } else { p };
        let found = usize::try_from(from_front).ok().filter(|&i| i < len + usize::from(past));
        found.map(Some).ok_or_else(|| Problem::invalid(format!("position {p} of `{}` in a sequence of {len}", at.node.op_type)))
    }

    /// The integers of an operand that must be constant; `None` if a dimension without extent decides them.
    fn known_ints(&mut self, at: At<'_>, known: &Known, what: &str) -> Result<Option<Vec<i64>>, Problem> {
        match known.tensor(&self.graph) {
            Some(t) if t.dtype().is_int() => return Ok(Some(t.to_ints().into_iter().map(|x| x as i64).collect())),
            Some(t) => return Err(Problem::invalid(format!("{what} of `{}` is `{}`, no integer", at.node.op_type, t.ty()))),
            None if matches!(known, Known::Value(_)) => {}
            None => return Err(Problem::invalid(format!("{what} of `{}` is missing", at.node.op_type))),
        }
        if self.depends_on_unbound(known) {
            return Ok(None);
        }
        self.depends_on_values(known);
        let message = format!("{what} of `{}` depends on the values of inputs", at.node.op_type);
        Err(Problem::unsupported("dynamic-shape", message).with_help("make that input a constant"))
    }

    fn split_to_sequence(&mut self, at: At<'_>, data: &Known, split: &Known) -> Result<Known, Problem> {
        let fact = data.fact(&self.graph).ok_or_else(|| Problem::invalid("`SplitToSequence` has no tensor to split"))?;
        let axis = self.int_of(at, "axis", 0)?;
        let axis = normalize_axis(axis, fact.ty.rank()).map_err(|e| Problem::invalid(format!("`SplitToSequence`: {e}")))?;
        let Some(extent) = fact.ty.shape.0[axis].fixed() else {
            return if self.depends_on_unbound(data) {
                Ok(Known::Failed)
            } else {
                Err(Problem::unsupported("dynamic-shape", format!("axis {axis} of `SplitToSequence` has no known extent")))
            };
        };
        let chunks = |size: usize| -> Vec<i64> { (0..extent.div_ceil(size)).map(|i| (extent - i * size).min(size) as i64).collect() };
        let keep = self.int_of(at, "keepdims", 1)? != 0 || !matches!(split, Known::Absent);
        let sizes = match split {
            Known::Absent => chunks(1),
            split => {
                let Some(list) = self.known_ints(at, split, "the lengths")? else { return Ok(Known::Failed) };
                match (split.fact(&self.graph).map_or(0, |f| f.ty.rank()), &list[..]) {
                    (0, &[size]) if size > 0 => chunks(usize::try_from(size).unwrap_or(usize::MAX)),
                    (1, list)
                        if list.iter().all(|&n| n >= 0) && list.iter().try_fold(0i64, |s, &n| s.checked_add(n)) == Some(extent as i64) =>
                    {
                        list.to_vec()
                    }
                    _ => return Err(Problem::invalid(format!("`SplitToSequence` splits {extent} into {list:?}"))),
                }
            }
        };
        self.spend(NODE_BYTES * (1 + 2 * sizes.len()))?;
        let base = self.result_name(at);
        let names: Vec<String> = (0..sizes.len()).map(|i| format!("{base}.{i}")).collect();
        if names.is_empty() {
            return Ok(sequence(vec![]));
        }
        let lengths = Known::constant(&format!("{base}.lengths"), Tensor::from_slice(&[sizes.len()], &sizes));
        let inputs = vec![Some(data.clone()), Some(lengths)];
        let attributes = Attributes([("axis".to_owned(), Attribute::Int(axis as i64))].into());
        let parts = self.apply(at, Draft { op: "Split".to_owned(), inputs, attributes, outputs: names.clone() })?;
        if parts.len() < names.len() {
            return Ok(Known::Failed);
        }
        if keep {
            return Ok(sequence(parts));
        }
        let axes = Tensor::from_slice(&[1], &[axis as i64]);
        let mut elements = vec![];
        for (part, name) in parts.into_iter().zip(names) {
            elements.push(self.moved(at, "Squeeze", part, &axes, &format!("{name}.element"))?);
        }
        Ok(sequence(elements))
    }

    fn concat_from_sequence(&mut self, at: At<'_>, operand: &Known) -> Result<Known, Problem> {
        let elements = self.elements(at, operand)?;
        let axis = self.ints_of(at, "axis")?.and_then(|list| list.first().copied());
        let axis = axis.ok_or_else(|| Problem::invalid("`ConcatFromSequence` has no `axis`"))?;
        let stacked = self.int_of(at, "new_axis", 0)? != 0;
        let base = self.result_name(at);
        self.joined(at, &elements, axis, stacked, &base)
    }

    /// The values side by side along an axis, which is a new one if they are `stacked`.
    pub(super) fn joined(&mut self, at: At<'_>, elements: &[Known], axis: i64, stacked: bool, name: &str) -> Result<Known, Problem> {
        if elements.is_empty() {
            return Err(Problem::unsupported(
                "unsupported-form",
                format!("`{}` joins no values: nothing says the result's shape", at.node.op_type),
            ));
        }
        self.spend(NODE_BYTES * (1 + elements.len()))?;
        let mut parts = elements.to_vec();
        if stacked {
            let axes = Tensor::from_slice(&[1], &[axis]);
            for (i, part) in parts.iter_mut().enumerate() {
                *part = self.moved(at, "Unsqueeze", part.clone(), &axes, &format!("{name}.part{i}"))?;
            }
        }
        let attributes = Attributes([("axis".to_owned(), Attribute::Int(axis))].into());
        let inputs = parts.into_iter().map(Some).collect();
        let results = self.apply(at, Draft { op: "Concat".to_owned(), inputs, attributes, outputs: vec![name.to_owned()] })?;
        Ok(results.into_iter().next().unwrap_or(Known::Failed))
    }

    /// The result of an operator of a value and axes.
    fn moved(&mut self, at: At<'_>, op: &str, known: Known, axes: &Tensor, name: &str) -> Result<Known, Problem> {
        let axes = Known::constant(&format!("{name}.axes"), axes.clone());
        let inputs = vec![Some(known), Some(axes)];
        let draft = Draft { op: op.to_owned(), inputs, attributes: Attributes::default(), outputs: vec![name.to_owned()] };
        Ok(self.apply(at, draft)?.into_iter().next().unwrap_or(Known::Failed))
    }

    /// The results of a `SequenceMap`: its body for every element.
    pub(super) fn sequence_map(&mut self, at: At<'_>) -> Result<Vec<Known>, Problem> {
        let body = self.graph_of(at, "body")?;
        let operands: Vec<Known> =
            at.node.input.iter().map(|name| Ok(self.operand(name)?.unwrap_or(Known::Absent))).collect::<Result<_, Problem>>()?;
        let failed = || Ok(vec![Known::Failed; at.node.output.len()]);
        if operands.iter().any(|k| matches!(k, Known::Failed)) {
            self.survey_graphs(at.node, at.frame);
            return failed();
        }
        let n = self.elements(at, operands.first().unwrap_or(&Known::Absent))?.len();
        for known in &operands {
            if let Known::Sequence(elements) = known
                && elements.len() != n
            {
                return Err(Problem::invalid(format!("`SequenceMap` over sequences of {n} and {} elements", elements.len())));
            }
        }
        let mut columns = vec![vec![]; body.output.len()];
        for i in 0..n {
            let one = |known: &Known| if let Known::Sequence(elements) = known { elements[i].clone() } else { known.clone() };
            let outputs = self.once(at, body, operands.iter().map(one).collect(), i)?;
            if outputs.iter().any(|k| matches!(k, Known::Failed)) {
                return failed();
            }
            columns.iter_mut().zip(outputs).for_each(|(column, k)| column.push(k));
        }
        columns.into_iter().take(at.node.output.len()).map(|column| self.of_tensors(at, column)).collect()
    }

    /// A result's name in the graph.
    fn result_name(&self, at: At<'_>) -> String {
        self.names(at, 1).0.swap_remove(0)
    }

    /// An integer attribute.
    fn int_of(&self, at: At<'_>, name: &str, default: i64) -> Result<i64, Problem> {
        Ok(self.ints_of(at, name)?.and_then(|list| list.first().copied()).unwrap_or(default))
    }
}

/// The type of a constant that says whether something holds, if it is one.
pub(super) fn truth(t: &Tensor) -> Option<bool> {
    (t.dtype() == DType::Bool && t.len() == 1).then(|| t.to_ints()[0] != 0)
}
