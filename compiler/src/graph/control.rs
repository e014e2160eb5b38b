//! Nodes that run graphs: branches and loops. What bodies read of the values around them is an operand of the node and an input of the
//! body, so that no scope needs to be looked through.

use super::{EvalError, Graph, eval};
use crate::ops::{Fact, InferError};
use crate::tensor::{DType, Shape, Tensor, Type};

/// A branch or a loop.
#[derive(Clone, Debug)]
pub enum Control {
    /// `if(condition, captured...)`: the results are the outputs of one of two graphs.
    If(Box<Branches>),
    /// `loop(trip?, states..., scanned..., captured...)`: the results are those of running a graph again and again.
    Loop(Box<Loop>),
}

/// Two graphs with the same inputs, the captured values, and outputs of the same types.
#[derive(Clone, Debug)]
pub struct Branches {
    /// Runs where the condition, one `bool`, is true.
    pub then_branch: Graph,
    /// Runs where it is false.
    pub else_branch: Graph,
}

/// A graph that runs once for each iteration.
///
/// Inputs of the body: the iteration's number (`i64[]`, from 0), the states, one slice (along axis 0) of each scanned operand, the captured values.
/// Outputs of the body: the states, one slice of each scanned result.
/// Results of the node: the states after the last iteration, the scanned results.
///
/// It runs as often as operand 0 says (`i64`, one element), where that is there; as often as scanned operands have slices; and while
/// the first state is true, if it is `conditional`, which is asked before each iteration.
#[derive(Clone, Debug)]
pub struct Loop {
    /// What runs.
    pub body: Graph,
    /// Values that one iteration hands to the next.
    pub n_states: usize,
    /// Operands of which each iteration gets a slice.
    pub n_scanned: usize,
    /// Whether the first state, one `bool`, says if there is a next iteration.
    pub conditional: bool,
    /// For each scanned operand, then for each scanned result: whether its slices go from the last to the first. Shorter is forward.
    pub backward: Vec<bool>,
}

impl Loop {
    /// Operands and results that are scanned, by the inputs and outputs of the body.
    pub fn n_scanned_results(&self) -> usize {
        self.body.outputs().len().saturating_sub(self.n_states)
    }

    /// Whether scanned operand or result number `i` goes backward.
    pub fn is_backward(&self, i: usize) -> bool {
        self.backward.get(i).copied().unwrap_or(false)
    }

    /// How often it runs at most, as far as constants and types say.
    ///
    /// # Errors
    /// If they contradict each other.
    pub fn trips(&self, operands: &[Option<Fact>]) -> Result<Option<usize>, InferError> {
        let mut trips = match operands.first() {
            Some(Some(Fact { value: Some(t), .. })) => Some(usize::try_from(one_int(t)?.max(0)).unwrap_or(usize::MAX)),
            Some(Some(_)) if self.n_scanned > 0 => return Err(InferError::NotConstant { operand: 0 }),
            _ => None,
        };
        for i in 0..self.n_scanned {
            let ty = operand(operands, 1 + self.n_states + i)?;
            let Some(first) = ty.shape.0.first() else {
                return Err(InferError::Invalid(format!("scanned operand {i} is a scalar")));
            };
            let Some(n) = first.fixed() else {
                return Err(InferError::UnboundDimension { operand: 1 + self.n_states + i, ty: ty.clone() });
            };
            match trips {
                Some(trips) if trips != n => return Err(InferError::Invalid(format!("{trips} iterations over {n} slices"))),
                _ => trips = Some(n),
            }
        }
        Ok(trips)
    }

