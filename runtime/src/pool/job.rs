//! How threads share the work of a loop: what the caller and the workers do, on the primitives of `super::sync`.
//!
//! One word, `claim`, holds the number of the job and which of its shares nobody has taken: taking one is a
//! compare-and-swap, which fails where the job has changed, so that a worker that comes late cannot take part in the wrong
//! job. The caller takes shares too, and a share whose worker sleeps too long is the caller's: waking is never waited for.
//!
//! Share `i` is for thread `i`, the caller being thread 0: what a loop of a model writes, the same thread reads in the next one,
//! from its own core's cache. Others take it if a thread sleeps, else after a moment.

use core::ffi::c_void;

use super::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence, futex_wait, futex_wake, pause};

/// What does one share of a job.
pub(super) type Body = extern "C" fn(data: *mut c_void, i: u32);

/// Looks that a thread gives the others, if none sleeps, to begin their shares before it takes one: about a microsecond.
const PATIENCE: u32 = 64;

/// What has a cache line of its own.
#[repr(align(64))]
struct Line<T>(T);

/// The memory that the threads of a pool share: a line that the caller writes for a job, and one for its end.
pub(super) struct Shared {
    job: Line<Job>,
    end: Line<End>,
    /// Whether a job is under way.
    busy: Line<AtomicU32>,
    stop: AtomicU32,
    /// How often to look before sleeping.
    spins: u32,
}

struct Job {
    body: AtomicPtr<c_void>,
    data: AtomicPtr<c_void>,
    n: AtomicU32,
    /// Number of the job, and below it the shares that are not taken: a bit for each, or how many where they are more than bits.
    claim: AtomicU64,
    /// Changes whenever workers have something to do; what they sleep on.
    epoch: AtomicU32,
    sleepers: AtomicU32,
}

struct End {
    /// Shares that are not done.
    pending: AtomicU32,
    /// Whether the caller sleeps until `pending` is zero.
    caller_sleeps: AtomicU32,
}

/// Which of the shares that are left a thread takes, and what is left then.
fn choose(n: u32, left: u32, thread: u32) -> (u32, u32) {
    if n > u32::BITS {
        return (left - 1, left - 1);
    }
    let share = if is_left(left, thread) { thread } else { left.ilog2() };
    (share, left & !(1 << share))
}

/// Whether a share is left, of those that have bits.
fn is_left(left: u32, share: u32) -> bool {
    share < u32::BITS && left >> share & 1 != 0
}

impl Shared {
    pub(super) fn new(spins: u32) -> Self {
        let job = Job {
            body: AtomicPtr::new(core::ptr::null_mut()),
            data: AtomicPtr::new(core::ptr::null_mut()),
            n: AtomicU32::new(0),
            claim: AtomicU64::new(0),
            epoch: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
        };
        let end = End { pending: AtomicU32::new(0), caller_sleeps: AtomicU32::new(0) };
        Shared { job: Line(job), end: Line(end), busy: Line(AtomicU32::new(0)), stop: AtomicU32::new(0), spins }
    }

    /// Calls `body(data, i)` once for every `i` in `0..n`, with the help of workers unless they are at another job.
    pub(super) fn run(&self, n: u32, body: Body, data: *mut c_void) {
        if n < 2 || self.busy.0.swap(1, Ordering::Acquire) != 0 {
            for i in 0..n {
                body(data, i);
            }
            return;
        }
        let Job { claim, epoch, sleepers, .. } = &self.job.0;
        self.end.0.pending.store(n, Ordering::Relaxed);
        self.job.0.body.store(body as *mut c_void, Ordering::Relaxed);
        self.job.0.data.store(data, Ordering::Relaxed);
        self.job.0.n.store(n, Ordering::Relaxed);
        let number = (claim.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        let shares = if n > u32::BITS { n } else { u32::MAX >> (u32::BITS - n) };
        claim.store(number << 32 | u64::from(shares), Ordering::Release);
        epoch.fetch_add(1, Ordering::Release);
        // A worker counts itself a sleeper before it looks for work: one of both sees the other.
        fence(Ordering::SeqCst);
        if sleepers.load(Ordering::Relaxed) != 0 {
            futex_wake(epoch, n - 1);
        }
        self.do_shares(0);
        self.wait_for_others();
        self.busy.0.store(0, Ordering::Release);
    }

    fn wait_for_others(&self) {
        let End { pending, caller_sleeps } = &self.end.0;
        for _ in 0..self.spins {
            if pending.load(Ordering::Acquire) == 0 {
                return;
            }
            pause();
        }
        caller_sleeps.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        loop {
            let left = pending.load(Ordering::Acquire);
            if left == 0 {
                break;
            }
            futex_wait(pending, left);
        }
        caller_sleeps.store(0, Ordering::Relaxed);
    }

    /// Takes shares and does them until there are none: first the thread's own.
    fn do_shares(&self, thread: u32) {
        let mut patience = self.spins.min(PATIENCE);
        loop {
            let claim = self.job.0.claim.load(Ordering::Acquire);
            let left = claim as u32;
            if left == 0 {
                return;
            }
            // These belong to the job if the exchange succeeds: while it has shares, nobody writes them.
            let Job { body, data, n, sleepers, .. } = &self.job.0;
            let (body, data, n) = (body.load(Ordering::Relaxed), data.load(Ordering::Relaxed), n.load(Ordering::Relaxed));
            let all_awake = sleepers.load(Ordering::Relaxed) == 0;
            if n <= u32::BITS && patience > 0 && all_awake && !is_left(left, thread) {
                patience -= 1;
                pause();
                continue;
            }
            let (share, after) = choose(n, left, thread);
            let after = claim >> 32 << 32 | u64::from(after);
            if self.job.0.claim.compare_exchange(claim, after, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                // SAFETY: `run` stored a function of this type.
                let body = unsafe { core::mem::transmute::<*mut c_void, Body>(body) };
                body(data, share);
                self.is_done();
            }
        }
    }

    /// Counts a share as done; the last one ends the job.
    fn is_done(&self) {
        let End { pending, caller_sleeps } = &self.end.0;
        if pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            fence(Ordering::SeqCst);
            if caller_sleeps.load(Ordering::Relaxed) != 0 {
                futex_wake(pending, 1);
            }
        }
    }

    fn has_work(&self) -> bool {
        self.job.0.claim.load(Ordering::Acquire) as u32 != 0 || self.stop.load(Ordering::Acquire) != 0
    }

    /// What worker `thread`, from 1, does until the pool stops.
    pub(super) fn work(&self, thread: u32) {
        let Job { epoch, sleepers, .. } = &self.job.0;
        loop {
            self.do_shares(thread);
            if self.stop.load(Ordering::Acquire) != 0 {
                return;
            }
            let mut spins = 0;
            while spins < self.spins && !self.has_work() {
                pause();
                spins += 1;
            }
            if spins < self.spins {
                continue;
            }
            let seen = epoch.load(Ordering::Acquire);
            sleepers.fetch_add(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if !self.has_work() {
                futex_wait(epoch, seen);
            }
            sleepers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets workers return.
    pub(super) fn stop(&self) {
        self.stop.store(1, Ordering::Release);
        self.job.0.epoch.fetch_add(1, Ordering::Release);
        futex_wake(&self.job.0.epoch, u32::MAX >> 1);
    }
}
