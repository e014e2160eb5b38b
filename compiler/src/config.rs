//! What a user may choose. Plain data: every stage reads the parts that concern it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::tensor::Tensor;

/// What a user may choose about a compilation; [`Config::default`] is what happens where nothing is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The name that functions and files derive from; `None`: the source file's.
    pub name: Option<String>,
    /// A target triple; `None`: this machine's.
    pub target: Option<String>,
    /// A CPU level and features, such as `x86-64-v3`, `v2+fma` or `native`; `None`: the architecture's usual level.
    pub cpu: Option<String>,
    /// Values of symbolic dimensions.
    pub bindings: BTreeMap<String, usize>,
    /// Symbolic dimensions that every run chooses, and their values. Several in one, separated by commas, have one value.
    pub dynamic: BTreeMap<String, Range>,
    /// Symbolic dimensions that others give, such as `past + seq`; one whose name is such a text needs no entry.
    pub relations: BTreeMap<String, String>,
    /// Whole shapes of inputs.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// Shapes of the tensors of inputs that are sequences; none for an optional input that has no value.
    pub sequences: BTreeMap<String, Vec<Vec<usize>>>,
    /// Inputs that are constants in the compiled model: their values.
    pub constants: BTreeMap<String, Tensor>,
    /// The greatest values of integer inputs, where they decide how large something is: a run with greater ones ends with a status.
    pub at_most: BTreeMap<String, i64>,
    /// Pairs of an input and an output that are one tensor between runs, kept in a block that the caller owns.
    pub states: Vec<(String, String)>,
    /// Values that a run computes although constants decide them, by name: where sizes vary those that are others at other sizes.
    pub computed: BTreeSet<String>,
    /// Store weights in fewer bits; changes results.
    pub quantize_weights: Option<WeightFormat>,
    /// Remove channels that cannot matter; never changes results.
    pub prune: bool,
    /// Compute convolutions only by direct sums.
    pub exact_conv: bool,
    /// What matters most.
    pub goal: Goal,
    /// What turns kernels into machine code.
    pub emitter: Emitter,
    /// The most threads that a run uses at once, at least one: the workspace has room for so many.
    pub threads: usize,
    /// For how long to measure forms of the kernels on this machine, which must be the target; zero: not at all.
    pub tune: Duration,
    /// A file with the forms that were measured to be best: read where it exists, and written after measuring.
    pub tune_file: Option<PathBuf>,
    /// Texts to keep.
    pub dump: Dumps,
}

/// [`Config::threads`] where nothing is said.
pub const DEFAULT_THREADS: usize = 4;

impl Default for Config {
    fn default() -> Self {
        Config {
            name: None,
            target: None,
            cpu: None,
            bindings: BTreeMap::new(),
            dynamic: BTreeMap::new(),
            relations: BTreeMap::new(),
            computed: BTreeSet::new(),
            input_shapes: BTreeMap::new(),
            sequences: BTreeMap::new(),
            constants: BTreeMap::new(),
            at_most: BTreeMap::new(),
            states: vec![],
            quantize_weights: None,
            prune: true,
            exact_conv: false,
            goal: Goal::Latency,
            emitter: Emitter::Auto,
            threads: DEFAULT_THREADS,
            tune: Duration::ZERO,
            tune_file: None,
            dump: Dumps::default(),
        }
    }
}

/// The values of a dimension that every run chooses: every `step`-th from `low` on, up to `high`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The least.
    pub low: usize,
    /// None is greater.
    pub high: usize,
    /// From one value to the next.
    pub step: usize,
}

impl From<(usize, usize)> for Range {
    fn from((low, high): (usize, usize)) -> Self {
        Range { low, high, step: 1 }
    }
}

impl Config {
    /// Whether every run chooses this dimension.
    pub fn is_dynamic(&self, dim: &str) -> bool {
        self.dynamic.keys().any(|names| names.split(',').any(|name| name == dim))
    }
}

/// What turns kernels into machine code.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Emitter {
    /// The one that makes instructions itself where it takes a kernel, else Cranelift.
    #[default]
    Auto,
    /// Cranelift only.
    Clif,
    /// The one that makes instructions itself only: on x86-64 with the widest vectors of the level, on aarch64 with those of 128 bits.
    /// What it refuses is an error.
    Wide,
}

/// What matters most about a library.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Goal {
    /// Its speed.
    #[default]
    Latency,
    /// Its size: nothing is stored in a larger form because that is faster.
    Size,
}

/// How quantized weights are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WeightFormat {
    /// Eight bits, one scale per output channel, symmetric.
    Int8,
}

/// Texts that a compilation keeps on its way.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Dumps {
    /// The graph after all passes.
    pub graph: bool,
    /// The tensor expressions of every group.
    pub expr: bool,
    /// The kernels as loops.
    pub nest: bool,
    /// The kernels in Cranelift's form, and as instructions.
    pub code: bool,
    /// The graph after each of these passes.
    pub after: BTreeSet<String>,
}
