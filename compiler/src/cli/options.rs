//! The options that all commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tinsmith::Pool;
use tinsmith::config::{Config, DEFAULT_THREADS, Dumps, Emitter, Goal, Range, WeightFormat};
use tinsmith::tensor::Relation;

/// The model and how to compile it.
#[derive(Args, Debug)]
pub(crate) struct ModelOptions {
    /// An ONNX file, or `.graph` text with its `.blobs` beside it
    pub(crate) model: PathBuf,
    /// Give a symbolic dimension a value, or say how others give it: `total=past+seq`
    #[arg(long, value_name = "DIM=N", value_parser = binding)]
    bind: Vec<(String, Bound)>,
    /// Leave a symbolic dimension to every run: one library for all values of this range, or every STEP-th of them;
    /// `A,B=1..8`: two dimensions that are always equal
    #[arg(long, value_name = "DIM=LOW..HIGH[:STEP]", value_parser = range)]
    dynamic: Vec<(String, Range)>,
    /// Give an input a shape; a sequence the shapes of its tensors, with `;` between them, or `none`; also `none` for an optional input
    /// without a value
    #[arg(long, value_name = "INPUT=N,N,...", value_parser = input_shape)]
    input_shape: Vec<(String, Vec<Vec<usize>>)>,
    /// Say that no element of an integer input is greater, where it decides how large something is; a run with a greater one ends with a
    /// status
    #[arg(long, value_name = "INPUT=N", value_parser = at_most)]
    at_most: Vec<(String, i64)>,
    /// Keep an input's value from one run to the next, as what this output was; repeatable
    #[arg(long, value_name = "INPUT=OUTPUT", value_parser = state)]
    state: Vec<(String, String)>,
    /// Compile for this system, such as aarch64-unknown-linux-gnu; the default is this machine's
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Compile for this CPU: a level such as x86-64-v3 or native, and features, as in v2+fma
    #[arg(long, value_name = "LEVEL")]
    cpu: Option<String>,
    /// Store weights in fewer bits; results change, and the report says how much the weights do
    #[arg(long, value_name = "FORMAT")]
    quantize_weights: Option<Weights>,
    /// Keep channels that cannot matter
    #[arg(long)]
    no_prune: bool,
    /// Compute convolutions only by direct sums, not by Winograd's algorithm: slower, rounded a little differently
    #[arg(long)]
    exact_conv: bool,
    /// What matters most; for size, weights are not stored in the larger forms that make convolutions faster
    #[arg(long = "for", value_name = "GOAL", default_value = "latency")]
    goal: GoalName,
    /// What makes machine code: wide (straight to instructions: the widest vectors of x86-64-v2 and above, and 64-bit Arm) where it can, else
    /// Cranelift
    #[arg(long, value_name = "EMITTER", default_value = "auto")]
    emitter: EmitterName,
    /// Measure forms of the kernels on this machine for about so long, and take the best
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    tune: f64,
    /// Take the forms that were measured before from this file; with --tune, add to it
    #[arg(long, value_name = "FILE")]
    tune_file: Option<PathBuf>,
    /// The most threads that a run uses at once, 4 where nothing is said; run, bench and verify use as many, else one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Weights {
    Int8,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum GoalName {
    Latency,
    Size,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum EmitterName {
    Auto,
    Clif,
    Wide,
}

impl ModelOptions {
    /// For a library.
    pub(crate) fn config(&self) -> Config {
        Config {
            computed: std::collections::BTreeSet::new(),
            name: None,
            target: self.target.clone(),
            cpu: self.cpu.clone(),
            bindings: self.bind.iter().filter_map(|(name, bound)| Some((name.clone(), bound.as_ref().ok().copied()?))).collect(),
            relations: self.bind.iter().filter_map(|(name, bound)| Some((name.clone(), bound.as_ref().err()?.clone()))).collect(),
            dynamic: self.dynamic.iter().cloned().collect(),
            input_shapes: self.input_shape.iter().filter_map(|(name, shapes)| Some((name.clone(), one(shapes)?.clone()))).collect(),
            sequences: self.input_shape.iter().filter(|(_, shapes)| one(shapes).is_none()).cloned().collect(),
            constants: std::collections::BTreeMap::new(),
            at_most: self.at_most.iter().cloned().collect(),
            states: self.state.clone(),
            quantize_weights: self.quantize_weights.map(|Weights::Int8| WeightFormat::Int8),
            prune: !self.no_prune,
            exact_conv: self.exact_conv,
            goal: match self.goal {
                GoalName::Latency => Goal::Latency,
                GoalName::Size => Goal::Size,
            },
            emitter: match self.emitter {
                EmitterName::Auto => Emitter::Auto,
                EmitterName::Clif => Emitter::Clif,
                EmitterName::Wide => Emitter::Wide,
            },
            tune: std::time::Duration::from_secs_f64(self.tune),
            tune_file: self.tune_file.clone(),
            threads: self.threads.map_or(DEFAULT_THREADS, |n| n as usize),
            dump: Dumps::default(),
        }
    }

    /// Whether an input is a state.
    pub(crate) fn is_state(&self, input: &str) -> bool {
        self.state.iter().any(|s| s.0 == input)
    }

    /// Whether an output is the next value of a state.
    pub(crate) fn is_next_state(&self, output: &str) -> bool {
        self.state.iter().any(|s| s.1 == output)
    }

    /// The threads to run on here: none but this one where the user asks for no more.
    pub(crate) fn pool(&self) -> Option<Pool> {
        self.threads.filter(|&n| n > 1).and_then(Pool::new)
    }

    /// For execution here: where the user names no CPU, this one.
    pub(crate) fn config_here(&self) -> Config {
        let mut config = self.config();
        if config.cpu.is_none() && config.target.is_none() {
            config.cpu = Some("native".to_owned());
        }
        config
    }
}

/// An extent, or an expression of other dimensions.
type Bound = Result<usize, String>;

fn binding(text: &str) -> Result<(String, Bound), String> {
    let (name, value) = text.rsplit_once('=').ok_or("expected DIM=N")?;
    let bound = match (value.parse(), Relation::parse(value)) {
        (Ok(n), _) => Ok(n),
        (_, Some(relation)) if !relation.names().is_empty() => Err(value.to_owned()),
        _ => return Err(format!("`{value}` is neither a number of elements nor an expression of dimensions")),
    };
    Ok((name.to_owned(), bound))
}

fn at_most(text: &str) -> Result<(String, i64), String> {
    let (name, value) = text.rsplit_once('=').ok_or("expected INPUT=N")?;
    let value = value.parse().map_err(|_| format!("`{value}` is not an integer"))?;
    Ok((name.to_owned(), value))
}

fn range(text: &str) -> Result<(String, Range), String> {
    let (name, range) = text.rsplit_once('=').ok_or("expected DIM=LOW..HIGH")?;
    let (low, high) = range.split_once("..").ok_or("expected DIM=LOW..HIGH")?;
    let (high, step) = high.split_once(':').unwrap_or((high, "1"));
    let number = |n: &str| n.parse().map_err(|_| format!("`{n}` is not a number of elements"));
    Ok((name.to_owned(), Range { low: number(low)?, high: number(high)?, step: number(step)? }))
}

fn state(text: &str) -> Result<(String, String), String> {
    let (input, output) = text.split_once('=').ok_or("expected INPUT=OUTPUT")?;
    Ok((input.to_owned(), output.to_owned()))
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.0..1e6).contains(s)).ok_or_else(|| format!("`{text}` is not a length of time"))
}

