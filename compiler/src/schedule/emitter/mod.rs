//! Builds one kernel: its buffers and arguments, where the tensors of the program are, loops.

mod places;
mod positions;
mod run;
mod shuffles;
mod streams;
mod values;

pub(in crate::schedule) use run::{Rest, Run, halves};
pub(in crate::schedule) use values::{
    coefficient, expr_depends, fits_lanes, index_depends, is_float_lane, is_heavy, is_word, long_ok, place_alone, stride_along, vector_ok,
};

use std::collections::HashMap;

use crate::expr::Affine as StageAffine;
use crate::expr::{BinaryOp, Body, CompareOp, Expr, Ix, LiveRows, Node, Program, Stage, TensorId, UnaryOp, Var};
use crate::nest::{self, Access, Affine, BufferId, Index, Reg, Stmt, for_each_access};
use crate::schedule::choice::Forms;
use crate::schedule::machine::Machine;
use crate::schedule::prepare::SharedCopy;
use crate::schedule::{Arg, Memory, ScheduleError, Scheduled};
use crate::tensor::{DType, Size, Tensor, dense_strides, n_elements};

/// Where a tensor of the program is while its nest is built.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::schedule) enum Slot {
    /// In a buffer of the kernel.
    Memory {
        /// The buffer.
        buffer: BufferId,
        /// First element.
        offset: i64,
        /// Strides in elements.
        strides: Vec<i64>,
    },
    /// A constant that no buffer holds yet.
    Constant(Tensor),
}

/// The stage's axes as affine forms of loop variables; one of them may be spread over lanes.
#[derive(Clone, Debug)]
pub(in crate::schedule) struct Point {
    /// By axis of the stage.
    pub(in crate::schedule) axes: Vec<Affine>,
    /// The axis spread over lanes.
    pub(in crate::schedule) vector: Option<Lanes>,
}

/// An axis spread over the lanes of a vector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::schedule) struct Lanes {
    /// The axis.
    pub(in crate::schedule) axis: usize,
    /// Number of lanes.
    pub(in crate::schedule) lanes: u32,
    /// How many of them exist; the others hold anything and are not stored.
    pub(in crate::schedule) valid: u32,
}

/// Where along a row the first lane of a vector is, of which elements before the row and behind it are padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Inside {
    place: i64,
    /// Elements of the row.
    end: i64,
    /// Elements from one lane to the next.
    spread: i64,
    /// What is read elsewhere.
    pad: Reg,
}

/// The steps of a reduction that read elements at some outputs along an axis: those that move the read from the output's place by at
/// least, and at most, so much. The others read padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::schedule) struct Window {
    /// The output axis.
    pub(in crate::schedule) axis: usize,
    /// The least offset that reads an element.
    pub(in crate::schedule) least: i64,
    /// The greatest.
    pub(in crate::schedule) most: i64,
}

impl Point {
    /// The point at another place along an axis.
    pub(in crate::schedule) fn moved(&self, axis: usize, place: Affine) -> Point {
        let mut point = self.clone();
        point.axes[axis] = place;
        point
    }

    /// One lane of the point.
    pub(in crate::schedule) fn lane(&self, lane: u32) -> Point {
        let mut point = self.clone();
        if let Some(v) = point.vector.take() {
            point.axes[v.axis].constant += i64::from(lane);
        }
        point
    }
}

/// A load that reads a packed constant: `buffer[address(point)]`, unit stride along its axis. Where lanes are along that axis they are
/// loaded, else one element for all of them: panels are then of the rows of a tile.
#[derive(Clone, Debug)]
pub(in crate::schedule) struct Packed {
    pub(in crate::schedule) buffer: BufferId,
    /// Columns in a panel.
    pub(in crate::schedule) nr: i64,
    /// Steps of the reduction that are adjacent, for each column.
    pub(in crate::schedule) group: i64,
    /// Elements of one panel.
    pub(in crate::schedule) panel: i64,
    /// Panels before the last, narrower one, if there is such a one.
    pub(in crate::schedule) full: i64,
    /// The axis of its panels.
    pub(in crate::schedule) axis: usize,
    /// Where along that axis the first panel begins.
    pub(in crate::schedule) origin: Affine,
    /// Strides of the other axes it depends on, in full panels and in the last.
    pub(in crate::schedule) strides: Vec<(usize, i64, i64)>,
}

