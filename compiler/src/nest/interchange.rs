//! Two loops, one in the other, in the other order: where the outer one has few iterations, or a run has, threads share the inner.

use super::footprint::Steps;
use super::ir::{Buffer, BufferId, Kernel, Live, Loop, Stmt};
use super::parallel::{mark_outermost, top_loop};
use super::work::work;

/// So many iterations, of a loop that is not live for each thread, are enough, whatever the other loop has.
pub(crate) const ENOUGH: i64 = 4;

/// Lets outermost loops of few iterations change places with the one that is all they hold, where both may be marked. Of live loops a
/// run must have an iteration, and may have few: `least` says how many there are at least, if that is known.
pub fn interchange(
    kernel: &mut Kernel,
    least: impl Fn(&Live) -> Option<i64>,
    workers: usize,
    least_work: u64,
    private: impl Fn(BufferId, &Buffer) -> bool,
) {
    for i in 0..kernel.body.len() {
        let is_parallel = |kernel: &Kernel| {
            let mut marked = kernel.clone();
            mark_outermost(&mut marked, |j| j == i, &private);
            top_loop(&marked.body[i]).is_some_and(|l| l.parallel)
        };
        let fewest = |l: &Loop| match &l.live {
            Some(live) => least(live).map(|n| n / l.step).filter(|n| (1..ENOUGH).contains(n)),
            None => Some(Steps::of(l).n).filter(|&n| n <= ENOUGH * workers as i64),
        };
        if let Some(fewest) = top_loop(&kernel.body[i]).and_then(fewest)
            && work(kernel, &kernel.body[i]) >= least_work
            && let Some(turned) = interchanged(kernel, i, fewest, workers)
            && is_parallel(kernel)
            && is_parallel(&turned)
        {
            *kernel = turned;
        }
    }
}

/// The kernel with the loop that is statement `i`, of which a run has `fewest` iterations at least, inside the one that is all it holds;
/// `None` where threads would have no more to share then, in the run that leaves them idle for longest. It does the same if the iterations
/// of either loop are independent.
fn interchanged(kernel: &Kernel, i: usize, fewest: i64, workers: usize) -> Option<Kernel> {
    let outer = top_loop(&kernel.body[i])?;
    let [only] = &outer.body[..] else { return None };
    let inner = top_loop(only)?;
    let (n_outer, n_inner) = (Steps::of(outer).n, Steps::of(inner).n);
    let gains = match inner.live {
        Some(_) => n_inner >= ENOUGH * n_outer,
        None => idleness(n_inner, workers) < (fewest..=n_outer).map(|n| idleness(n, workers)).fold(1.0, f64::max),
    };
    if n_outer < 2 || n_inner < 2 || !gains {
        return None;
    }
    let inside = alone(Loop { body: inner.body.clone(), ..outer.clone() });
    let mut turned = kernel.clone();
    turned.body[i] = alone(Loop { body: vec![inside], ..inner.clone() });
    Some(turned)
}

/// How much longer threads take for so many equal iterations than if they shared them evenly.
fn idleness(n: i64, workers: usize) -> f64 {
    let workers = workers as i64;
    let rounds = (n + workers - 1) / workers;
    (rounds * workers) as f64 / n as f64
}

