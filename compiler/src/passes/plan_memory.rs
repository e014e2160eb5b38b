//! Gives values of known size and lifetime their bytes in one arena: a pure function from requests to offsets.
//!
//! Requires: lifetimes as inclusive ranges of steps. Ensures: two values alive at one step share no byte, unless one takes over the
//! other's place; offsets are aligned; equal requests give equal plans. Keeps: nothing, it writes no graph.
//!
//! Packing is NP-hard, so several greedy orders compete and, above the lower bound, a local search of bounded work improves the best one.

pub mod check;

/// One value that needs memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// For messages.
    pub name: String,
    /// Size.
    pub size_bytes: usize,
    /// The step that writes it.
    pub first_step: usize,
    /// The last step that reads it.
    pub last_step: usize,
    /// Alignment of its offset, a power of two.
    pub align_bytes: usize,
    /// A request whose bytes this one may take over, at the same offset, if that one is read for the last time in the step that writes
    /// this one and is at least as large. A hint: it need not happen.
    pub in_place_of: Option<usize>,
}

/// Where everything lives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The offset of each request.
    pub offsets: Vec<usize>,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// The largest sum of sizes alive at one step, in-place pairs counted once: no plan is smaller.
    pub lower_bound_bytes: usize,
}

/// Neighbour visits that the local search may spend: some tens of milliseconds.
const SEARCH_VISITS: usize = 500_000;

/// Plans the arena.
pub fn plan_memory(requests: &[Request]) -> Plan {
    let problem = Problem::new(requests);
    let mut best: Option<Placed> = None;
    for order in problem.orders() {
        for fit in [Fit::Best, Fit::First] {
            let placed = problem.place(order.clone(), fit);
            if best.as_ref().is_none_or(|b| placed.arena < b.arena) {
                best = Some(placed);
            }
            if best.as_ref().is_some_and(|b| b.arena <= problem.lower_bound) {
                break;
            }
        }
    }
    let best = problem.search(best.unwrap_or_default());
    Plan { offsets: best.offsets, arena_bytes: best.arena, lower_bound_bytes: problem.lower_bound }
}

