//! Checks a program: names, indices, and that every buffer lies inside what it is placed in, in every iteration of every loop.

use std::collections::HashMap;

use super::CodegenError;
use super::flow::{Flow, Trips};
use super::program::{Place, Program, Step};
use crate::tensor::for_all_sizes;

impl Program {
    /// Checks that names are unique, every index exists, and every kernel's buffers lie inside what they are placed in.
    pub fn verify(&self) -> Result<(), CodegenError> {
        let fail = |what: String| Err(CodegenError::Program { what });
        for names in [self.kernels.iter().map(|k| &k.name).collect::<Vec<_>>(), self.constants.iter().map(|c| &c.name).collect()] {
            let mut seen = HashMap::new();
            for (i, name) in names.iter().enumerate() {
                if let Some(first) = seen.insert(*name, i) {
                    return fail(format!("`{name}` names both {first} and {i}"));
                }
            }
        }
        let mut pointed = vec![0; self.n_pointers];
        let mut seen = 0;
        self.verify_flow(&self.whole_flow(), &mut pointed, &mut seen)?;
        if seen != self.steps.len() {
            return fail(format!("{seen} of {} steps run", self.steps.len()));
        }
        self.verify_sizes()
    }

    /// Checks the steps of a flow; `pointed` is the size of what each pointer points to, `next` the step that must be the next one.
    fn verify_flow(&self, flow: &[Flow], pointed: &mut Vec<usize>, next: &mut usize) -> Result<(), CodegenError> {
        let fail = |what: String| Err(CodegenError::Program { what });
        for part in flow {
            match part {
                Flow::Steps(range) => {
                    if range.start != *next || range.end > self.steps.len() {
                        return fail(format!("steps {range:?} run where step {next} is due"));
                    }
                    *next = range.end;
                    for step in &self.steps[range.clone()] {
                        self.verify_step(step, pointed)?;
                    }
                }
                Flow::If(branch) => {
                    self.verify_place("a condition", branch.condition, Some(1), pointed)?;
                    for body in &branch.branches {
                        self.verify_flow(body, pointed, next)?;
                    }
                }
                Flow::Loop(l) => {
                    for state in &l.states {
                        for place in state.places.into_iter().chain([state.initial]) {
                            self.verify_place("a state", place, Some(state.bytes), pointed)?;
                        }
                        for pointer in [state.current, state.next] {
                            match pointed.get_mut(pointer) {
                                Some(bytes) => *bytes = state.bytes,
                                None => return fail(format!("there is no pointer {pointer}")),
                            }
                        }
                    }
                    match &l.trips {
                        Trips::At(place) => self.verify_place("a number of iterations", *place, Some(8), pointed)?,
                        Trips::Sized(size, most) => {
                            let of = size.parameters();
                            let known = of.iter().all(|&p| (p as usize) < self.parameters.len());
                            let few = |at: &[i64]| u64::try_from(size.value(at)).is_ok_and(|n| n <= *most);
                            if !known || for_all_sizes(&self.parameters, &of, &mut |at| few(at)) != Some(true) {
                                return fail(format!("a loop may run more than {most} times"));
                            }
                        }
                        Trips::Fixed(_) | Trips::Unbounded => {}
                    }
                    if let Some(place) = l.condition {
                        self.verify_place("a condition", place, Some(1), pointed)?;
                    }
                    if let Some(place) = l.counter {
                        self.verify_place("the number of an iteration", place, Some(8), pointed)?;
                    }
                    for slice in &l.slices {
                        let trips = match l.trips {
                            Trips::Fixed(trips) => trips,
                            // Where a run begins depends on nothing.
                            Trips::Sized(_, most) if slice.stride_bytes >= 0 => most,
                            _ => return fail("slices of a loop that ends anywhere".to_owned()),
                        };
                        let far = usize::try_from(trips.saturating_sub(1))
                            .ok()
                            .and_then(|n| n.checked_mul(slice.stride_bytes.unsigned_abs() as usize));
                        let (before, need) = match far {
                            Some(far) if slice.stride_bytes < 0 => (far, far.checked_add(slice.bytes)),
                            Some(far) => (0, far.checked_add(slice.bytes)),
                            None => (0, None),
                        };
                        let Some(first) = slice.first.minus(before) else { return fail("a slice before its buffer".to_owned()) };
                        if trips > 0 {
                            self.verify_place("slices", first, need, pointed)?;
                        }
                        match pointed.get_mut(slice.pointer) {
                            Some(bytes) => *bytes = slice.bytes,
                            None => return fail(format!("there is no pointer {}", slice.pointer)),
                        }
                    }
                    self.verify_flow(&l.body, pointed, next)?;
                    self.verify_flow(&l.exit, pointed, next)?;
                }
            }
        }
        Ok(())
    }

    fn verify_step(&self, step: &Step, pointed: &[usize]) -> Result<(), CodegenError> {
        let fail = |what: String| Err(CodegenError::Program { what });
        let Some(kernel) = self.kernels.get(step.kernel) else { return fail(format!("step `{}` calls no kernel", step.label)) };
        if kernel.buffers.len() != step.args.len() {
            return fail(format!("step `{}` passes {} of {} buffers", step.label, step.args.len(), kernel.buffers.len()));
        }
        for (buffer, &place) in kernel.buffers.iter().zip(&step.args) {
            let what = format!("step `{}`: buffer `{}`", step.label, buffer.name);
            self.verify_place(&what, place, buffer.total_bytes(self.workers), pointed)?;
        }
        Ok(())
    }

    /// Checks that so many bytes are at a place.
    fn verify_place(&self, what: &str, place: Place, need: Option<usize>, pointed: &[usize]) -> Result<(), CodegenError> {
        let (size, offset) = match place {
            Place::Arena(offset) => (Some(self.workspace_bytes), offset),
            Place::Input(i, offset) => (self.inputs.get(i).map(|b| b.bytes), offset),
            Place::Output(i, offset) => (self.outputs.get(i).map(|b| b.bytes), offset),
            Place::Constant(i, offset) => (self.constants.get(i).map(|c| c.bytes.as_slice().len()), offset),
            Place::Pointer(i, offset) => (pointed.get(i).copied(), offset),
        };
        let fits = size.zip(need).is_some_and(|(size, need)| offset.checked_add(need).is_some_and(|end| end <= size));
        if fits { Ok(()) } else { Err(CodegenError::Program { what: format!("{} does not fit at {place:?}", what) }) }
    }
}
