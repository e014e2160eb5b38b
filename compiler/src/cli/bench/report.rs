//! What was measured, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};
use tinsmith::steps::StepFacts;

use super::peaks::Peaks;
use crate::cli::bytes_text;

/// Steps that the text names.
const SHOWN_STEPS: usize = 16;

/// Everything that `bench` finds out.
#[derive(Clone, Debug)]
pub(super) struct Measurement {
    pub(super) name: String,
    pub(super) cpu: String,
    pub(super) machine: String,
    pub(super) threads: usize,
    /// Milliseconds of the runs, ascending.
    pub(super) times: Vec<f64>,
    /// Energy of one run, where the system tells.
    pub(super) joules: Option<f64>,
    pub(super) compile_seconds: f64,
    pub(super) multiply_adds: u64,
    pub(super) workspace_bytes: usize,
    pub(super) workspace_lower_bound_bytes: usize,
    pub(super) constant_bytes: usize,
    pub(super) peaks: Peaks,
    pub(super) steps: Vec<Measured>,
}

/// A step and its median time.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) facts: StepFacts,
    pub(super) ms: f64,
}

/// What a step cannot be faster than, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Floor {
    /// Its operations at the peak of the units.
    pub(super) compute_ms: f64,
    /// Its bytes at the bandwidths of the levels where they lie.
    pub(super) memory_ms: f64,
    /// The level that takes most of that.
    pub(super) level: &'static str,
}

impl Floor {
    /// The larger of the two.
    pub(super) fn ms(self) -> f64 {
        self.compute_ms.max(self.memory_ms)
    }

    /// What the larger is of.
    pub(super) fn bound(self) -> &'static str {
        if self.compute_ms >= self.memory_ms { "fma" } else { self.level }
    }
}

/// The value below which a share of ascending values lies.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or(0.0)
}

/// A rate from an amount and milliseconds, in units of 1e9 a second.
fn rate(amount: f64, ms: f64) -> f64 {
    if ms > 0.0 { amount / (ms * 1e6) } else { 0.0 }
}

impl Measurement {
    /// The least time of a step: operations at the measured peak, or bytes at the measured bandwidths. Operands and results are
    /// taken to lie in the nearest level that holds all that the step touches; constants, which every run reads once, in the nearest
    /// that holds the whole model.
    pub(super) fn floor(&self, step: &StepFacts) -> Floor {
        let share = |bytes: usize| bytes / self.threads.max(1);
        let values = self.peaks.level(share(step.value_bytes + step.constant_bytes));
        let constants = self.peaks.level(share(self.constant_bytes + self.workspace_bytes));
        let constants = if constants.bytes >= values.bytes { constants } else { values };
        let (values_ms, constants_ms) =
            (step.value_bytes as f64 / (values.gbytes_per_s * 1e6), step.constant_bytes as f64 / (constants.gbytes_per_s * 1e6));
        Floor {
            compute_ms: 2.0 * step.operations / (self.peaks.gflops * 1e6),
            memory_ms: values_ms + constants_ms,
            level: if values_ms >= constants_ms { values.name } else { constants.name },
        }
    }

    fn total_ms(&self) -> f64 {
        self.steps.iter().map(|s| s.ms).sum()
    }

    /// The steps' floors, added up.
    fn floor_ms(&self) -> f64 {
        self.steps.iter().map(|s| self.floor(&s.facts).ms()).sum()
    }

