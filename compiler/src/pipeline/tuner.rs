//! The choice of emitter and form for each kernel.

use std::collections::HashMap;

use tinsmith_targets::{Arch, Feature};

use super::Options;
use super::tune::{self, Tunable, Tuned};
use crate::codegen::clif::Probe;
use crate::codegen::program::Emitter;
use crate::codegen::{Machine, linear, wide};
use crate::config::Goal;
use crate::diagnostic::{Diagnostic, Severity};
use crate::expr;
use crate::graph::Graph;
use crate::schedule::{self, Choice, Dot, Memory, ScheduleError, Scheduled, Source, schedule};

/// Kernels of more stages take their first form: the others would cost more to make than they gain.
const MAX_TUNED_STAGES: usize = 16;
/// What [`Probe::spills`] gives for one stack access in a deepest loop.
const DEEPEST_SPILL: u64 = 64;

/// So few registers are only counted on where there are no more.
const LEAST_REGISTERS: usize = 8;
/// The last that is tried: what needs many registers for other things than sums.
const SCALAR_REGISTERS: usize = 5;

/// Weights of so many second-level caches stay in the last-level cache beside what else a run reads.
const WEIGHTS_THAT_STAY: usize = 2;

/// What schedules for the emitter of instructions are made for, the best first: a schedule that needs too many registers is followed by
/// one that counts on fewer, and blocks of stages by stages one after the other.
fn wide_machines(machine: &Machine) -> Vec<schedule::Machine> {
    let (target, base) = (&machine.target, schedule::Machine::from(&machine.target));
    let all = target.n_vector_registers as usize;
    let fewer = |all: usize| {
        let some = [all, all / 4 * 3, all / 2].into_iter().filter(move |&n| n > LEAST_REGISTERS || n == all);
        some.clone().map(|n| (n, true)).chain(some.map(|n| (n, false))).chain([(SCALAR_REGISTERS, true)])
    };
    if target.arch == Arch::Aarch64 {
        let of = |(n, in_blocks)| schedule::Machine { by_element: true, in_blocks, ..base.widened(4, n) };
        return fewer(all).map(of).collect();
    }
    let Some(isa) = wide::Isa::of(machine) else { return vec![] };
    let dot = if isa == wide::Isa::V4 && machine.target.has(Feature::Avx512vnni) { Dot::Quads } else { Dot::Pairs };
    let all = if isa == wide::Isa::V4 { all } else { all.min(16) };
    fewer(all).map(|(n, in_blocks)| schedule::Machine { dot, in_blocks, ..base.widened(isa.lanes(), n) }).collect()
}

/// Schedules kernels: for wide vectors where the wide emitter takes them, else choosing among the forms of a contraction by
/// how its registers come out.
pub(super) struct Tuner<'a> {
    probe: Probe,
    target: Machine,
    /// What the wide emitter is offered, the first that it takes.
    wide: Vec<schedule::Machine>,
    /// Whether it must take everything.
    only_wide: bool,
    machine: schedule::Machine,
    /// What matters more, speed or size.
    pub(super) goal: Goal,
    /// The choice made for each kernel, by its first form without names.
    known: HashMap<String, Choice>,
    tuned: &'a Tuned,
    /// Kernels that measuring could make faster, where they are asked for.
    pub(super) tunable: Option<Vec<Tunable>>,
}

/// Whether a kernel has other forms of sums that are worth a look.
fn has_forms(program: &expr::Program, scheduled: &Scheduled) -> bool {
    (scheduled.forms.tiles || scheduled.forms.windows) && program.items.len() <= MAX_TUNED_STAGES
}

impl<'a> Tuner<'a> {
    pub(super) fn new(graph: &Graph, machine: &Machine, options: Options, tuned: &'a Tuned) -> Result<Self, Vec<Diagnostic>> {
        let Options { emitter, convolution, goal, threads, .. } = options;
        let unsupported = |message: String| vec![Diagnostic::new("unsupported-target", Severity::Unsupported, "", message)];
        let probe = Probe::new(machine).map_err(|e| unsupported(e.to_string()))?;
        let weight_bytes: usize = graph.order().into_iter().filter_map(|n| graph.node(n).constant()).map(|t| t.bytes().len()).sum();
        let weights_stay = weight_bytes <= (WEIGHTS_THAT_STAY * machine.target.l2_bytes).min(machine.target.l3_bytes / 2);
        let halves_stay = goal == Goal::Size;
        let convolving = |m: schedule::Machine| schedule::Machine { convolution, threads, weights_stay, halves_stay, ..m };
        let wide = if emitter == Emitter::Clif { vec![] } else { wide_machines(machine).into_iter().map(convolving).collect() };
        if emitter == Emitter::Wide && wide.is_empty() {
            return Err(unsupported(format!("{machine} is below x86-64-v2, which the wide emitter needs")));
        }
        Ok(Tuner {
            probe,
            target: machine.clone(),
            wide,
            only_wide: emitter == Emitter::Wide,
            machine: convolving(schedule::Machine::from(&machine.target)),
            goal,
            known: HashMap::new(),
            tuned,
            tunable: None,
        })
    }

