//! Atomics, and sleeping on them by Linux's futexes.

use core::ffi::{c_int, c_long, c_void};
pub(super) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
const FUTEX: c_long = 202;
#[cfg(target_arch = "aarch64")]
const FUTEX: c_long = 98;
#[cfg(target_arch = "x86_64")]
const SCHED_GETAFFINITY: c_long = 204;
#[cfg(target_arch = "aarch64")]
const SCHED_GETAFFINITY: c_long = 123;

const WAIT_PRIVATE: c_int = 128;
const WAKE_PRIVATE: c_int = 129;

/// Sleeps while the word holds a value; may return at any time.
pub(super) fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: the word lives as long as the call, and there is no timeout to read.
    unsafe { syscall(FUTEX, word.as_ptr(), WAIT_PRIVATE, value, core::ptr::null::<c_void>()) };
}

/// Wakes at most so many that sleep on the word.
pub(super) fn futex_wake(word: &AtomicU32, n: u32) {
    // SAFETY: the word is only named, not read.
    unsafe { syscall(FUTEX, word.as_ptr(), WAKE_PRIVATE, n) };
}

/// Lets the other hardware thread of a core go on.
pub(super) fn pause() {
    core::hint::spin_loop();
}

/// Number of processors that this thread may run on.
pub(super) fn n_processors() -> u32 {
    let mut mask = [0u64; 128];
    // SAFETY: the kernel writes at most the size that it is told.
    let written = unsafe { syscall(SCHED_GETAFFINITY, 0, size_of_val(&mask), mask.as_mut_ptr()) };
    let n: u32 = mask.iter().map(|word| word.count_ones()).sum();
    if written > 0 && n > 0 { n } else { 1 }
}