    fn gflops(&self) -> f64 {
        rate(2.0 * self.multiply_adds as f64, percentile(&self.times, 0.5))
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let at = |share| percentile(&self.times, share);
        let threads = if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        let energy = self.joules.map_or_else(String::new, |j| format!(", {:.3} mJ", j * 1e3));
        let mut text = format!("{} on {} ({}), {threads}\n", self.name, self.cpu, self.machine);
        let _ = writeln!(
            text,
            "median {:.4} ms, p90 {:.4} ms, p99 {:.4} ms, min {:.4} ms, max {:.4} ms, {} runs, {:.1} GFLOP/s{energy}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.0),
            at(1.0),
            self.times.len(),
            self.gflops(),
        );
        let levels: Vec<String> = self.peaks.levels.iter().map(|l| format!("{} {:.0} GB/s", l.name, l.gbytes_per_s)).collect();
        let _ = writeln!(
            text,
            "this machine: {:.1} GFLOP/s in {}-bit vectors; loads {}",
            self.peaks.gflops,
            self.peaks.vector_bits,
            levels.join(", ")
        );
        let _ = writeln!(
            text,
            "steps {:.4} ms; what bounds them adds up to {:.4} ms, {:.0}%",
            self.total_ms(),
            self.floor_ms(),
            100.0 * self.floor_ms() / self.total_ms().max(1e-12)
        );
        let _ = writeln!(text, "\n       ms  share  GFLOP/s  of peak    GB/s  bound       of it  emitter      step and schedule");
        let mut order: Vec<&Measured> = self.steps.iter().collect();
        order.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        for step in order.iter().take(SHOWN_STEPS) {
            let (facts, floor) = (&step.facts, self.floor(&step.facts));
            let gflops = rate(facts.flops, step.ms);
            let _ = writeln!(
                text,
                "{:9.4} {:5.1}% {gflops:8.1} {:7.0}% {:7.1}  {:6} {:9.0}%  {:11}  {} {}",
                step.ms,
                100.0 * step.ms / self.total_ms().max(1e-12),
                100.0 * gflops / self.peaks.gflops,
                rate((facts.value_bytes + facts.constant_bytes) as f64, step.ms),
                floor.bound(),
                100.0 * floor.ms() / step.ms.max(1e-12),
                facts.emitter.to_string(),
                facts.label,
                facts.schedule
            );
        }
        if let Some(rest) = order.get(SHOWN_STEPS..).filter(|rest| !rest.is_empty()) {
            let ms: f64 = rest.iter().map(|s| s.ms).sum();
            let _ = writeln!(
                text,
                "{ms:9.4} {:5.1}%  in {} more steps; --json has them all",
                100.0 * ms / self.total_ms().max(1e-12),
                rest.len()
            );
        }
        let _ = writeln!(
            text,
            "\nweights {}, workspace {} (at least {})",
            bytes_text(self.constant_bytes),
            bytes_text(self.workspace_bytes),
            bytes_text(self.workspace_lower_bound_bytes)
        );
        text
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let at = |share| percentile(&self.times, share);
        let nodes: Vec<Value> = self.steps.iter().map(|step| self.step_json(step)).collect();
        json!({
            "name": self.name, "cpu": self.cpu, "target": self.machine, "threads": self.threads, "runs": self.times.len(),
            "median_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "min_ms": at(0.0), "max_ms": at(1.0),
            "gflops": self.gflops(), "gflops_share": self.gflops() / self.peaks.gflops, "joules": self.joules,
            "compile_seconds": self.compile_seconds, "multiply_adds": self.multiply_adds, "workspace_bytes": self.workspace_bytes,
            "workspace_lower_bound_bytes": self.workspace_lower_bound_bytes, "constant_bytes": self.constant_bytes,
            "peaks": self.peaks.to_json(), "steps_ms": self.total_ms(), "floor_ms": self.floor_ms(), "nodes": nodes,
        })
    }

