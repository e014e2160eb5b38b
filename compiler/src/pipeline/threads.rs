//! Which loops of the kernels run on several threads.

use super::Options;
use crate::codegen::program::{Place, Program};
use crate::codegen::{Machine, linear};
use crate::nest::coverage::loads_and_stores_end;
use crate::nest::interchange::interchange;
use crate::nest::moves::without_own_moves;
use crate::nest::parallel::{mark, serial, stays_parallel};
use crate::nest::pieces::{Piece, pieces};
use crate::nest::work::work;
use crate::nest::{Access, Buffer, BufferId, Kernel, Live};
use crate::schedule::{Arg, MAX_PRIVATE_BYTES, Scheduled};
use crate::tensor::{Parameter, Size};

/// Marks the loops of a kernel that are worth more than one thread; scratch becomes private where that is small.
pub(super) fn spread(scheduled: &mut Scheduled, parameters: &[Parameter], options: Options, machine: &Machine, is_wide: bool) {
    let Options { threads: workers, thread_work, .. } = options;
    if workers < 2 {
        return;
    }
    let args = &scheduled.args;
    let private = |id: BufferId, b: &Buffer| {
        matches!(args[id.0 as usize], Arg::Scratch(bytes) if bytes <= MAX_PRIVATE_BYTES) && b.access == Access::ReadWrite
    };
    let mut kernel = scheduled.kernel.clone();
    let least = |live: &Live| {
        let ([], &[(var, 1)]) = (&live.from.terms[..], &live.to.terms[..]) else { return None };
        let at = scheduled.kernel.sizes.iter().position(|s| s.var == var)?;
        Some(scheduled.sizes[at].range(parameters).0 + live.to.constant - live.from.constant)
    };
    bound_sizes(&mut kernel, &scheduled.sizes, parameters);
    interchange(&mut kernel, least, workers, thread_work.saturating_mul(2), private);
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

/// Says of sizes up to which scratch is read that they are no more than one up to which it is written, where that is so in every run.
fn bound_sizes(kernel: &mut Kernel, sizes: &[Size], parameters: &[Parameter]) {
    for (read, written) in loads_and_stores_end(kernel) {
        let at = |var| kernel.sizes.iter().position(|s| s.var == var);
        let (Some(a), Some(b)) = (at(read), at(written)) else { continue };
        let is_never_more = || sizes[a].minus(&sizes[b]).span(parameters).is_some_and(|(_, most)| most <= 0);
        if kernel.sizes[a].most.is_none() && kernel.sizes[a].high <= kernel.sizes[b].high && is_never_more() {
            kernel.sizes[a].most = Some(written);
        }
    }
}

/// Work, in what is worth a thread, from which a loop gains from two whatever is around it.
const LARGE: u64 = 4;

/// The work that is worth a thread in a program: more where most of it is in loops that are hardly worth two. What such a loop gains,
/// the steps after it lose, which find what it wrote in the other core's cache. Loops that take turns pass little on.
pub(super) fn worth_of_a_thread(program: &Program, thread_work: u64) -> u64 {
    let (mut all, mut large) = (0u64, 0u64);
    for kernel in program.steps.iter().map(|s| &program.kernels[s.kernel]) {
        for joined in pieces(kernel).chunk_by(|_, next| next.joined) {
            // A piece that takes turns on one thread is the loop with all its iterations.
            let one = |p: &Piece| match &p.spread {
                Some(spread) => spread.work,
                None => p.kernel.body.iter().fold(0u64, |sum, s| sum.saturating_add(work(&p.kernel, s))),
            };
            let at_once = joined.iter().map(one).fold(0u64, u64::saturating_add);
            let turns = joined[0].turn.filter(|_| joined[0].spread.is_some());
            let total = at_once.saturating_mul(turns.map_or(1, |t| t.n()));
            all = all.saturating_add(total);
            let least = thread_work.saturating_mul(if turns.is_some() { 2 } else { LARGE });
            if joined.iter().all(|p| p.spread.is_some()) && at_once >= least {
                large = large.saturating_add(total);
            }
        }
    }
    if large < all / 2 { thread_work.saturating_mul(LARGE) } else { thread_work }
}

/// A kernel as it may run with its buffers in these places: one result may lie where an operand was, and what stays there is not moved.
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
    let kernel = without_own_moves(kernel, &same);
    if same.is_empty() || stays_parallel(&kernel, &same) { kernel } else { serial(&kernel) }
}

#[cfg(test)]
mod tests {
    use super::worth_of_a_thread;
    use crate::codegen::program::{Program, Step};
    use crate::nest::{Access, Affine, BinaryOp, Builder};
    use crate::tensor::DType;

    /// A program of kernels that each double so many numbers, in a parallel loop.
    fn program(lengths: &[usize]) -> Program {
        let mut program = Program::default();
        for (kernel, &n) in lengths.iter().enumerate() {
            let mut b = Builder::new(format!("k{kernel}"), "");
            let x = b.buffer("x", DType::F32, n, Access::ReadWrite);
            b.par_loop("i", 0..n as i64, 1, |b, i| {
                let place = Affine::var(i);
                let value = b.load(x, place.clone(), 1);
                let twice = b.binary(BinaryOp::Add, value, value);
                b.store(x, place, twice);
            });
            program.kernels.push(b.finish());
            program.steps.push(Step { label: String::new(), kernel, args: vec![], sizes: vec![] });
        }
        program
    }

    #[test]
    fn small_loops_are_worth_a_thread_only_beside_large_ones() {
        assert_eq!(worth_of_a_thread(&program(&[500; 9]), 1000), 4000);
        assert_eq!(worth_of_a_thread(&program(&[2000, 90_000, 2000]), 100_000), 100_000);
        assert_eq!(worth_of_a_thread(&program(&[500, 90_000, 500]), 1000), 1000);
        assert_eq!(worth_of_a_thread(&program(&[500, 500]), 1000), 4000);
        assert_eq!(worth_of_a_thread(&program(&[500]), 0), 0);
    }
}
