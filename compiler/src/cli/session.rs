//! A model that runs one case after another in this process: compiled when the first comes and whenever shapes change; what is state goes
//! from each case to the next.

use std::collections::BTreeMap;
use std::path::Path;

use tinsmith::codegen::{Executable, Status};
use tinsmith::config::Config;
use tinsmith::source::Signature;
use tinsmith::tensor::Tensor;
use tinsmith::{Artifact, Error, Hook};

use super::inputs;

pub(crate) struct Session<'a> {
    path: &'a Path,
    signature: &'a Signature,
    config: Config,
    compiled: Option<Compiled>,
    /// Values that the last case left, by the inputs' names.
    state: BTreeMap<String, Tensor>,
}

struct Compiled {
    artifact: Artifact,
    executable: Executable,
    constants: BTreeMap<String, Tensor>,
    sequences: BTreeMap<String, Vec<Vec<usize>>>,
}

/// What a case came to.
pub(crate) struct Ran<'s> {
    pub(crate) artifact: &'s Artifact,
    pub(crate) executable: &'s Executable,
    /// For each input of the interface, states included.
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) status: Result<(), Status>,
    /// By name, the next values of states included.
    pub(crate) outputs: Vec<(String, Tensor)>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(path: &'a Path, signature: &'a Signature, config: Config) -> Self {
        Session { path, signature, config, compiled: None, state: BTreeMap::new() }
    }

    /// Runs a case. States that it does not give are what the last case left, or what a stream begins with.
    pub(crate) fn run(&mut self, mut arrays: BTreeMap<String, Tensor>, pool: Option<&Hook>) -> Result<Ran<'_>, Error> {
        for (name, value) in &self.state {
            arrays.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let mut config = self.config.clone();
        let arrays = inputs::bind_to(self.signature, arrays, &mut config)?;
        if !self.compiled.as_ref().is_some_and(|c| c.sequences == config.sequences && c.takes(&arrays)) {
            let artifact = inputs::compile(self.path, &arrays, &mut config)?;
            let executable = artifact.executable()?;
            self.compiled = Some(Compiled { artifact, executable, constants: config.constants, sequences: config.sequences });
        }
        let Some(Compiled { artifact, executable, .. }) = &self.compiled else { unreachable!("compiled above") };
        let tensors = inputs::in_order(artifact, arrays);
        let mut memory = inputs::memory(artifact, executable, &tensors)?;
        let status = executable.run_with(&mut memory, pool);
        if status.is_ok() {
            self.state = inputs::states(artifact, &memory);
        }
        Ok(Ran { artifact, executable, tensors, status, outputs: inputs::outputs(artifact, &memory) })
    }
}

impl Compiled {
    /// Whether it was compiled for arrays like these.
    fn takes(&self, arrays: &BTreeMap<String, Tensor>) -> bool {
        arrays.iter().all(|(name, tensor)| match self.constants.get(name) {
            Some(constant) => constant.ty() == tensor.ty() && constant.bytes() == tensor.bytes(),
            // A run with sizes outside the range is told there.
            None => self.artifact.interface.inputs.iter().any(|p| {
                let fits = |(k, &n): (usize, &usize)| p.dims[k] == n || p.sizes.get(k).is_some_and(|s| s.constant().is_none());
                let rank = tensor.dims().len();
                p.name == *name && p.dtype == tensor.dtype() && p.dims.len() == rank && tensor.dims().iter().enumerate().all(fits)
            }),
        })
    }
}
