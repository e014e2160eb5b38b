//! Checks a memory plan pair by pair: knows lifetimes and bytes, not how plans are made.

use super::{Plan, Request};

/// What is wrong with a plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PlanError {
    #[error("{requests} requests have {offsets} offsets")]
    Count { requests: usize, offsets: usize },
    #[error("`{name}` at {offset} is not aligned to {align_bytes}")]
    Unaligned { name: String, offset: usize, align_bytes: usize },
    #[error("`{name}` ends at {end}, outside the arena of {arena_bytes}")]
    Outside { name: String, end: usize, arena_bytes: usize },
    #[error("`{a}` and `{b}` are alive at step {step} and share bytes")]
    Overlap { a: String, b: String, step: usize },
}

/// Checks that no two values alive at the same step share bytes, unless one lawfully takes the other's place, and that all are aligned
/// and inside the arena.
///
/// # Errors
/// Everything that is wrong.
pub fn check(requests: &[Request], plan: &Plan) -> Result<(), Vec<PlanError>> {
    if requests.len() != plan.offsets.len() {
        return Err(vec![PlanError::Count { requests: requests.len(), offsets: plan.offsets.len() }]);
    }
    let mut errors = vec![];
    let placed: Vec<(&Request, usize)> = requests.iter().zip(plan.offsets.iter().copied()).collect();
    for &(r, offset) in &placed {
        if r.align_bytes > 0 && offset % r.align_bytes != 0 {
            errors.push(PlanError::Unaligned { name: r.name.clone(), offset, align_bytes: r.align_bytes });
        }
        let end = offset.saturating_add(r.size_bytes);
        if end > plan.arena_bytes {
            errors.push(PlanError::Outside { name: r.name.clone(), end, arena_bytes: plan.arena_bytes });
        }
    }
    for (i, &(a, at_a)) in placed.iter().enumerate() {
        for (j, &(b, at_b)) in placed.iter().enumerate().skip(i + 1) {
            let bytes = at_a.max(at_b) < (at_a + a.size_bytes).min(at_b + b.size_bytes);
            let (from, to) = (a.first_step.max(b.first_step), a.last_step.min(b.last_step));
            if bytes && from <= to && !in_place(a, i, at_a, b, at_b) && !in_place(b, j, at_b, a, at_a) {
                errors.push(PlanError::Overlap { a: a.name.clone(), b: b.name.clone(), step: from });
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// `new` begins in the one step in which `old`, request number `old_idx`, ends, at the same place, and asked for it.
fn in_place(old: &Request, old_idx: usize, old_at: usize, new: &Request, new_at: usize) -> bool {
    new.in_place_of == Some(old_idx)
        && old_at == new_at
        && old.last_step == new.first_step
        && old.first_step < new.first_step
        && new.size_bytes <= old.size_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, first_step: usize, last_step: usize, in_place_of: Option<usize>) -> Request {
        Request { name: name.to_owned(), size_bytes: 100, first_step, last_step, align_bytes: 64, in_place_of }
    }

    fn checked(requests: &[Request], offsets: &[usize], arena_bytes: usize) -> Vec<String> {
        let plan = Plan { offsets: offsets.to_vec(), arena_bytes, lower_bound_bytes: 0 };
        check(requests, &plan).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn overlap_alignment_and_bounds_are_found() {
        let two = [request("a", 0, 1, None), request("b", 1, 2, None)];
        assert_eq!(checked(&two, &[0, 64], 200), ["`a` and `b` are alive at step 1 and share bytes"]);
        assert_eq!(checked(&two, &[0, 104], 300), ["`b` at 104 is not aligned to 64"]);
        assert_eq!(checked(&two, &[0, 128], 200), ["`b` ends at 228, outside the arena of 200"]);
        assert_eq!(checked(&two, &[0], 200), ["2 requests have 1 offsets"]);
        assert!(checked(&two, &[0, 128], 228).is_empty());
    }

    #[test]
    fn taking_over_needs_the_hint_and_the_same_place() {
        assert!(checked(&[request("a", 0, 1, None), request("b", 1, 2, Some(0))], &[0, 0], 100).is_empty());
        assert_eq!(checked(&[request("a", 0, 1, None), request("b", 1, 2, Some(0))], &[0, 64], 200).len(), 1);
        assert_eq!(checked(&[request("a", 0, 2, None), request("b", 1, 2, Some(0))], &[0, 0], 100).len(), 1);
    }
}
