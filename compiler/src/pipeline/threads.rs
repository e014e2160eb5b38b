//! Which loops of the kernels run on several threads.

use super::Options;
use crate::codegen::program::{Place, Program};
use crate::codegen::{Machine, linear};
use crate::nest::parallel::{mark, pieces, serial, stays_parallel};
use crate::nest::{Access, Buffer, BufferId, Kernel};
use crate::schedule::{Arg, MAX_PRIVATE_BYTES, Scheduled};

/// Marks the loops of a kernel that are worth more than one thread; scratch becomes private where that is small.
pub(super) fn spread(scheduled: &mut Scheduled, options: Options, machine: &Machine, is_wide: bool) {
    let Options { threads: workers, thread_work, .. } = options;
    if workers < 2 {
        return;
    }
    let args = &scheduled.args;
    let private = |id: BufferId, b: &Buffer| {
        matches!(args[id.0 as usize], Arg::Scratch(bytes) if bytes <= MAX_PRIVATE_BYTES) && b.access == Access::ReadWrite
    };
    let mut kernel = scheduled.kernel.clone();
    mark(&mut kernel, thread_work.saturating_mul(2), private);
    if kernel == scheduled.kernel {
        return;
    }
    let takes = |k: &Kernel| linear::check(machine, k).is_ok();
    // What the wide emitter took whole it must take in pieces.
    if is_wide && !pieces(&kernel).iter().all(|p| takes(&p.kernel)) && takes(&scheduled.kernel) {
        return;
    }
    scheduled.kernel = kernel;
    for (arg, buffer) in scheduled.args.iter_mut().zip(&scheduled.kernel.buffers) {
        if let (Arg::Scratch(bytes), true) = (arg, buffer.private) {
            *bytes = buffer.total_bytes(workers).unwrap_or(*bytes);
        }
    }
}

/// A kernel as it may run with its buffers in these places: one result may lie where an operand was.
pub(super) fn placed(program: &Program, kernel: Kernel, args: &[Place]) -> Kernel {
    let mut same = vec![];
    for (i, (a, at)) in kernel.buffers.iter().zip(args).enumerate() {
        for (j, (b, bt)) in kernel.buffers.iter().zip(args).enumerate().take(i) {
            if a.access == Access::Read && b.access == Access::Read {
                continue;
            }
            let bytes = |x: &Buffer| x.total_bytes(program.workers).unwrap_or(usize::MAX);
            let overlap = match (at, bt) {
                (Place::Arena(s), Place::Arena(t)) => *s < t.saturating_add(bytes(b)) && *t < s.saturating_add(bytes(a)),
                (Place::Input(n, _), Place::Input(m, _))
                | (Place::Output(n, _), Place::Output(m, _))
                | (Place::Pointer(n, _), Place::Pointer(m, _)) => n == m,
                _ => false,
            };
            if overlap {
                same.push((BufferId(j as u32), BufferId(i as u32), at == bt));
            }
        }
    }
    if same.is_empty() || stays_parallel(&kernel, &same) { kernel } else { serial(&kernel) }
}
