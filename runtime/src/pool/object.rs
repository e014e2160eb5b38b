//! The pool as C sees it: what the compiler adds to a library that can use threads. Built alone, by `../../prebuilt/build.sh`.
#![no_std]

#[path = "../../../targets/src/abi.rs"]
mod abi;
#[path = "job.rs"]
mod job;
#[path = "sync.rs"]
mod sync;
#[path = "threads.rs"]
mod threads;

/// A pool of so many threads, the caller's included; for 0, as many as there are processors. Null if it cannot be had.
#[unsafe(no_mangle)]
pub extern "C" fn tinsmith_pool_create(n_threads: u32) -> *mut abi::Pool {
    threads::create(n_threads)
}

/// Joins the threads and frees the pool.
///
/// # Safety
/// The pool came from [`tinsmith_pool_create`], is not in use, and is not destroyed twice.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinsmith_pool_destroy(pool: *mut abi::Pool) {
    // SAFETY: the caller's promise.
    unsafe { threads::destroy(pool) }
}