fn input_shape(text: &str) -> Result<(String, Vec<Vec<usize>>), String> {
    let (name, shapes) = text.rsplit_once('=').ok_or("expected INPUT=N,N,...")?;
    let parse = |d: &str| d.trim().parse().map_err(|_| format!("`{d}` is not a number of elements"));
    let shape = |dims: &str| -> Result<Vec<usize>, String> {
        let dims = dims.trim().trim_start_matches('[').trim_end_matches(']');
        if dims.is_empty() { Ok(vec![]) } else { dims.split(',').map(parse).collect() }
    };
    let shapes = if shapes == "none" { vec![] } else { shapes.split(';').map(shape).collect::<Result<_, _>>()? };
    Ok((name.to_owned(), shapes))
}

/// The one shape of a list.
fn one(shapes: &[Vec<usize>]) -> Option<&Vec<usize>> {
    if let [shape] = shapes { Some(shape) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_bindings_are_read() {
        assert_eq!(input_shape("a=b=1,3,224"), Ok(("a=b".to_owned(), vec![vec![1, 3, 224]])));
        assert_eq!(input_shape("x="), Ok(("x".to_owned(), vec![vec![]])));
        assert_eq!(input_shape("x=2,3;[4];"), Ok(("x".to_owned(), vec![vec![2, 3], vec![4], vec![]])));
        assert_eq!(input_shape("x=none"), Ok(("x".to_owned(), vec![])));
        assert_eq!(input_shape("x=1,?"), Err("`?` is not a number of elements".to_owned()));
        assert_eq!(range("seq=1..512"), Ok(("seq".to_owned(), (1, 512).into())));
        assert_eq!(range("h=32..640:32"), Ok(("h".to_owned(), Range { low: 32, high: 640, step: 32 })));
        assert!(range("seq=512").is_err());
        assert_eq!(at_most("length=512"), Ok(("length".to_owned(), 512)));
        assert!(at_most("length=many").is_err());
        assert_eq!(binding("batch=4"), Ok(("batch".to_owned(), Ok(4))));
        assert_eq!(binding("total=past+1"), Ok(("total".to_owned(), Err("past+1".to_owned()))));
        assert_eq!(binding("batch=-4"), Err("`-4` is neither a number of elements nor an expression of dimensions".to_owned()));
        assert_eq!(binding("batch"), Err("expected DIM=N".to_owned()));
    }
}
