//! A pool's memory and threads: made, handed out as a [`Hook`], and joined.

use core::ffi::{c_int, c_void};
use core::mem::offset_of;

use super::abi::Pool as Hook;
use super::job::{Body, Shared};
use super::sync::{AtomicU32, Ordering, n_processors};

/// Looks before sleeping: some tens of microseconds, enough for what lies between two loops of a model.
const SPINS: u32 = 3000;
/// The most threads of a pool.
const MAX_THREADS: u32 = 1024;
const ALIGN_BYTES: usize = 64;

unsafe extern "C" {
    fn aligned_alloc(align: usize, size: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
    fn pthread_create(
        thread: *mut usize,
        attributes: *const c_void,
        start: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
    fn pthread_join(thread: usize, result: *mut *mut c_void) -> c_int;
    fn pthread_sigmask(how: c_int, set: *const [u64; 16], old: *mut [u64; 16]) -> c_int;
}

const SIG_SETMASK: c_int = 2;

/// The head of a pool's memory; the handles of its threads lie behind it.
#[repr(C, align(64))]
struct Pool {
    hook: Hook,
    n_started: usize,
    /// How many of the threads have a number.
    n_numbered: AtomicU32,
    shared: Shared,
}

/// A pool of so many threads, the caller's included; of as many as there are processors for 0. Null where the system gives no
/// memory or no threads.
pub(super) fn create(n_threads: u32) -> *mut Hook {
    let n_processors = n_processors();
    let n_threads = if n_threads == 0 { n_processors } else { n_threads }.min(MAX_THREADS);
    let size = (size_of::<Pool>() + n_threads as usize * size_of::<usize>()).next_multiple_of(ALIGN_BYTES);
    // SAFETY: the size is a multiple of the alignment, which is a power of two.
    let pool = unsafe { aligned_alloc(ALIGN_BYTES, size) }.cast::<Pool>();
    if pool.is_null() {
        return core::ptr::null_mut();
    }
    // With more threads than processors, who spins keeps the others from their work.
    let spins = if n_threads <= n_processors { SPINS } else { 0 };
    let hook = Hook { context: pool.cast(), n_threads, parallel_for };
    // SAFETY: the memory is large enough, aligned, and nobody else's.
    unsafe { pool.write(Pool { hook, n_started: 0, n_numbered: AtomicU32::new(0), shared: Shared::new(spins) }) };
    // Signals are for the threads that the application knows.
    let (all, mut before) = ([u64::MAX; 16], [0; 16]);
    // SAFETY: both sets are as large as any system's.
    unsafe { pthread_sigmask(SIG_SETMASK, &all, &mut before) };
    let mut failed = false;
    for i in 1..n_threads as usize {
        // SAFETY: the handle is inside the memory; the pool outlives its threads, which `destroy` joins.
        failed = unsafe { pthread_create(handle(pool, i - 1), core::ptr::null(), start, pool.cast()) } != 0;
        if failed {
            break;
        }
        // SAFETY: only this thread touches the field.
        unsafe { (*pool).n_started = i };
    }
    // SAFETY: as above.
    unsafe { pthread_sigmask(SIG_SETMASK, &before, core::ptr::null_mut()) };
    if failed {
        // SAFETY: the pool was made here.
        unsafe { destroy(pool.cast()) };
        return core::ptr::null_mut();
    }
    // SAFETY: the pool is live.
    unsafe { &raw mut (*pool).hook }
}

fn handle(pool: *mut Pool, i: usize) -> *mut usize {
    // SAFETY: `create` made room for one handle for each thread behind the head.
    unsafe { pool.add(1).cast::<usize>().add(i) }
}

/// Joins the threads and frees the memory; nothing for null.
///
/// # Safety
/// The pool came from [`create`], is not in use, and is not destroyed twice.
pub(super) unsafe fn destroy(hook: *mut Hook) {
    if hook.is_null() {
        return;
    }
    const { assert!(offset_of!(Pool, hook) == 0) };
    let pool = hook.cast::<Pool>();
    // SAFETY: the caller's promise; threads are gone before their memory is.
    unsafe {
        (*pool).shared.stop();
        for i in 0..(*pool).n_started {
            pthread_join(*handle(pool, i), core::ptr::null_mut());
        }
        free(pool.cast());
    }
}

extern "C" fn start(pool: *mut c_void) -> *mut c_void {
    // SAFETY: `create` passed its pool, which lives until this thread is joined.
    let (n_numbered, shared) = unsafe { (&raw const (*pool.cast::<Pool>()).n_numbered, &raw const (*pool.cast::<Pool>()).shared) };
    // SAFETY: as above.
    unsafe { (*shared).work((*n_numbered).fetch_add(1, Ordering::Relaxed) + 1) };
    core::ptr::null_mut()
}

extern "C" fn parallel_for(context: *mut c_void, n: u32, body: Body, data: *mut c_void) {
    // SAFETY: the context of a hook made by `create` is its pool.
    unsafe { (*context.cast::<Pool>()).shared.run(n, body, data) };
}
