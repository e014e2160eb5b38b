//! The pool on real threads.

extern crate std;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::vec::Vec;
use std::{eprintln, thread};

use super::*;

/// Runs a loop and checks that every index comes once.
fn check(pool: &Pool, n: u32) {
    let seen: Vec<AtomicU32> = (0..n).map(|_| AtomicU32::new(0)).collect();
    pool.for_each(n, |i| {
        seen[i as usize].fetch_add(1, Ordering::Relaxed);
    });
    assert!(seen.iter().all(|c| c.load(Ordering::Relaxed) == 1));
}

#[test]
fn every_index_comes_once_in_pools_of_all_sizes() {
    for n_threads in [1, 2, 3, 8, 17] {
        let pool = Pool::new(n_threads).unwrap();
        assert_eq!(pool.n_threads(), n_threads as usize);
        for n in (0..40).chain([1000]) {
            check(&pool, n);
        }
    }
    assert!(Pool::new(0).unwrap().n_threads() >= 1);
}

#[test]
fn many_short_loops_in_a_row() {
    let pool = Pool::new(4).unwrap();
    let sum = AtomicU64::new(0);
    for _ in 0..2000 {
        pool.for_each(4, |i| {
            sum.fetch_add(u64::from(i) + 1, Ordering::Relaxed);
        });
    }
    assert_eq!(sum.load(Ordering::Relaxed), 2000 * 10);
}

/// Most of the times: now and then the system holds a thread up.
#[test]
fn a_thread_keeps_its_share_from_loop_to_loop() {
    const THREADS: usize = 2;
    if Pool::new(0).unwrap().n_threads() < THREADS {
        eprintln!("skipped: one processor");
        return;
    }
    let pool = Pool::new(THREADS as u32).unwrap();
    let id = || std::format!("{:?}", thread::current().id());
    let own = id();
    let mut by_caller = [0; THREADS];
    for _ in 0..2000 {
        let caller: [AtomicU32; THREADS] = Default::default();
        pool.for_each(THREADS as u32, |i| {
            caller[i as usize].store(u32::from(id() == own), Ordering::Relaxed);
            thread::sleep(Duration::from_micros(1));
        });
        for (n, c) in by_caller.iter_mut().zip(&caller) {
            *n += c.load(Ordering::Relaxed);
        }
    }
    assert!(by_caller[0] > by_caller[1], "the caller did its own share {} times, the other's {} times", by_caller[0], by_caller[1]);
}

#[test]
fn loops_inside_loops_and_of_several_callers() {
    let pool = Pool::new(3).unwrap();
    pool.for_each(5, |_| check(&pool, 7));
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| (0..200).for_each(|_| check(&pool, 5)));
        }
    });
}

#[test]
fn pools_come_and_go() {
    for i in 0..100 {
        let pool = Pool::new(1 + i % 5).unwrap();
        if i % 2 == 0 {
            check(&pool, i);
        }
    }
}

#[test]
fn a_pool_outlives_the_thread_that_made_it() {
    let pool = thread::spawn(|| Pool::new(2).unwrap()).join().unwrap();
    check(&pool, 9);
    thread::spawn(move || drop(pool)).join().unwrap();
}

/// Processor time of this process.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
#[ignore = "takes the whole machine: testsuite/run.sh runs it alone"]
fn an_idle_pool_takes_no_time() {
    let pool = Pool::new(0).unwrap();
    check(&pool, 10);
    thread::sleep(Duration::from_millis(20));
    let before = processor_time();
    thread::sleep(Duration::from_secs(1));
    let used = processor_time() - before;
    eprintln!("idle for a second: {used:?} of processor time");
    assert!(used <= Duration::from_millis(20));
}

#[test]
#[ignore = "takes the whole machine: testsuite/run.sh runs it alone"]
fn a_trivial_loop_takes_a_few_microseconds() {
    let pool = Pool::new(2).unwrap();
    let mut times: Vec<Duration> = (0..20_000)
        .map(|_| {
            let start = Instant::now();
            pool.for_each(2, |_| {});
            start.elapsed()
        })
        .collect();
    times.sort();
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize];
    eprintln!("fork and join on 2 threads: median {:?}, p90 {:?}, p99 {:?}", at(0.5), at(0.9), at(0.99));
    assert!(at(0.5) < Duration::from_micros(5));
}
