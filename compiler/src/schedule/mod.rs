//! *How* a program is computed: tensor expressions to one nest, by templates chosen from the shape of each stage.
//!
//! In: a program, where its tensors live (storage, offset, strides), the constants' values, the machine.
//! Out: a kernel, its argument table, and the scratch it needs. Imports `tensor`, `expr`, `nest`.

mod across;
mod ahead;
mod arg;
mod blocks;
mod borders;
mod by_taps;
mod channels;
mod choice;
mod contract;
mod cost;
mod dot;
mod emitter;
mod halves;
mod in_result;
mod inner_product;
mod machine;
mod map;
mod pack;
mod places_of_data;
mod prepare;
mod reduce;
mod relaid;
mod results_ahead;
mod rows_ahead;
mod scatter;
mod sliding;
mod stages;
mod summed;
mod window;
mod winograd;

pub use choice::{Choice, Forms, Order};
pub use cost::Tile;
pub use machine::{Convolution, Dot, Machine, Shuffles};

use crate::expr::{Body, Expr, Item, Node, Program, Stage, TensorId};
use crate::nest::Kernel;
use crate::tensor::{DType, Size, Tensor, n_elements, reshape_strides};
use emitter::{Emitter, Slot};

/// The largest scratch of which every thread may have a copy.
pub const MAX_PRIVATE_BYTES: usize = 1 << 20;

/// A contiguous piece of memory that values live in: an arena block, an input, an output.
#[derive(Clone, PartialEq, Debug)]
pub struct Storage {
    /// Number that tells it from others.
    pub id: usize,
    /// Name in the kernel's text.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: usize,
}

/// Where a tensor lives: strides and offset in elements.
#[derive(Clone, PartialEq, Debug)]
pub struct Memory {
    /// The storage.
    pub storage: Storage,
    /// First element.
    pub offset: i64,
    /// One stride for each axis.
    pub strides: Vec<i64>,
}

/// Where an operand comes from.
#[derive(Clone, PartialEq, Debug)]
pub enum Source {
    /// Memory.
    Memory(Memory),
    /// A constant, which is laid out here as the kernel likes it.
    Constant(Tensor),
    /// A constant that stays row-major, because another kernel reads it so and a second copy would be too large: the operand's
    /// element at `i` is at `offset + sum(i * strides)`.
    RowMajor {
        /// The constant.
        value: Tensor,
        /// First element.
        offset: i64,
        /// One stride for each axis of the operand.
        strides: Vec<i64>,
    },
}

/// One entry of a kernel's argument table.
#[derive(Clone, PartialEq, Debug)]
pub enum Arg {
    /// The storage of this number.
    Storage(usize),
    /// The caller's input of this number.
    Input(usize),
    /// The caller's output of this number.
    Output(usize),
    /// Scratch of so many bytes, for the time of the call.
    Scratch(usize),
    /// Read-only data.
    Constant(Tensor),
}

/// A kernel and what it is called with.
#[derive(Clone, PartialEq, Debug)]
pub struct Scheduled {
    /// The kernel; `kernel.buffers` are in the order of `args`.
    pub kernel: Kernel,
    /// The argument table.
    pub args: Vec<Arg>,
    /// What `kernel.sizes` are.
    pub sizes: Vec<Size>,
    /// What else could be chosen for it.
    pub forms: Forms,
}

/// Why a program has no nest.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(pub String);

impl From<crate::nest::math::Unsupported> for ScheduleError {
    fn from(e: crate::nest::math::Unsupported) -> Self {
        ScheduleError(e.to_string())
    }
}

