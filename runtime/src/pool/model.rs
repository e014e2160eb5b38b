//! The pool under a model checker: every interleaving of a few jobs, with futexes made of a lock and a condition.

#[path = "job.rs"]
mod job;

mod sync {
    //! The primitives in loom's version.

    pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        static ref SLEEPERS: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub(super) fn futex_wait(word: &AtomicU32, value: u32) {
        let guard = SLEEPERS.0.lock().unwrap();
        if word.load(Ordering::SeqCst) == value {
            drop(SLEEPERS.1.wait(guard).unwrap());
        }
    }

    pub(super) fn futex_wake(_: &AtomicU32, _: u32) {
        drop(SLEEPERS.0.lock().unwrap());
        SLEEPERS.1.notify_all();
    }

    pub(super) fn pause() {
        loom::thread::yield_now();
    }
}

extern crate std;

use core::ffi::c_void;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use std::vec::Vec;

use self::job::Shared;

extern "C" fn count(data: *mut c_void, i: u32) {
    // SAFETY: the tests pass an array of counters that outlives the job.
    let counters = unsafe { &*data.cast::<[AtomicU32; 3]>() };
    counters[i as usize].fetch_add(1, Ordering::Relaxed);
}

fn counters() -> [AtomicU32; 3] {
    core::array::from_fn(|_| AtomicU32::new(0))
}

fn run(shared: &Shared, n: u32) {
    let mut done = counters();
    shared.run(n, count, (&raw mut done).cast());
    for (i, c) in done.iter().enumerate() {
        assert_eq!(c.load(Ordering::Relaxed), u32::from((i as u32) < n));
    }
}

fn check(spins: u32, preemptions: usize, body: fn(&Arc<Shared>)) {
    check_with(1, spins, preemptions, body);
}

fn check_with(n_workers: u32, spins: u32, preemptions: usize, body: fn(&Arc<Shared>)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let shared = Arc::new(Shared::new(spins));
        let workers: Vec<_> = (1..=n_workers)
            .map(|i| {
                let shared = shared.clone();
                thread::spawn(move || shared.work(i))
            })
            .collect();
        body(&shared);
        shared.stop();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn every_share_of_a_job_is_done_once_whoever_sleeps() {
    check(0, 3, |shared| run(shared, 2));
}

#[test]
fn a_late_worker_does_not_take_part_in_the_wrong_job() {
    check(0, 2, |shared| {
        run(shared, 2);
        run(shared, 3);
    });
}

#[test]
fn a_worker_that_spins_finds_its_job() {
    check(1, 2, |shared| run(shared, 2));
}

#[test]
fn two_workers_do_each_share_once() {
    check_with(2, 0, 1, |shared| run(shared, 3));
}

#[test]
fn a_thread_waits_a_moment_for_the_one_whose_share_is_left() {
    check(2, 2, |shared| {
        run(shared, 2);
        run(shared, 2);
    });
}

#[test]
fn two_callers_do_not_disturb_each_other() {
    check(0, 2, |shared| {
        let other = {
            let shared = shared.clone();
            thread::spawn(move || run(&shared, 2))
        };
        run(shared, 2);
        other.join().unwrap();
    });
}