    fn step_json(&self, step: &Measured) -> Value {
        let (facts, floor) = (&step.facts, self.floor(&step.facts));
        let gflops = rate(facts.flops, step.ms);
        let bytes = facts.value_bytes + facts.constant_bytes;
        json!({
            "name": facts.label, "nodes": facts.nodes, "kernel": facts.kernel, "runs": facts.runs, "schedule": facts.schedule,
            "emitter": facts.emitter.name(), "vector_bits": facts.emitter.vector_bits, "not_wide_because": facts.emitter.refused,
            "median_ms": step.ms, "share": step.ms / self.total_ms().max(1e-12),
            "multiply_adds": facts.multiply_adds, "flops": facts.flops, "gflops": gflops, "gflops_share": gflops / self.peaks.gflops,
            "bytes": bytes, "constant_bytes": facts.constant_bytes, "gbytes_per_s": rate(bytes as f64, step.ms),
            "bound": floor.bound(), "bound_ms": floor.ms(), "bound_share": floor.ms() / step.ms.max(1e-12),
            "compute_share": floor.compute_ms / step.ms.max(1e-12),
            "memory_level": floor.level, "memory_share": floor.memory_ms / step.ms.max(1e-12),
            "only_moves": facts.only_moves,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::peaks::tests::peaks;
    use super::*;
    use tinsmith::codegen::EmittedBy;

    pub(crate) fn step(label: &str, ms: f64, multiply_adds: u64, constant_bytes: usize, value_bytes: usize) -> Measured {
        let facts = StepFacts {
            label: label.into(),
            nodes: vec![label.into()],
            runs: 1,
            kernel: format!("k_{label}"),
            schedule: "contract(mr=14 nr=32 ku=4)".into(),
            emitter: EmittedBy { wide: multiply_adds > 0, vector_bits: if multiply_adds > 0 { 512 } else { 128 }, refused: None },
            multiply_adds,
            flops: 2.0 * multiply_adds as f64,
            operations: multiply_adds as f64,
            constant_bytes,
            value_bytes,
            moves: vec![],
            only_moves: multiply_adds == 0,
        };
        Measured { facts, ms }
    }

    pub(crate) fn measurement() -> Measurement {
        Measurement {
            name: "net".into(),
            cpu: "a CPU".into(),
            machine: "x86_64-unknown-linux-gnu at x86-64-v4".into(),
            threads: 1,
            times: (0..100).map(|i| 1.5 + 0.01 * f64::from(i)).collect(),
            joules: Some(0.0125),
            compile_seconds: 0.25,
            multiply_adds: 60_000_000,
            workspace_bytes: 900_000,
            workspace_lower_bound_bytes: 900_000,
            constant_bytes: 8_000_000,
            peaks: peaks(),
            steps: vec![
                step("conv", 1.1, 59_000_000, 150_000, 800_000),
                step("transpose", 0.1, 0, 0, 4_000_000),
                step("dense", 0.3, 1_000_000, 8_000_000, 8_000),
            ],
        }
    }

    #[test]
    fn the_text_says_what_bounds_each_step() {
        insta::assert_snapshot!(measurement().text(), @r"
        net on a CPU (x86_64-unknown-linux-gnu at x86-64-v4), 1 thread
        median 2.0000 ms, p90 2.3900 ms, p99 2.4800 ms, min 1.5000 ms, max 2.4900 ms, 100 runs, 60.0 GFLOP/s, 12.500 mJ
        this machine: 117.5 GFLOP/s in 512-bit vectors; loads L1 230 GB/s, L2 120 GB/s, L3 95 GB/s, memory 25 GB/s
        steps 1.5000 ms; what bounds them adds up to 1.1307 ms, 75%

               ms  share  GFLOP/s  of peak    GB/s  bound       of it  emitter      step and schedule
           1.1000  73.3%    107.3      91%     0.9  fma           91%  wide 512     conv contract(mr=14 nr=32 ku=4)
           0.3000  20.0%      6.7       6%    26.7  L3            28%  wide 512     dense contract(mr=14 nr=32 ku=4)
           0.1000   6.7%      0.0       0%    40.0  L3            42%  clif 128     transpose contract(mr=14 nr=32 ku=4)

        weights 7812.5 KiB, workspace 878.9 KiB (at least 878.9 KiB)
        ");
    }

    #[test]
    fn the_json_has_the_same_facts() {
        let facts = measurement().to_json();
        let rounded = |v: &Value| v.as_f64().map(|x| (x * 1000.0).round() / 1000.0);
        assert_eq!(rounded(&facts["median_ms"]), Some(2.0));
        assert_eq!(rounded(&facts["max_ms"]), Some(2.49));
        insta::assert_snapshot!(format!("{:#}", facts["nodes"][2]), @r#"
        {
          "bound": "L3",
          "bound_ms": 0.08429473684210526,
          "bound_share": 0.2809824561403509,
          "bytes": 8008000,
          "compute_share": 0.056737588652482275,
          "constant_bytes": 8000000,
          "emitter": "wide",
          "flops": 2000000.0,
          "gbytes_per_s": 26.69333333333333,
          "gflops": 6.666666666666667,
          "gflops_share": 0.056737588652482275,
          "kernel": "k_dense",
          "median_ms": 0.3,
          "memory_level": "L3",
          "memory_share": 0.2809824561403509,
          "multiply_adds": 1000000,
          "name": "dense",
          "nodes": [
            "dense"
          ],
          "not_wide_because": null,
          "only_moves": false,
          "runs": 1,
          "schedule": "contract(mr=14 nr=32 ku=4)",
          "share": 0.19999999999999996,
          "vector_bits": 512
        }
        "#);
        insta::assert_snapshot!(facts["peaks"], @r#"{"gflops":117.5,"levels":[{"bytes":32768,"gbytes_per_s":230.0,"name":"L1"},{"bytes":1048576,"gbytes_per_s":120.0,"name":"L2"},{"bytes":33554432,"gbytes_per_s":95.0,"name":"L3"},{"bytes":null,"gbytes_per_s":25.0,"name":"memory"}],"threads":1,"vector_bits":512}"#);
    }
}