/// Whether request `j` may take over the bytes of request `i`.
pub fn may_take_over(requests: &[Request], j: usize, i: usize) -> bool {
    let (a, b) = (&requests[i], &requests[j]);
    b.in_place_of == Some(i)
        && i != j
        && a.last_step == b.first_step
        && a.first_step < b.first_step
        && b.size_bytes <= a.size_bytes
        && b.align_bytes <= a.align_bytes
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fit {
    /// The lowest gap.
    First,
    /// The gap that leaves least.
    Best,
}

#[derive(Clone, Default)]
struct Placed {
    order: Vec<usize>,
    fit: Option<Fit>,
    offsets: Vec<usize>,
    arena: usize,
}

struct Problem {
    /// Sizes, rounded up to the alignment.
    sizes: Vec<usize>,
    align: Vec<usize>,
    first: Vec<usize>,
    last: Vec<usize>,
    /// Requests alive at a common step.
    neighbours: Vec<Vec<u32>>,
    /// For each request the ones it may share a place with: what it takes over, and what takes it over.
    partners: Vec<Vec<usize>>,
    /// For each request, the most that is alive at a step of its life.
    pressure: Vec<usize>,
    lower_bound: usize,
}

impl Problem {
    fn new(requests: &[Request]) -> Self {
        let n = requests.len();
        let align: Vec<usize> = requests.iter().map(|r| r.align_bytes.max(1)).collect();
        let sizes: Vec<usize> = requests.iter().zip(&align).map(|(r, &a)| r.size_bytes.next_multiple_of(a)).collect();
        let (first, last): (Vec<usize>, Vec<usize>) = requests.iter().map(|r| (r.first_step, r.last_step.max(r.first_step))).unzip();
        let mut partners = vec![vec![]; n];
        // What one request gives away at its last step: the largest of those that may take it over.
        let mut taken_over = vec![0; n];
        for (j, r) in requests.iter().enumerate() {
            if let Some(i) = r.in_place_of.filter(|&i| i < n && may_take_over(requests, j, i)) {
                partners[i].push(j);
                partners[j].push(i);
                taken_over[i] = taken_over[i].max(sizes[j]);
            }
        }

        let mut by_first: Vec<usize> = (0..n).filter(|&i| sizes[i] > 0).collect();
        by_first.sort_by_key(|&i| (first[i], i));
        let mut neighbours = vec![vec![]; n];
        let mut alive: Vec<usize> = vec![];
        for &i in &by_first {
            alive.retain(|&j| last[j] >= first[i]);
            for &j in &alive {
                neighbours[i].push(j as u32);
                neighbours[j].push(i as u32);
            }
            alive.push(i);
        }

        let (steps, load) = step_loads(&sizes, &first, &last, &taken_over);
        let pressure = (0..n)
            .map(|i| {
                let from = steps.partition_point(|&s| s < first[i]);
                let to = steps.partition_point(|&s| s <= last[i]);
                load[from..to].iter().copied().max().unwrap_or(0)
            })
            .collect();
        let lower_bound = load.into_iter().max().unwrap_or(0);
        Problem { sizes, align, first, last, neighbours, partners, pressure, lower_bound }
    }

    /// Orders that are good for one kind of network or another.
    fn orders(&self) -> Vec<Vec<usize>> {
        let all: Vec<usize> = (0..self.sizes.len()).collect();
        let sorted = |key: &dyn Fn(usize) -> (std::cmp::Reverse<usize>, std::cmp::Reverse<usize>, usize)| {
            let mut order = all.clone();
            order.sort_by_key(|&i| (key(i), i));
            order
        };
        use std::cmp::Reverse as Down;
        let life = |i: usize| self.last[i] - self.first[i] + 1;
        vec![
            sorted(&|i| (Down(self.sizes[i]), Down(life(i)), self.first[i])),
            sorted(&|i| (Down(self.pressure[i]), Down(self.sizes[i]), self.first[i])),
            sorted(&|i| (Down(life(i)), Down(self.sizes[i]), self.first[i])),
            sorted(&|i| (Down(life(i).saturating_mul(self.sizes[i])), Down(self.sizes[i]), self.first[i])),
            sorted(&|i| (Down(0), Down(0), self.first[i])),
            sorted(&|i| (Down(self.last[i]), Down(self.sizes[i]), self.first[i])),
        ]
    }

    /// Places the requests in this order, each in a gap between those that live at the same time.
    fn place(&self, order: Vec<usize>, fit: Fit) -> Placed {
        const UNPLACED: usize = usize::MAX;
        let mut offsets = vec![UNPLACED; self.sizes.len()];
        let mut arena = 0;
        let mut busy: Vec<(usize, usize, u32)> = vec![];
        for &i in &order {
            let size = self.sizes[i];
            if size == 0 {
                offsets[i] = 0;
                continue;
            }
            busy.clear();
            for &j in &self.neighbours[i] {
                let at = offsets[j as usize];
                if at != UNPLACED {
                    busy.push((at, at + self.sizes[j as usize], j));
                }
            }
            busy.sort_unstable();
            let shared = self.partners[i].iter().find_map(|&p| {
                let at = offsets[p];
                let free = |&(from, to, j): &(usize, usize, u32)| j as usize == p || to <= at || from >= at + size;
                (at != UNPLACED && at.is_multiple_of(self.align[i]) && busy.iter().all(free)).then_some(at)
            });
            let at = shared.unwrap_or_else(|| self.gap(&busy, size, self.align[i], fit, arena));
            offsets[i] = at;
            arena = arena.max(at + size);
        }
        Placed { order, fit: Some(fit), offsets, arena }
    }

    fn gap(&self, busy: &[(usize, usize, u32)], size: usize, align: usize, fit: Fit, arena: usize) -> usize {
        let mut top = 0usize;
        let mut best: Option<(usize, usize)> = None;
        for &(from, to, _) in busy {
            let at = top.next_multiple_of(align);
            if from >= at + size {
                if fit == Fit::First {
                    return at;
                }
                let left = from - at - size;
                if best.is_none_or(|b| left < b.0) {
                    best = Some((left, at));
                }
            }
            top = top.max(to);
        }
        let at = top.next_multiple_of(align);
        match best {
            // The last gap ends at the arena's current end: it is taken where it fits tighter than the others.
            Some((left, _)) if at + size <= arena && arena - at - size < left => at,
            Some((_, gap)) => gap,
            None => at,
        }
    }

    /// Moves what sticks out above the bound to earlier in the order, and keeps what is not worse.
    fn search(&self, mut best: Placed) -> Placed {
        let Some(mut fit) = best.fit else { return best };
        let cost: usize = self.neighbours.iter().map(|n| n.len() + 1).sum();
        let mut current = best.clone();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |n: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % n.max(1) as u64) as usize
        };
        let mut spent = 0;
        while best.arena > self.lower_bound && spent < SEARCH_VISITS {
            spent += cost;
            let mut order = current.order.clone();
            let high: Vec<usize> =
                (0..order.len()).filter(|&p| current.offsets[order[p]] + self.sizes[order[p]] > self.lower_bound).collect();
            for _ in 0..=next(2) {
                let from = if next(4) > 0 && !high.is_empty() { high[next(high.len())] } else { next(order.len()) };
                let to = next(from + 1);
                let moved = order.remove(from);
                order.insert(to, moved);
            }
            if next(16) == 0 {
                fit = if fit == Fit::Best { Fit::First } else { Fit::Best };
            }
            let placed = self.place(order, fit);
            if placed.arena <= current.arena {
                current = placed;
            }
            if current.arena < best.arena {
                best = current.clone();
            }
        }
        best
    }
}