/// Makes the nest of a program. `operands` and `results` are in program order; results never alias operands, except that
/// an element-wise result may be in place.
///
/// # Errors
/// What the templates cannot express, such as transcendental functions of `f64`.
pub fn schedule(
    name: &str,
    program: &Program,
    operands: Vec<Source>,
    results: Vec<Memory>,
    machine: &Machine,
) -> Result<Scheduled, ScheduleError> {
    let slides = crate::expr::sliding(program).filter(|_| machine.in_blocks);
    let nested = if slides.is_some() { None } else { stages::nest_stages(program, &operands, &results, machine) };
    let (program, row_major) = nested.as_ref().map_or((program, &[][..]), |n| (&n.program, &n.row_major[..]));
    let mut e = Emitter::new(name, program, machine);
    if let Some(n) = &nested {
        e.forms.rows.clone_from(&n.other_rows);
    }
    for (&t, source) in program.operands.iter().zip(operands) {
        match source {
            Source::Memory(m) => e.bind_memory(t, &m),
            Source::Constant(value) => e.slots[t.0 as usize] = Some(Slot::Constant(value)),
            Source::RowMajor { value, offset, strides } => {
                let buffer = e.new_constant("shared", value);
                e.slots[t.0 as usize] = Some(Slot::Memory { buffer, offset, strides });
            }
        }
    }
    for (t, value) in &program.constants {
        e.slots[t.0 as usize] = Some(Slot::Constant(value.clone()));
    }
    for (&t, memory) in program.results.iter().zip(&results) {
        if !program.operands.contains(&t) {
            e.bind_memory(t, memory);
        }
    }
    for &t in row_major {
        e.ensure_memory(t, None);
    }
    adopt_results(&mut e, program)?;
    if !slides.map_or(Ok(false), |s| sliding::emit(&mut e, &s))? {
        schedule_items(&mut e, &program.items)?;
    }
    for (&t, memory) in program.results.iter().zip(&results) {
        e.deliver(t, memory)?;
    }
    Ok(e.finish())
}

fn schedule_items(e: &mut Emitter, items: &[Item]) -> Result<(), ScheduleError> {
    let mut left = items;
    while let [item, rest @ ..] = left {
        left = rest;
        match item {
            Item::Stage(stage) => {
                if let [Item::Stage(next), rest @ ..] = rest
                    && summed::emit(e, stage, next)?
                {
                    left = rest;
                } else {
                    schedule_stage(e, stage)?;
                }
            }
            Item::Reshape { out, input } => reshape(e, *out, *input)?,
            Item::Repeat { var, extent, live, items } => {
                allocate_written(e, items);
                e.repeat(*var, *extent, live.as_ref(), |e| schedule_items(e, items))?;
            }
        }
    }
    Ok(())
}

/// Tensors that a loop writes outlive its iterations: they get their scratch before it.
fn allocate_written(e: &mut Emitter, items: &[Item]) {
    for item in items {
        match item {
            Item::Stage(stage) => {
                let order = prepare::preferred_order(e, stage).filter(|_| matches!(stage.body, Body::Map(_)));
                e.ensure_memory(stage.out, order);
            }
            Item::Reshape { .. } => {}
            Item::Repeat { items, .. } => allocate_written(e, items),
        }
    }
}

fn schedule_stage(e: &mut Emitter, stage: &Stage) -> Result<(), ScheduleError> {
    if n_elements(&stage.axes) == 0 {
        e.ensure_memory(stage.out, None);
        return Ok(());
    }
    if let Some(axis) = (0..stage.axes.len() + stage.reduce.len()).find(|&a| stage.bound(a).is_some() && stage.extent(a) == 1) {
        return schedule_one_or_none(e, stage, axis);
    }
    within_bounds(e, stage, |e| schedule_within(e, stage))
}

/// What `f` emits, of loops whose extents in a run are those of the stage.
fn within_bounds<T>(e: &mut Emitter, stage: &Stage, f: impl FnOnce(&mut Emitter) -> T) -> T {
    let around = std::mem::replace(&mut e.bounds, stage.bounds.clone());
    let done = f(e);
    e.bounds = around;
    done
}