    fn infer(&self, operands: &[Option<Fact>]) -> Result<Vec<Type>, InferError> {
        let (n_states, n_scanned) = (self.n_states, self.n_scanned);
        let n = operands.len();
        if n < 1 + n_states + n_scanned || self.body.inputs().len() != n || self.body.outputs().len() < n_states {
            let (inputs, outputs) = (self.body.inputs().len(), self.body.outputs().len());
            return Err(InferError::Invalid(format!("{n} operands for a body of {inputs} inputs and {outputs} outputs")));
        }
        if let Some(Some(trip)) = operands.first() {
            one(&trip.ty, DType::I64, "the number of iterations")?;
        }
        if self.conditional && n_states == 0 {
            return Err(InferError::Invalid("a condition is a state".to_owned()));
        }
        let trips = self.trips(operands)?;
        let inputs: Vec<&Type> = self.body.inputs().iter().map(|&v| self.body.ty(v)).collect();
        let outputs: Vec<&Type> = self.body.outputs().iter().map(|&v| self.body.ty(v)).collect();
        one(inputs[0], DType::I64, "the number of the iteration")?;
        if self.conditional {
            one(inputs[1], DType::Bool, "the condition")?;
        }
        for (i, &input) in inputs.iter().enumerate().skip(1) {
            let ty = operand(operands, i)?;
            let is_slice = (1 + n_states..1 + n_states + n_scanned).contains(&i);
            let wanted = if is_slice { ty.with_dims(ty.shape.0.iter().skip(1).cloned()) } else { ty.clone() };
            if *input != wanted {
                let name = self.body.name_of(self.body.inputs()[i]);
                return Err(InferError::Invalid(format!("input `{name}` of the body is `{input}`, and gets `{wanted}`")));
            }
        }
        for i in 0..n_states {
            if outputs[i] != inputs[1 + i] {
                let name = self.body.name_of(self.body.inputs()[1 + i]);
                return Err(InferError::Unsupported(format!("state `{name}` changes from `{}` to `{}`", inputs[1 + i], outputs[i])));
            }
        }
        let mut results: Vec<Type> = outputs[..n_states].iter().map(|&ty| ty.clone()).collect();
        for ty in &outputs[n_states..] {
            let trips = match trips {
                Some(trips) if !self.conditional => trips,
                _ => return Err(InferError::Unsupported("the number of iterations, which decides an extent, depends on data".to_owned())),
            };
            let dims = std::iter::once(trips.into()).chain(ty.shape.0.iter().cloned());
            results.push(Type::new(ty.dtype, Shape(dims.collect())));
        }
        Ok(results)
    }

    fn eval(&self, operands: &[Option<Tensor>]) -> Result<Vec<Tensor>, EvalError> {
        let (n_states, n_scanned) = (self.n_states, self.n_scanned);
        let value = |i: usize| operands[i].clone().expect("an operand with a value");
        let mut states: Vec<Tensor> = (1..=n_states).map(value).collect();
        let scanned: Vec<Tensor> = (1 + n_states..1 + n_states + n_scanned).map(value).collect();
        let captured: Vec<Tensor> = (1 + n_states + n_scanned..operands.len()).map(value).collect();
        let mut trips = operands[0].as_ref().map(|t| t.to_ints()[0].max(0) as usize);
        if let Some(first) = scanned.first() {
            trips = Some(first.dims()[0]);
        }
        let slice_types: Vec<Type> = self.body.outputs()[n_states..].iter().map(|&v| self.body.ty(v).clone()).collect();
        let mut slices: Vec<Vec<Tensor>> = vec![vec![]; slice_types.len()];
        let mut i = 0;
        while trips.is_none_or(|n| i < n) && !(self.conditional && states[0].to_ints()[0] == 0) {
            let mut inputs = vec![Tensor::scalar(i as i64)];
            inputs.extend(states.iter().cloned());
            for (k, t) in scanned.iter().enumerate() {
                inputs.push(slice(t, if self.is_backward(k) { t.dims()[0] - 1 - i } else { i }));
            }
            inputs.extend(captured.iter().cloned());
            let mut outputs = eval(&self.body, &inputs)?;
            for (list, t) in slices.iter_mut().zip(outputs.drain(n_states..)) {
                list.push(t);
            }
            states = outputs;
            i += 1;
        }
        for (k, mut list) in slices.into_iter().enumerate() {
            if self.is_backward(n_scanned + k) {
                list.reverse();
            }
            states.push(stack(&slice_types[k], &list));
        }
        Ok(states)
    }
}

impl Branches {
    fn infer(&self, operands: &[Option<Fact>]) -> Result<Vec<Type>, InferError> {
        one(operand(operands, 0)?, DType::Bool, "the condition")?;
        let (yes, no) = (&self.then_branch, &self.else_branch);
        for branch in [yes, no] {
            if branch.inputs().len() + 1 != operands.len() {
                return Err(InferError::Invalid(format!("{} operands for a branch of {} inputs", operands.len(), branch.inputs().len())));
            }
            for (i, &v) in branch.inputs().iter().enumerate() {
                let ty = operand(operands, i + 1)?;
                if branch.ty(v) != ty {
                    let name = branch.name_of(v);
                    return Err(InferError::Invalid(format!("input `{name}` of a branch is `{}`, and gets `{ty}`", branch.ty(v))));
                }
            }
        }
        if yes.outputs().len() != no.outputs().len() {
            return Err(InferError::Invalid(format!("branches of {} and {} outputs", yes.outputs().len(), no.outputs().len())));
        }
        for (i, (&a, &b)) in yes.outputs().iter().zip(no.outputs()).enumerate() {
            let (a, b) = (yes.ty(a), no.ty(b));
            if a != b {
                return Err(InferError::Unsupported(format!("output {i} is `{a}` in one branch and `{b}` in the other")));
            }
        }
        Ok(yes.outputs().iter().map(|&v| yes.ty(v).clone()).collect())
    }
}

