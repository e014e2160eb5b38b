//! Threads for models to run on.
//!
//! A pool of `n` threads starts `n - 1`; the caller is the last. They spin for some microseconds after a loop, then sleep.
//! Where one thread is in a loop of a model, a second that uses the same pool runs its loop alone, as does a loop inside a
//! loop. `object.rs` is the same for C.

use core::ptr::NonNull;

use crate::abi;

mod job;
mod sync;
mod threads;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// Threads; dropped, they are joined.
#[derive(Debug)]
pub struct Pool(NonNull<abi::Pool>);

// SAFETY: any thread may use and drop a pool, and several may use it at once.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool of so many threads, the caller's included; for 0, as many as there are processors. `None` where the system gives
    /// no memory or no threads.
    pub fn new(n_threads: u32) -> Option<Self> {
        NonNull::new(threads::create(n_threads)).map(Pool)
    }

    /// What models take.
    pub fn hook(&self) -> &abi::Pool {
        // SAFETY: the pool lives as long as `self`.
        unsafe { self.0.as_ref() }
    }

    /// Number of threads, the caller's included.
    pub fn n_threads(&self) -> usize {
        self.hook().n_threads as usize
    }

    /// Calls `body(i)` once for every `i` in `0..n`, from any of the threads.
    pub fn for_each(&self, n: u32, body: impl Fn(u32) + Sync) {
        extern "C" fn call<F: Fn(u32)>(data: *mut core::ffi::c_void, i: u32) {
            // SAFETY: `data` is the closure below, which outlives the loop.
            unsafe { (*data.cast::<F>())(i) }
        }
        fn thunk<F: Fn(u32)>(_: &F) -> extern "C" fn(*mut core::ffi::c_void, u32) {
            call::<F>
        }
        let hook = self.hook();
        (hook.parallel_for)(hook.context, n, thunk(&body), (&raw const body).cast_mut().cast());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and nobody borrows it any more.
        unsafe { threads::destroy(self.0.as_ptr()) }
    }
}