/// The steps at which something begins or ends, and the sum alive at each.
fn step_loads(sizes: &[usize], first: &[usize], last: &[usize], taken_over: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut steps: Vec<usize> = first.iter().chain(last).copied().collect();
    steps.sort_unstable();
    steps.dedup();
    let at = |s: usize| steps.binary_search(&s).expect("a step listed above");
    let mut change = vec![(0usize, 0usize, 0usize); steps.len() + 1];
    for i in 0..sizes.len() {
        change[at(first[i])].0 += sizes[i];
        change[at(last[i]) + 1].1 += sizes[i];
        change[at(last[i])].2 += taken_over[i];
    }
    let mut alive = 0;
    let load = change[..steps.len()]
        .iter()
        .map(|&(begins, ended, shared)| {
            alive = alive + begins - ended;
            alive - shared
        })
        .collect();
    (steps, load)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(size_bytes: usize, first_step: usize, last_step: usize, in_place_of: Option<usize>) -> Request {
        Request { name: format!("t{first_step}"), size_bytes, first_step, last_step, align_bytes: 64, in_place_of }
    }

    fn planned(requests: &[Request]) -> Plan {
        let plan = plan_memory(requests);
        check::check(requests, &plan).unwrap_or_else(|e| panic!("{e:#?}"));
        plan
    }

    #[test]
    fn a_chain_alternates_between_two_places() {
        let chain: Vec<Request> = (0..20).map(|i| request(1024, i, i + 1, None)).collect();
        let plan = planned(&chain);
        assert_eq!((plan.arena_bytes, plan.lower_bound_bytes), (2048, 2048));
    }

    #[test]
    fn an_element_wise_chain_stays_in_place() {
        let chain: Vec<Request> = (0..20usize).map(|i| request(1000, i, i + 1, i.checked_sub(1))).collect();
        let plan = planned(&chain);
        assert_eq!((plan.arena_bytes, plan.lower_bound_bytes), (1024, 1024));
    }

    #[test]
    fn a_value_read_later_is_not_taken_over() {
        let plan = planned(&[request(64, 0, 2, None), request(64, 1, 2, Some(0))]);
        assert_eq!(plan.arena_bytes, 128);
    }

    #[test]
    fn a_larger_value_does_not_fit_in_place() {
        let plan = planned(&[request(64, 0, 1, None), request(128, 1, 2, Some(0))]);
        assert_eq!(plan.arena_bytes, 192);
    }

    #[test]
    fn only_one_of_two_results_takes_over() {
        let plan = planned(&[request(64, 0, 1, None), request(64, 1, 2, Some(0)), request(64, 1, 2, Some(0))]);
        assert_eq!((plan.arena_bytes, plan.lower_bound_bytes), (128, 128));
    }

    #[test]
    fn nothing_needs_nothing() {
        assert_eq!(planned(&[]), Plan::default());
        assert_eq!(planned(&[request(0, 0, 5, None)]).arena_bytes, 0);
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) as usize) % n
        }
    }

    /// Lifetimes as networks have them: mostly short, some long (skip connections), some in place.
    fn network(seed: u64, n: usize) -> Vec<Request> {
        let mut random = Random(seed);
        (0..n)
            .map(|i| {
                let life = if random.below(8) == 0 { 1 + random.below(20) } else { 1 + random.below(2) };
                let size = 64 << random.below(9);
                let size = size + random.below(size);
                request(size, i, i + life, (i > 0 && random.below(3) == 0).then(|| i - 1))
            })
            .collect()
    }

    #[test]
    fn random_networks_stay_near_the_bound() {
        let (mut sum, mut worst) = (0.0f64, 0.0f64);
        for seed in 0..40 {
            let requests = network(seed, 20 + 4 * seed as usize);
            let plan = planned(&requests);
            let ratio = plan.arena_bytes as f64 / plan.lower_bound_bytes as f64;
            (sum, worst) = (sum + ratio, worst.max(ratio));
        }
        assert!(sum / 40.0 < 1.05 && worst < 1.15, "mean {} worst {worst}", sum / 40.0);
    }

    #[test]
    fn dense_random_lifetimes_are_planned_without_overlap() {
        for seed in 0..20 {
            let mut random = Random(seed);
            let requests: Vec<Request> = (0..60)
                .map(|_| {
                    let first = random.below(40);
                    request(random.below(5000), first, first + random.below(15), Some(random.below(60)))
                })
                .collect();
            planned(&requests);
        }
    }

    #[test]
    fn equal_requests_give_equal_plans() {
        let requests = network(7, 100);
        assert_eq!(plan_memory(&requests), plan_memory(&requests));
    }
}