impl Control {
    /// The name of the operator in text and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Control::If(_) => "if",
            Control::Loop(_) => "loop",
        }
    }

    /// The word in front of each body in text.
    pub(super) fn words(&self) -> &'static [&'static str] {
        match self {
            Control::If(_) => &["then", "else"],
            Control::Loop(_) => &["do"],
        }
    }

    /// The graphs inside, in order.
    pub fn bodies(&self) -> Vec<&Graph> {
        match self {
            Control::If(b) => vec![&b.then_branch, &b.else_branch],
            Control::Loop(l) => vec![&l.body],
        }
    }

    /// The graphs inside, to be changed: inputs and outputs keep their types.
    pub fn bodies_mut(&mut self) -> Vec<&mut Graph> {
        match self {
            Control::If(b) => vec![&mut b.then_branch, &mut b.else_branch],
            Control::Loop(l) => vec![&mut l.body],
        }
    }

    /// The operand that stands for input 0 of the bodies, and the first one that is captured: handed to bodies as it is.
    pub fn first_operands(&self) -> (usize, usize) {
        match self {
            Control::If(_) => (1, 1),
            Control::Loop(l) => (0, 1 + l.n_states + l.n_scanned),
        }
    }

    /// Types of the results.
    ///
    /// # Errors
    /// Where operands, bodies and results do not fit together.
    pub fn infer(&self, operands: &[Option<Fact>]) -> Result<Vec<Type>, InferError> {
        match self {
            Control::If(b) => b.infer(operands),
            Control::Loop(l) => l.infer(operands),
        }
    }

    /// The results for these operands.
    ///
    /// # Errors
    /// Those of the bodies.
    pub fn eval(&self, operands: &[Option<Tensor>]) -> Result<Vec<Tensor>, EvalError> {
        match self {
            Control::Loop(l) => l.eval(operands),
            Control::If(b) => {
                let mut values = operands.iter().map(|t| t.clone().expect("an operand with a value"));
                let condition = values.next().expect("a condition").to_ints()[0] != 0;
                let inputs: Vec<Tensor> = values.collect();
                eval(if condition { &b.then_branch } else { &b.else_branch }, &inputs)
            }
        }
    }
}

/// Type of an operand that must be there.
fn operand(operands: &[Option<Fact>], i: usize) -> Result<&Type, InferError> {
    operands.get(i).and_then(Option::as_ref).map(|f| &f.ty).ok_or(InferError::MissingOperand { operand: i })
}

/// Fails unless a type is one element of `dtype`.
fn one(ty: &Type, dtype: DType, what: &str) -> Result<(), InferError> {
    let is_one = ty.dims().is_some_and(|d| d.iter().product::<usize>() == 1);
    if is_one && ty.dtype == dtype { Ok(()) } else { Err(InferError::Invalid(format!("{what} is `{ty}`, not one `{dtype}`"))) }
}

fn one_int(t: &Tensor) -> Result<i64, InferError> {
    one(&t.ty(), DType::I64, "the number of iterations")?;
    i64::try_from(t.to_ints()[0]).map_err(|_| InferError::Invalid("too many iterations".to_owned()))
}

/// Slice `i` along axis 0.
fn slice(t: &Tensor, i: usize) -> Tensor {
    let dims = &t.dims()[1..];
    let bytes = dims.iter().product::<usize>() * t.dtype().size_bytes();
    Tensor::from_bytes(t.dtype(), dims, &t.bytes()[i * bytes..][..bytes])
}

