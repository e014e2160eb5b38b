//! How threads share the work of a loop: what the caller and the workers do, on the primitives of `super::sync`.
//!
//! One word, `claim`, holds the number of the job and how many of its shares nobody has taken: taking one is a
//! compare-and-swap, which fails where the job has changed, so that a worker that comes late cannot take part in the wrong
//! job. The caller takes shares too, and a share whose worker sleeps too long is the caller's: waking is never waited for.

use core::ffi::c_void;

use super::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence, futex_wait, futex_wake, pause};

/// What does one share of a job.
pub(super) type Body = extern "C" fn(data: *mut c_void, i: u32);

/// The memory that the threads of a pool share.
pub(super) struct Shared {
    body: AtomicPtr<c_void>,
    data: AtomicPtr<c_void>,
    /// Number of the job, and below it how many shares are not taken.
    claim: AtomicU64,
    /// Shares that are not done.
    pending: AtomicU32,
    /// Whether the caller sleeps until `pending` is zero.
    caller_sleeps: AtomicU32,
    /// Whether a job is under way.
    busy: AtomicU32,
    /// Changes whenever workers have something to do; what they sleep on.
    epoch: AtomicU32,
    sleepers: AtomicU32,
    stop: AtomicU32,
    /// How often to look before sleeping.
    spins: u32,
}

impl Shared {
    pub(super) fn new(spins: u32) -> Self {
        Shared {
            body: AtomicPtr::new(core::ptr::null_mut()),
            data: AtomicPtr::new(core::ptr::null_mut()),
            claim: AtomicU64::new(0),
            pending: AtomicU32::new(0),
            caller_sleeps: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            stop: AtomicU32::new(0),
            spins,
        }
    }

    /// Calls `body(data, i)` once for every `i` in `0..n`, with the help of workers unless they are at another job.
    pub(super) fn run(&self, n: u32, body: Body, data: *mut c_void) {
        if n < 2 || self.busy.swap(1, Ordering::Acquire) != 0 {
            for i in 0..n {
                body(data, i);
            }
            return;
        }
        self.body.store(body as *mut c_void, Ordering::Relaxed);
        self.data.store(data, Ordering::Relaxed);
        self.pending.store(n, Ordering::Relaxed);
        let job = (self.claim.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.claim.store(job << 32 | u64::from(n), Ordering::Release);
        self.epoch.fetch_add(1, Ordering::Release);
        // A worker counts itself a sleeper before it looks for work: one of both sees the other.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            futex_wake(&self.epoch, n - 1);
        }
        while self.do_share() {}
        self.wait_for_others();
        self.busy.store(0, Ordering::Release);
    }

    fn wait_for_others(&self) {
        for _ in 0..self.spins {
            if self.pending.load(Ordering::Acquire) == 0 {
                return;
            }
            pause();
        }
        self.caller_sleeps.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        loop {
            let left = self.pending.load(Ordering::Acquire);
            if left == 0 {
                break;
            }
            futex_wait(&self.pending, left);
        }
        self.caller_sleeps.store(0, Ordering::Relaxed);
    }

    /// Takes a share and does it; false where there is none.
    fn do_share(&self) -> bool {
        let mut claim = self.claim.load(Ordering::Acquire);
        loop {
            let left = claim as u32;
            if left == 0 {
                return false;
            }
            // These belong to the job if the exchange succeeds: while it has shares, nobody writes them.
            let (body, data) = (self.body.load(Ordering::Relaxed), self.data.load(Ordering::Relaxed));
            match self.claim.compare_exchange(claim, claim - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // SAFETY: `run` stored a function of this type.
                    let body = unsafe { core::mem::transmute::<*mut c_void, Body>(body) };
                    body(data, left - 1);
                    if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
                        fence(Ordering::SeqCst);
                        if self.caller_sleeps.load(Ordering::Relaxed) != 0 {
                            futex_wake(&self.pending, 1);
                        }
                    }
                    return true;
                }
                Err(now) => claim = now,
            }
        }
    }

    fn has_work(&self) -> bool {
        self.claim.load(Ordering::Acquire) as u32 != 0 || self.stop.load(Ordering::Acquire) != 0
    }

    /// What a worker does until the pool stops.
    pub(super) fn work(&self) {
        loop {
            while self.do_share() {}
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
            let epoch = self.epoch.load(Ordering::Acquire);
            self.sleepers.fetch_add(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if !self.has_work() {
                futex_wait(&self.epoch, epoch);
            }
            self.sleepers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets workers return.
    pub(super) fn stop(&self) {
        self.stop.store(1, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::Release);
        futex_wake(&self.epoch, u32::MAX >> 1);
    }
}