/// A stage that along an axis has one element or none, as only a run knows: templates have no loops along axes of one element.
fn schedule_one_or_none(e: &mut Emitter, stage: &Stage, axis: usize) -> Result<(), ScheduleError> {
    let mut one = stage.clone();
    let Some(there) = one.bounds[axis].take() else { return schedule_stage(e, stage) };
    if e.span(&there) == Some((1, 1)) {
        return schedule_stage(e, &one);
    }
    e.ensure_memory(stage.out, prepare::preferred_order(e, stage));
    let mut none = None;
    if let Body::Reduce { op, value, finish } = &stage.body
        && axis >= stage.axes.len()
    {
        let nothing = Expr::new(Node::Const(reduce::identity(*op, value.dtype())), value.dtype());
        let bounds = stage.bounds[..stage.axes.len()].to_vec();
        none = Some(Stage { reduce: vec![], bounds, body: Body::Map(finish.with_acc(&nothing)), ..stage.clone() });
    }
    let there = e.size(&there, 1);
    e.branch((there, 1, 2), |e| schedule_stage(e, &one), |e| none.map_or(Ok(()), |none| schedule_stage(e, &none)))
}

fn schedule_within(e: &mut Emitter, stage: &Stage) -> Result<(), ScheduleError> {
    if let Some(wide) = halves::widened(e, stage)? {
        return schedule_within(e, &wide);
    }
    if winograd::emit(e, stage)? || by_taps::emit(e, stage)? || relaid::emit(e, stage)? || places_of_data::emit(e, stage)? {
        return Ok(());
    }
    let stage = prepare::prepare(e, stage)?;
    e.ensure_memory(stage.out, prepare::preferred_order(e, &stage));
    match &stage.body {
        Body::Map(value) => map::emit(e, &stage, value),
        Body::Reduce { op, value, finish } => reduce::emit(e, &stage, *op, value, finish),
        Body::Arg { op, value, last } => arg::emit(e, &stage, *op, value, *last),
        Body::Scatter { .. } => scatter::emit(e, &stage),
    }
}

/// What a result is made of by a reshape is computed where the result belongs, if its strides allow it.
fn adopt_results(e: &mut Emitter, program: &Program) -> Result<(), ScheduleError> {
    for item in &program.items {
        let Item::Reshape { out, input } = item else { continue };
        if let Some(Slot::Memory { buffer, offset, strides }) = e.slots[out.0 as usize].clone()
            && e.slots[input.0 as usize].is_none()
            && let Some(strides) = reshape_strides(&program.tensor(*out).dims, &strides, &program.tensor(*input).dims)
        {
            e.alias(*input, Slot::Memory { buffer, offset, strides })?;
        }
    }
    Ok(())
}

/// Makes `out` the same memory as `input` under other extents, copying first where the strides do not allow it.
fn reshape(e: &mut Emitter, out: TensorId, input: TensorId) -> Result<(), ScheduleError> {
    let dims = e.program().tensors[out.0 as usize].dims.clone();
    let from = e.program().tensors[input.0 as usize].dims.clone();
    if let Some(Slot::Constant(t)) = &e.slots[input.0 as usize] {
        let slot = Slot::Constant(t.reshape(&dims));
        return e.alias(out, slot);
    }
    e.ensure_memory(input, None);
    if let Some(Slot::Memory { buffer, offset, strides }) = e.slots[out.0 as usize].clone()
        && let Some(strides) = reshape_strides(&dims, &strides, &from)
    {
        // A result: written where it belongs, under the extents of what it is made of.
        let slot = Slot::Memory { buffer, offset, strides };
        return if e.slots[input.0 as usize].as_ref() == Some(&slot) { Ok(()) } else { e.copy_to_slot(input, slot) };
    }
    if let Some(Slot::Memory { buffer, offset, strides }) = e.slots[input.0 as usize].clone()
        && let Some(strides) = reshape_strides(&from, &strides, &dims)
    {
        return e.alias(out, Slot::Memory { buffer, offset, strides });
    }
    let dense = e.dense_copy(input)?;
    let Slot::Memory { buffer, offset, strides } = dense else { unreachable!("a copy is in memory") };
    let strides = reshape_strides(&from, &strides, &dims).expect("dense memory takes any extents");
    e.alias(out, Slot::Memory { buffer, offset, strides })
}
