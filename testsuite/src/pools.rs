//! Pools of threads that tests run models on: results must not depend on them.

use std::cell::Cell;
use std::ffi::c_void;

use tinsmith::codegen::{Executable, Memory};
use tinsmith::{Hook, Pool};

/// Numbers of threads.
pub const SIZES: [u32; 5] = [1, 2, 3, 4, 7];

thread_local! {
    static N_LOOPS: Cell<usize> = const { Cell::new(0) };
}

/// Does the shares of a loop on this thread, the last one first.
extern "C" fn backwards(_: *mut c_void, n: u32, body: extern "C" fn(*mut c_void, u32), data: *mut c_void) {
    N_LOOPS.set(N_LOOPS.get() + 1);
    (0..n).rev().for_each(|i| body(data, i));
}

/// Does the last share of a loop only: of long loops it takes what the others, whose threads never come, have not begun.
extern "C" fn last_alone(_: *mut c_void, n: u32, body: extern "C" fn(*mut c_void, u32), data: *mut c_void) {
    body(data, n - 1);
}

/// Runs a program of long loops in shares of which only the last one's thread ever comes.
///
/// # Errors
/// A status.
pub fn run_last_share_alone(exe: &Executable, memory: &mut Memory) -> Result<(), String> {
    let late = Hook { context: std::ptr::null_mut(), n_threads: 5, parallel_for: last_alone };
    exe.run_with(memory, Some(&late)).map_err(|s| s.to_string())
}

/// Runs a program without a pool, then in shares for each of [`SIZES`], one after the other, then on pools of `threads`, and gives how many loops
/// were shared. Memory holds bits of NaN before every run.
///
/// # Errors
/// Which pool gives other bits, or a status.
pub fn same_bits(exe: &Executable, memory: &mut Memory, threads: &[u32]) -> Result<usize, String> {
    let given = memory.inputs.clone();
    let mut run = |pool: Option<&Hook>| -> Result<Vec<Vec<u8>>, String> {
        memory.workspace.as_mut_slice().fill(0xFF);
        memory.outputs.iter_mut().for_each(|o| o.as_mut_slice().fill(0xFF));
        memory.inputs.clone_from(&given);
        exe.run_with(memory, pool).map_err(|s| s.to_string())?;
        // States are inputs that a run replaces.
        Ok(memory.inputs.iter().chain(&memory.outputs).map(|o| o.as_slice().to_vec()).collect())
    };
    let alone = run(None)?;
    let mut n_loops = 0;
    for n_threads in SIZES {
        let one_thread = Hook { context: std::ptr::null_mut(), n_threads, parallel_for: backwards };
        N_LOOPS.set(0);
        if run(Some(&one_thread))? != alone {
            return Err(format!("other bits in {n_threads} shares, the last one first"));
        }
        n_loops = N_LOOPS.get().max(n_loops);
    }
    for &n_threads in threads.iter().filter(|_| n_loops > 0) {
        let pool = Pool::new(n_threads).ok_or("no threads")?;
        if run(Some(pool.hook()))? != alone {
            return Err(format!("other bits on {n_threads} threads"));
        }
    }
    Ok(n_loops)
}