/// Slices of a type as one tensor.
fn stack(ty: &Type, slices: &[Tensor]) -> Tensor {
    let dims: Vec<usize> = std::iter::once(slices.len()).chain(ty.dims().unwrap_or_default()).collect();
    let bytes: Vec<u8> = slices.iter().flat_map(|t| t.bytes().iter().copied()).collect();
    Tensor::from_bytes(ty.dtype, &dims, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{blobs, parse, parse_with, print, verify};

    const LOOP: &str = "graph @g(%n: i64[], %x: f32[2], %w: f32[3,2]) -> (%y, %z, %s) {
      %y = loop(%n, %x) states=1 do graph @power(%i: i64[], %s: f32[2]) -> (%t) {
        %t = Add(%s, %s)
      }
      %z, %s = loop(_, %x, %w, %y) states=1 scanned=1 backward=[1,0] : f32[2], f32[3,2] do graph @sums(%i: i64[], %s: f32[2], %e: f32[2], %y: f32[2]) -> (%t, %u) {
        %t = Add(%s, %e)
        %u = Mul(%t, %y)
      }
    }";

    fn round_trip(text: &str) -> String {
        let graph = parse(text).unwrap();
        verify(&graph).unwrap();
        let printed = print(&graph);
        assert_eq!(print(&parse_with(&printed, &blobs(&graph)).unwrap()), printed);
        printed
    }

    #[test]
    fn loops_print_parse_and_run() {
        insta::assert_snapshot!(round_trip(LOOP));
        let graph = parse(LOOP).unwrap();
        let w = Tensor::from_slice(&[3, 2], &[1f32, 2.0, 10.0, 20.0, 100.0, 200.0]);
        let out = eval(&graph, &[Tensor::scalar(3i64), Tensor::from_slice(&[2], &[1f32, -1.0]), w]).unwrap();
        assert_eq!(out[0], Tensor::from_slice(&[2], &[8f32, -8.0]));
        assert_eq!(out[1], Tensor::from_slice(&[2], &[112f32, 221.0]));
        let products = [8f32 * 101.0, -8.0 * 199.0, 8.0 * 111.0, -8.0 * 219.0, 8.0 * 112.0, -8.0 * 221.0];
        assert_eq!(out[2], Tensor::from_slice(&[3, 2], &products));
    }

    #[test]
    fn branches_print_parse_and_run() {
        let text = "graph @g(%c: bool[1], %x: f32[2]) -> (%y) {
          %y = if(%c, %x) then graph @yes(%x: f32[2]) -> (%y) {
            @k = const rand(3) : f32[9,2]
            %m = ReduceMax(%x) keepdims=1
            %y = Sub(%x, %m)
          } else graph @no(%x: f32[2]) -> (%x as y) {
          }
        }";
        insta::assert_snapshot!(round_trip(text));
        let graph = parse(text).unwrap();
        let x = Tensor::from_slice(&[2], &[1f32, 4.0]);
        let run = |c: bool| eval(&graph, &[Tensor::from_bools(&[1], [c]), x.clone()]).unwrap().remove(0);
        assert_eq!(run(false), x);
        assert_eq!(run(true), Tensor::from_slice(&[2], &[-3f32, 0.0]));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let wrong = |text: &str| match parse(text) {
            Err(e) => e.to_string(),
            Ok(g) => verify(&g).unwrap_err()[0].message.clone(),
        };
        let state = "graph @g(%n: i64[], %x: f32[2]) -> (%y) {
          %y = loop(%n, %x) states=1 do graph @b(%i: i64[], %s: f32[2]) -> (%t) {
            %t = Concat(%s, %s) axis=0
          }
        }";
        assert_eq!(wrong(state), "line 2: state `s` changes from `f32[2]` to `f32[4]`");
        let output = "graph @g(%n: i64[], %x: f32[2]) -> (%y) {
          %y = loop(%n, %x) do graph @b(%i: i64[], %x: f32[2]) -> (%x) {
          }
        }";
        assert_eq!(wrong(output), "line 2: the number of iterations, which decides an extent, depends on data");
        let branches = "graph @g(%c: bool[], %x: f32[2]) -> (%y) {
          %y = if(%c, %x) then graph @b(%x: f32[2]) -> (%x) {
          } else graph @b(%x: f32[2]) -> (%y) {
            %y = Concat(%x, %z)
          }
        }";
        assert_eq!(wrong(branches), "line 4: `z` is not defined above");
        assert_eq!(
            wrong(&branches.replace("%z", "%x) axis=(0").replace("(0)", "0")),
            "line 2: output 0 is `f32[2]` in one branch and `f32[4]` in the other"
        );
    }
}