/// A loop, under the condition that it runs where it has one.
fn alone(l: Loop) -> Stmt {
    match l.guard() {
        Some(cond) => Stmt::If { cond, then: vec![Stmt::Loop(l)], otherwise: vec![] },
        None => Stmt::Loop(l),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parallel::{mark, top_loop};
    use super::super::{Access, parse, verify};
    use super::interchange;

    /// The variables of the loops of a kernel, the parallel one in brackets, and its private buffers.
    fn marked(body: &str) -> String {
        marked_as(1, body)
    }

    /// The same where a run has so many iterations of every live loop at least.
    fn marked_as(least: i64, body: &str) -> String {
        marked_in(HEAD, least, body)
    }

    const HEAD: &str =
        "kernel @t (x: f32[4096] read, y: f32[4096] write, s: f32[128] readwrite) sizes n <= 5, n.1 <= 64, n.2 <= 64, n.3 <= 64";

    fn marked_in(head: &str, least: i64, body: &str) -> String {
        let mut kernel = parse(&format!("{head} {{\n{body}\n}}")).unwrap();
        let private = |_, b: &super::Buffer| b.access == Access::ReadWrite;
        interchange(&mut kernel, |_| Some(least), 4, 0, private);
        mark(&mut kernel, 0, private);
        assert_eq!(verify(&kernel), []);
        let mut words = vec![];
        let mut at = &kernel.body[..];
        while let [only] = at
            && let Some(l) = top_loop(only)
        {
            let name = &kernel.vars[l.var.0 as usize];
            words.push(if l.parallel { format!("[{name}]") } else { name.clone() });
            at = &l.body;
        }
        words.extend(kernel.buffers.iter().filter(|b| b.private).map(|b| b.name.clone()));
        words.join(" ")
    }

    #[test]
    fn threads_share_what_every_run_has_enough_of() {
        let nest = |inner: &str, body: &str| format!("if 1 <= n < 6 {{ for b in 0..n of 0..5 {{ {inner} {{ {body} }} }} }}");
        let body = "%0: f32 = load x[b] store y[64*b + h], %0";
        assert_eq!(marked(&nest("for h in 0..12", body)), "[h] b");
        assert_eq!(marked(&nest("for h in 0..3", body)), "[h] b");
        // Two of four threads are idle with two; with three to five, two of eight at most.
        assert_eq!([1, 3].map(|n| marked_as(n, &nest("for h in 0..2", body))), ["[h] b", "[b] h"]);
        // Tiles that most runs have none of, and many texts.
        assert_eq!([0, 4].map(|n| marked_as(n, &nest("for h in 0..12", body))), ["[b] h"; 2]);
        // Sixty rows at most, or just a few.
        assert_eq!(marked(&nest("if 1 <= n.1 < 61 { for h in 0..n.1 of 0..60", &format!("{body} }}"))), "[h] b");
        assert_eq!(marked(&nest("if 1 <= n.1 < 9 { for h in 0..n.1 of 0..8", &format!("{body} }}"))), "[b] h");
        // Three tiles of rows and four panels.
        let tiles = |n: i64, panels: i64| format!("for b in 0..{n} {{ for h in 0..{panels} {{ {body} }} }}");
        assert_eq!([tiles(3, 4), tiles(3, 2), tiles(5, 8), tiles(17, 8)].map(|nest| marked(&nest)), ["[h] b", "[b] h", "[h] b", "[b] h"]);
        // Sums over heads, and places that all texts write.
        assert_eq!(marked(&nest("for h in 0..12", "%0: f32 = load y[b] %1: f32 = load x[h] %0: f32 = add %0, %1 store y[b], %0")), "[b] h");
        assert_eq!(marked(&nest("for h in 0..12", "%0: f32 = load x[b] store y[h], %0")), "b h");
    }

    #[test]
    fn scratch_that_live_loops_fill_is_private() {
        // Blocks, and one by one what they leave; read in other blocks.
        let rows = |first: &str, last: &str, end: &str| {
            format!(
                "for h in 0..12 {{ for r in 0..2 {{
                    if 1 <= n.1 < 33 {{ for i in 0..n.1 of 0..32 step 8 {{ %0: f32x8 = load x[i] store s[32*r + i], %0 }} }}
                    if 1 <= -n.1 + n.2 < 33 {{ for j in n.1..n.2 of 0..32 {{ %1: f32 = load x[j] store s[32*r + j], %1 }} }}
                }}
                for q in 0..2 {{
                    if 1 <= {first} < 33 {{ for k in 0..{first} of 0..32 step 4 {{ %2: f32x4 = load s[32*q + k] store y[64*h + k], %2 }} }}
                    if 1 <= -{first} + {end} < 33 {{ for l in {first}..{end} of 0..32 {{ %3: f32 = load s[32*q + l{last}] store y[64*h + l], %3 }} }}
                }} }}"
            )
        };
        assert_eq!(marked(&rows("n.3", "", "n.2")), "[h] s");
        // Two rows written side by side.
        let beside = "for h in 0..12 {
            if 1 <= n.1 < 33 { for i in 0..n.1 of 0..32 step 8 { %0: f32x8 = load x[i] store s[i], %0 store s[i + 32], %0 } }
            for q in 0..2 {
                if 1 <= n.1 < 33 { for k in 0..n.1 of 0..32 step 8 { %2: f32x8 = load s[32*q + k] store y[64*h + k], %2 } }
            }
        }";
        assert_eq!(marked(beside), "[h] s");
        assert_eq!(marked(&beside.replace("store s[i + 32]", "store s[i + 40]")), "h");
        // Farther than it was filled, as far as one knows; between its rows; one element on.
        assert_eq!(marked_in(HEAD, 1, &rows("n.3", "", "n")), "h");
        assert_eq!(marked_in(&HEAD.replace("n <= 5", "n <= min(5, n.2)"), 1, &rows("n.3", "", "n")), "[h] s");
        for body in [rows("n.3", "", "n"), rows("n.2", "", "n.3"), rows("n.3", " + 1", "n.2"), rows("n.3", " + 16", "n.2")] {
            assert_eq!(marked(&body), "h", "{body}");
        }
    }
}