impl Packed {
    /// The first element that it holds of a point.
    pub(in crate::schedule) fn place(&self, at: &Point) -> Affine {
        let place = at.axes[self.axis].plus(&self.origin.times(-1));
        // Full panels lie `panel` apart; loop variables of the axis step in whole panels.
        let (panels, lane) = (place.constant.div_euclid(self.nr), place.constant.rem_euclid(self.nr));
        let base = Affine { constant: 0, terms: place.terms.clone() };
        let first = base.times(self.panel / self.nr).offset(panels * self.panel + lane * self.group);
        let is_last = place.terms.is_empty() && panels == self.full;
        let stride = |full: i64, in_last: i64| if is_last { in_last } else { full };
        self.strides.iter().fold(first, |sum, &(axis, full, in_last)| sum.plus(&at.axes[axis].times(stride(full, in_last))))
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Key {
    Const(DType, u32, u64),
    Index(Affine),
    Load(BufferId, Index, u32),
    Lanes(BufferId, Index, i64, u32),
    Partly(BufferId, Affine, Lanes, Inside),
    Gather(BufferId, Index, Reg),
    Steps(i64, u32),
    Splat(Reg, u32),
    Unary(UnaryOp, Reg),
    Binary(BinaryOp, Reg, Reg),
    Compare(CompareOp, Reg, Reg),
    Select(Reg, Reg, Reg),
    Cast(Reg, DType),
    Bits(Reg, DType),
    Check(Reg, i64),
    Clamp(Reg, i64),
}

/// Builds one kernel.
pub(in crate::schedule) struct Emitter {
    pub(in crate::schedule) b: nest::Builder,
    pub(in crate::schedule) machine: Machine,
    pub(in crate::schedule) slots: Vec<Option<Slot>>,
    /// Loads of the current stage that read packed constants.
    pub(in crate::schedule) packed: HashMap<Expr, Packed>,
    /// Copies with padding that stages share.
    pub(in crate::schedule) padded: Vec<SharedCopy>,
    /// The buffers of [`Emitter::tile_buffer`], their types and lengths.
    tiles: Vec<(BufferId, DType, usize)>,
    program: Program,
    args: Vec<Arg>,
    schedules: Vec<String>,
    /// What of the machine's choice the kernel depends on so far.
    pub(in crate::schedule) forms: Forms,
    loops: HashMap<u32, Affine>,
    ranges: HashMap<nest::Var, (i64, i64)>,
    /// The least and the greatest values of sums of variables in the branches that are open.
    facts: Vec<(Affine, i64, i64)>,
    scopes: Vec<HashMap<Key, Reg>>,
    known_places: places::KnownPlaces,
    /// The extents of the current stage that only a run knows.
    pub(in crate::schedule) bounds: Vec<Option<Size>>,
    /// Which steps along an output axis read elements, while a part of that axis is emitted.
    pub(in crate::schedule) windows: Vec<Window>,
    sizes: Vec<(Size, i64, nest::Var)>,
    storages: HashMap<usize, BufferId>,
    constants: HashMap<TensorId, BufferId>,
    name: String,
}

impl Emitter {
    pub(in crate::schedule) fn new(name: &str, program: &Program, machine: &Machine) -> Self {
        Emitter {
            b: nest::Builder::new(name, ""),
            machine: *machine,
            slots: vec![None; program.tensors.len()],
            packed: HashMap::new(),
            padded: vec![],
            tiles: vec![],
            program: program.clone(),
            args: vec![],
            schedules: vec![],
            forms: Forms::default(),
            loops: HashMap::new(),
            ranges: HashMap::new(),
            facts: vec![],
            scopes: vec![HashMap::new()],
            known_places: places::KnownPlaces::default(),
            bounds: vec![],
            windows: vec![],
            sizes: vec![],
            storages: HashMap::new(),
            constants: HashMap::new(),
            name: name.to_owned(),
        }
    }

    pub(in crate::schedule) fn program(&self) -> &Program {
        &self.program
    }

    pub(in crate::schedule) fn dims(&self, t: TensorId) -> &[usize] {
        &self.program.tensors[t.0 as usize].dims
    }

    /// Adds a line to the kernel's schedule text.
    pub(in crate::schedule) fn note(&mut self, schedule: String) {
        if !self.schedules.contains(&schedule) {
            self.schedules.push(schedule);
        }
    }

    fn buffer(&mut self, name: &str, dtype: DType, len: usize, arg: Arg) -> BufferId {
        let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let name = format!("{}{}", if clean.starts_with(|c: char| c.is_ascii_digit()) || clean.is_empty() { "b" } else { "" }, clean);
        self.args.push(arg);
        let name = format!("{name}.{}", self.args.len() - 1);
        self.b.buffer(name, dtype, len, Access::Read)
    }

    pub(in crate::schedule) fn bind_memory(&mut self, t: TensorId, m: &Memory) {
        let buffer = match self.storages.get(&m.storage.id) {
            Some(&buffer) => buffer,
            None => {
                let buffer = self.buffer(&m.storage.name, m.storage.dtype, m.storage.len, Arg::Storage(m.storage.id));
                self.storages.insert(m.storage.id, buffer);
                buffer
            }
        };
        self.slots[t.0 as usize] = Some(Slot::Memory { buffer, offset: m.offset, strides: m.strides.clone() });
    }

    /// A new tensor in scratch, dense in the given physical order.
    pub(in crate::schedule) fn scratch(&mut self, name: &str, dtype: DType, dims: &[usize], order: &[usize]) -> TensorId {
        self.program.tensors.push(crate::expr::TensorDecl { name: name.to_owned(), dtype, dims: dims.to_vec(), bounds: vec![] });
        let id = TensorId(self.program.tensors.len() as u32 - 1);
        let len = n_elements(dims);
        let buffer = self.buffer(name, dtype, len, Arg::Scratch(len * dtype.size_bytes()));
        self.slots.push(Some(Slot::Memory { buffer, offset: 0, strides: dense_strides(dims, order) }));
        id
    }

    /// Gives a tensor the extents of one run.
    pub(in crate::schedule) fn bound_tensor(&mut self, t: TensorId, bounds: Vec<Option<Size>>) {
        self.program.tensors[t.0 as usize].bounds = bounds;
    }

    /// A new buffer of so many `f32`.
    pub(in crate::schedule) fn scratch_buffer(&mut self, name: &str, len: usize) -> BufferId {
        self.buffer(name, DType::F32, len, Arg::Scratch(len * DType::F32.size_bytes()))
    }

    /// Whether what is emitted runs several times: a sequential loop, or one that stages share, is open.
    pub(in crate::schedule) fn is_repeated(&self) -> bool {
        !self.loops.is_empty()
    }

    /// Whether what is emitted is in no loop and no branch: it runs in every run, before all that follows.
    pub(in crate::schedule) fn is_outermost(&self) -> bool {
        self.scopes.len() == 1
    }

    /// A buffer of so many elements for the sums of one tile, the same for all tiles.
    pub(in crate::schedule) fn tile_buffer(&mut self, dtype: DType, len: usize) -> BufferId {
        if let Some(&(buffer, ..)) = self.tiles.iter().find(|t| t.1 == dtype && t.2 >= len) {
            return buffer;
        }
        let buffer = self.buffer("tile", dtype, len, Arg::Scratch(len * dtype.size_bytes()));
        self.tiles.push((buffer, dtype, len));
        buffer
    }

    /// A new tensor in scratch, with strides that may leave gaps; the greatest comes first.
    pub(in crate::schedule) fn strided_scratch(&mut self, name: &str, dtype: DType, dims: &[usize], strides: &[i64]) -> TensorId {
        self.program.tensors.push(crate::expr::TensorDecl { name: name.to_owned(), dtype, dims: dims.to_vec(), bounds: vec![] });
        let len = dims[0] * strides[0] as usize;
        let buffer = self.buffer(name, dtype, len, Arg::Scratch(len * dtype.size_bytes()));
        self.slots.push(Some(Slot::Memory { buffer, offset: 0, strides: strides.to_vec() }));
        TensorId(self.program.tensors.len() as u32 - 1)
    }

    /// A new tensor that is a constant.
    pub(in crate::schedule) fn constant_tensor(&mut self, name: &str, value: Tensor) -> TensorId {
        self.program.tensors.push(crate::expr::TensorDecl {
            name: name.to_owned(),
            dtype: value.dtype(),
            dims: value.dims().to_vec(),
            bounds: vec![],
        });
        self.slots.push(Some(Slot::Constant(value)));
        TensorId(self.program.tensors.len() as u32 - 1)
    }

    /// Gives a tensor scratch if it has no place yet, in the given physical order or row-major.
    pub(in crate::schedule) fn ensure_memory(&mut self, t: TensorId, order: Option<Vec<usize>>) {
        if self.slots[t.0 as usize].is_some() {
            return;
        }
        let decl = self.program.tensors[t.0 as usize].clone();
        let order = order.unwrap_or_else(|| (0..decl.dims.len()).collect());
        let len = n_elements(&decl.dims);
        let buffer = self.buffer(&decl.name, decl.dtype, len, Arg::Scratch(len * decl.dtype.size_bytes()));
        self.slots[t.0 as usize] = Some(Slot::Memory { buffer, offset: 0, strides: dense_strides(&decl.dims, &order) });
    }

    /// Puts `t` where `slot` is; a result that has its own place is copied there.
    pub(in crate::schedule) fn alias(&mut self, t: TensorId, slot: Slot) -> Result<(), ScheduleError> {
        if self.slots[t.0 as usize].is_none() {
            self.slots[t.0 as usize] = Some(slot);
            return Ok(());
        }
        let decl = self.program.tensors[t.0 as usize].clone();
        self.program.tensors.push(decl.clone());
        self.slots.push(Some(slot));
        let source = TensorId(self.program.tensors.len() as u32 - 1);
        self.copy(source, t, &decl.dims)
    }

    /// Copies a tensor to where `slot` is.
    pub(in crate::schedule) fn copy_to_slot(&mut self, from: TensorId, slot: Slot) -> Result<(), ScheduleError> {
        let decl = self.program.tensors[from.0 as usize].clone();
        self.program.tensors.push(decl.clone());
        self.slots.push(Some(slot));
        let to = TensorId(self.program.tensors.len() as u32 - 1);
        self.copy(from, to, &decl.dims)
    }

    /// Copies between tensors of the same extents.
    pub(in crate::schedule) fn copy(&mut self, from: TensorId, to: TensorId, dims: &[usize]) -> Result<(), ScheduleError> {
        let at: Vec<StageAffine> = (0..dims.len()).map(|i| StageAffine::var(Var::Axis(i as u32))).collect();
        let dtype = self.program.tensors[from.0 as usize].dtype;
        let value = Expr::new(Node::Load { tensor: from, index: at.iter().map(Ix::from).collect(), pad: None }, dtype);
        let bounds = self.program.tensors[from.0 as usize].bounds.clone();
        let stage = Stage { out: to, write: at, axes: dims.to_vec(), reduce: vec![], bounds, body: Body::Map(value.clone()) };
        super::schedule_stage(self, &stage)
    }

    /// A row-major copy of `t` in scratch.
    pub(in crate::schedule) fn dense_copy(&mut self, t: TensorId) -> Result<Slot, ScheduleError> {
        let decl = self.program.tensors[t.0 as usize].clone();
        let order: Vec<usize> = (0..decl.dims.len()).collect();
        let copy = self.scratch(&format!("{}_dense", decl.name), decl.dtype, &decl.dims, &order);
        self.copy(t, copy, &decl.dims)?;
        Ok(self.slots[copy.0 as usize].clone().expect("scratch has a place"))
    }

    /// Makes sure that result `t` is at `memory`, copying if it is an operand or an alias.
    pub(in crate::schedule) fn deliver(&mut self, t: TensorId, memory: &Memory) -> Result<(), ScheduleError> {
        let decl = self.program.tensors[t.0 as usize].clone();
        let target = self.storages.get(&memory.storage.id).copied();
        if let (Some(Slot::Memory { buffer, offset, strides }), Some(target)) = (&self.slots[t.0 as usize], target)
            && *buffer == target
            && *offset == memory.offset
            && *strides == memory.strides
        {
            return Ok(());
        }
        self.program.tensors.push(decl.clone());
        self.slots.push(None);
        let copy = TensorId(self.program.tensors.len() as u32 - 1);
        self.bind_memory(copy, memory);
        self.copy(t, copy, &decl.dims)
    }

    /// The raw row-major buffer of a constant.
    fn constant_buffer(&mut self, t: TensorId, value: &Tensor) -> BufferId {
        if let Some(&buffer) = self.constants.get(&t) {
            return buffer;
        }
        let name = self.program.tensors[t.0 as usize].name.clone();
        let buffer = self.buffer(&name, value.dtype(), value.len(), Arg::Constant(value.clone()));
        self.constants.insert(t, buffer);
        buffer
    }

    /// A buffer for a constant made while scheduling.
    pub(in crate::schedule) fn new_constant(&mut self, name: &str, value: Tensor) -> BufferId {
        self.buffer(name, value.dtype(), value.len(), Arg::Constant(value))
    }

    /// Buffer, offset and strides of a tensor; constants get a buffer.
    pub(in crate::schedule) fn memory_of(&mut self, t: TensorId) -> (BufferId, i64, Vec<i64>) {
        match self.slots[t.0 as usize].clone() {
            Some(Slot::Memory { buffer, offset, strides }) => (buffer, offset, strides),
            Some(Slot::Constant(value)) => {
                let buffer = self.constant_buffer(t, &value);
                (buffer, 0, dense_strides(value.dims(), &(0..value.dims().len()).collect::<Vec<_>>()))
            }
            None => {
                self.ensure_memory(t, None);
                self.memory_of(t)
            }
        }
    }

    /// Strides of a tensor without giving it a buffer; row-major for constants and tensors without place.
    pub(in crate::schedule) fn strides_of(&self, t: TensorId) -> Vec<i64> {
        match &self.slots[t.0 as usize] {
            Some(Slot::Memory { strides, .. }) => strides.clone(),
            _ => {
                let dims = self.dims(t);
                dense_strides(dims, &(0..dims.len()).collect::<Vec<_>>())
            }
        }
    }

    /// Whether a tensor is a constant, wherever it lies.
    pub(in crate::schedule) fn is_constant(&self, t: TensorId) -> bool {
        match &self.slots[t.0 as usize] {
            Some(Slot::Constant(_)) => true,
            Some(Slot::Memory { buffer, .. }) => matches!(self.args[buffer.0 as usize], Arg::Constant(_)),
            None => false,
        }
    }

    /// The value of a constant that may be laid out anew.
    pub(in crate::schedule) fn packable_constant(&self, t: TensorId) -> Option<&Tensor> {
        match &self.slots[t.0 as usize] {
            Some(Slot::Constant(value)) => Some(value),
            _ => None,
        }
    }

    /// `for name in 0..extent step step`; nothing for an empty range. The values that the body numbered are forgotten after it.
    pub(in crate::schedule) fn for_loop(
        &mut self,
        name: &str,
        range: std::ops::Range<i64>,
        step: i64,
        f: impl FnOnce(&mut Self, Affine) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        if range.is_empty() {
            return Ok(());
        }
        if range.end - range.start == step {
            // One iteration: the variable is a constant.
            return f(self, Affine::constant(range.start));
        }
        self.looped(name, range, step, None, |e, var| f(e, Affine::var(var)))
    }

    /// A loop of the nest, of one iteration too, around what `f` emits.
    fn looped(
        &mut self,
        name: &str,
        range: std::ops::Range<i64>,
        step: i64,
        live: Option<nest::Live>,
        f: impl FnOnce(&mut Self, nest::Var) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        let ends = (range.start, range.end - step);
        let mut result = Ok(());
        let mut b = std::mem::replace(&mut self.b, nest::Builder::new("", ""));
        let body = |b: &mut nest::Builder, var: nest::Var| {
            self.ranges.insert(var, ends);
            result = self.inside(b, |e| f(e, var));
        };
        match live {
            None => b.for_loop(name, range, step, body),
            Some(live) => b.live_loop(name, range, step, live, body),
        }
        self.b = b;
        result
    }

    /// A loop over what [`Rest::take`] gave.
    pub(in crate::schedule) fn run_loop(
        &mut self,
        name: &str,
        run: &Run,
        f: impl FnOnce(&mut Self, Affine) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        let Some((from, to)) = &run.live else { return self.for_loop(name, run.range.clone(), run.step, f) };
        let (start, end) = (run.range.start, run.range.end);
        if end - start < run.step {
            return Ok(());
        }
        let live = nest::Live { from: self.size(from, end), to: self.size(to, end) };
        self.looped(name, start..end, run.step, Some(live), |e, var| f(e, Affine::var(var)))
    }

    /// A size, at most `high`.
    pub(in crate::schedule) fn size(&mut self, size: &Size, high: i64) -> Affine {
        if let Some(c) = size.constant() {
            return Affine::constant(c);
        }
        if let Some(known) = self.sizes.iter().find(|s| s.0 == *size && s.1 == high) {
            return Affine::var(known.2);
        }
        let var = self.b.size("n", high);
        self.ranges.insert(var, (0, high));
        self.sizes.push((size.clone(), high, var));
        Affine::var(var)
    }

    /// The least and the greatest value of a size, as far as the ranges of its parameters are known.
    pub(in crate::schedule) fn span(&self, size: &Size) -> Option<(i64, i64)> {
        size.span(&self.program.parameters)
    }

    /// What `f` emits where these steps along an axis read elements.
    pub(in crate::schedule) fn in_window<T>(&mut self, window: Window, f: impl FnOnce(&mut Self) -> T) -> T {
        self.windows.push(window);
        let done = f(self);
        self.windows.pop();
        done
    }

    /// The extent of a stage's axis in one run, where it is less than all of it in some.
    pub(in crate::schedule) fn bound(&self, axis: usize) -> Option<&Size> {
        self.bounds.get(axis).and_then(Option::as_ref)
    }

    /// The whole of a stage's axis, to be run through in parts.
    pub(in crate::schedule) fn whole(stage: &Stage, axis: usize) -> Rest {
        Rest::new(stage.extent(axis) as i64, stage.bound(axis))
    }

    /// What `f` emits goes to `b`; what it numbers is forgotten after it.
    fn inside(&mut self, b: &mut nest::Builder, f: impl FnOnce(&mut Self) -> Result<(), ScheduleError>) -> Result<(), ScheduleError> {
        std::mem::swap(b, &mut self.b);
        let result = self.forgetting(f);
        std::mem::swap(b, &mut self.b);
        result
    }

    /// `if low <= affine < high`, which is known of the affine form in the first branch. What the branches number is forgotten after them.
    pub(in crate::schedule) fn branch(
        &mut self,
        (affine, low, high): (Affine, i64, i64),
        then: impl FnOnce(&mut Self) -> Result<(), ScheduleError>,
        otherwise: impl FnOnce(&mut Self) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        self.facts.push((affine.clone(), low, high - 1));
        let then = self.block(then);
        self.facts.pop();
        let (then, otherwise) = (then?, self.block(otherwise)?);
        self.b.push(Stmt::If { cond: nest::Cond::Within(vec![(affine, low, high)]), then, otherwise });
        Ok(())
    }

    /// What `f` emits where the register is true, and nothing elsewhere.
    pub(in crate::schedule) fn only_where(
        &mut self,
        condition: Reg,
        f: impl FnOnce(&mut Self) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        let then = self.block(f)?;
        self.b.push(Stmt::If { cond: nest::Cond::Reg(condition), then, otherwise: vec![] });
        Ok(())
    }

    /// One loop over an axis of several parts, `cuts` being their ends: each part is a branch, in which the variable is known to be in it.
    /// Threads share such a loop as they could not share one for each part.
    pub(in crate::schedule) fn parts_loop(
        &mut self,
        name: &str,
        cuts: &[i64],
        f: &mut dyn FnMut(&mut Self, Affine) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        self.looped(name, cuts[0]..cuts[cuts.len() - 1], 1, None, |e, var| e.parts(var, cuts, f))
    }

    fn parts(
        &mut self,
        var: nest::Var,
        cuts: &[i64],
        f: &mut dyn FnMut(&mut Self, Affine) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        let (low, high) = (cuts[0], cuts[1]);
        let around = self.ranges.insert(var, (low, high - 1)).expect("an open loop");
        let result = if cuts.len() == 2 {
            f(self, Affine::var(var))
        } else {
            let then = self.block(|e| f(e, Affine::var(var)))?;
            let otherwise = self.block(|e| e.parts(var, &cuts[1..], f))?;
            self.b.push(Stmt::If { cond: nest::Cond::Within(vec![(Affine::var(var), low, high)]), then, otherwise });
            Ok(())
        };
        self.ranges.insert(var, around);
        result
    }

    fn block(&mut self, f: impl FnOnce(&mut Self) -> Result<(), ScheduleError>) -> Result<Vec<Stmt>, ScheduleError> {
        let mut result = Ok(());
        let mut b = std::mem::replace(&mut self.b, nest::Builder::new("", ""));
        let block = b.block(|b| result = self.inside(b, f));
        self.b = b;
        result.map(|()| block)
    }

    /// Forgets after `f` what it numbered, so that registers do not keep it.
    pub(in crate::schedule) fn forgetting(&mut self, f: impl FnOnce(&mut Self) -> Result<(), ScheduleError>) -> Result<(), ScheduleError> {
        self.scopes.push(HashMap::new());
        let result = f(self);
        self.scopes.pop();
        result
    }

    /// The items of a sequential loop.
    pub(in crate::schedule) fn repeat(
        &mut self,
        var: u32,
        extent: usize,
        live: Option<&LiveRows>,
        f: impl FnOnce(&mut Self) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError> {
        if extent == 0 {
            return Ok(());
        }
        if let Some(live) = live {
            let run = Run { range: 0..extent as i64, step: live.step, live: Some((live.from.clone(), live.to.clone())) };
            return self.run_loop(&format!("t{var}"), &run, |e, v| {
                e.loops.insert(var, v);
                f(e)
            });
        }
        if extent == 1 {
            self.loops.insert(var, Affine::constant(0));
            return f(self);
        }
        self.looped(&format!("t{var}"), 0..extent as i64, 1, None, |e, v| {
            e.loops.insert(var, Affine::var(v));
            f(e)
        })
    }

    /// The kernel and its arguments.
    pub(in crate::schedule) fn finish(self) -> Scheduled {
        let mut kernel = self.b.finish();
        kernel.name = self.name;
        kernel.schedule = if self.schedules.is_empty() { "empty".to_owned() } else { self.schedules.join(" ") };
        let (mut read, mut written) = (vec![false; kernel.buffers.len()], vec![false; kernel.buffers.len()]);
        for_each_access(&kernel.body, &mut |buffer, _, stored| (if stored { &mut written } else { &mut read })[buffer.0 as usize] = true);
        for (i, buffer) in kernel.buffers.iter_mut().enumerate() {
            buffer.access = match (read[i], written[i]) {
                (true, true) => Access::ReadWrite,
                (false, true) => Access::Write,
                _ => Access::Read,
            };
        }
        Scheduled { kernel, args: self.args, sizes: self.sizes.into_iter().map(|s| s.0).collect(), forms: self.forms }
    }
}