    /// Lanes of 32 bits in the widest vectors that there is an emitter for.
    pub(super) fn lanes(&self) -> i64 {
        self.wide.first().map_or(4, |m| m.lanes).into()
    }

    pub(super) fn schedule(
        &mut self,
        name: &str,
        program: &expr::Program,
        operands: Vec<Source>,
        results: Vec<Memory>,
    ) -> Result<Scheduled, ScheduleError> {
        let mut refused = None;
        for machine in self.wide.iter().filter(|m| m.in_blocks || crate::expr::sliding(program).is_some()) {
            let scheduled = schedule(name, program, operands.clone(), results.clone(), machine)?;
            match linear::check(&self.target, &scheduled.kernel) {
                Ok(()) => return self.tune(name, program, (operands, results), *machine, scheduled),
                Err(reason) => refused = Some(reason),
            }
        }
        if let (Some(reason), true) = (refused, self.only_wide) {
            return Err(ScheduleError(format!("the wide emitter refuses its kernel: {reason}")));
        }
        let scheduled = self.schedule_clif(name, program, operands.clone(), results.clone())?;
        self.tune(name, program, (operands, results), self.machine, scheduled)
    }

    /// The form of a kernel that was measured to be best, in place of the model's.
    fn tune(
        &mut self,
        name: &str,
        program: &expr::Program,
        (operands, results): (Vec<Source>, Vec<Memory>),
        machine: schedule::Machine,
        scheduled: Scheduled,
    ) -> Result<Scheduled, ScheduleError> {
        let idle = self.tuned.is_empty() && self.tunable.is_none();
        if idle || !scheduled.sizes.is_empty() {
            return Ok(scheduled);
        }
        let is_small = program.items.len() <= MAX_TUNED_STAGES;
        if machine.other_choices(&scheduled.forms).is_empty() || !is_small && scheduled.forms.convolutions.is_empty() {
            return Ok(scheduled);
        }
        let key = tune::key(&self.target, &scheduled.kernel);
        let task = Tunable { key, name: name.to_owned(), program: program.clone(), operands, results, machine, scheduled };
        if let Some(choice) = self.tuned.choice(&task.key)
            && let Some(best) = task.form(choice, &self.target)
        {
            return Ok(best);
        }
        let scheduled = task.scheduled.clone();
        if let Some(list) = &mut self.tunable {
            list.push(task);
        }
        Ok(scheduled)
    }

    fn schedule_clif(
        &mut self,
        name: &str,
        program: &expr::Program,
        operands: Vec<Source>,
        results: Vec<Memory>,
    ) -> Result<Scheduled, ScheduleError> {
        let first = schedule(name, program, operands.clone(), results.clone(), &self.machine)?;
        if !has_forms(program, &first) {
            return Ok(first);
        }
        let key = tune::nameless(&first.kernel);
        let form =
            |choice: Choice| schedule(name, program, operands.clone(), results.clone(), &schedule::Machine { choice, ..self.machine });
        if let Some(&choice) = self.known.get(&key) {
            return if choice == self.machine.choice { Ok(first) } else { form(choice) };
        }
        let spills = |s: &Scheduled| self.probe.spills(&s.kernel).unwrap_or(u64::MAX);
        let (mut best, mut best_spills, mut chosen) = (first.clone(), spills(&first), self.machine.choice);
        for choice in Choice::ALL {
            if best_spills < DEEPEST_SPILL {
                break;
            }
            if choice == self.machine.choice {
                continue;
            }
            let other = form(choice)?;
            let n = spills(&other);
            if n < best_spills {
                (best, best_spills, chosen) = (other, n, choice);
            }
        }
        self.known.insert(key, chosen);
        Ok(best)
    }
}
