//! A model file to a compiled model, and from there to files or to execution in this process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::codegen::clif::Listing;
use crate::codegen::{EmittedBy, Emitter, Executable, Machine, emitted_by};
use crate::config::{Config, Range};
use crate::diagnostic::{Diagnostic, Severity};
use crate::emit::object::{ObjectFile, object_file};
use crate::emit::{Interface, archive, bindings, build_files, files, header, pool};
use crate::error::Error;
use crate::graph::{Graph, Value};
use crate::onnx;
use crate::passes;
use crate::pipeline::{self, Compiled, Probes, Tuned};
use crate::report::Report;
use crate::source::{self, Source};
use crate::state::{self, State};
use crate::tensor::{DType, Parameter};

/// Version of the compiler.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A compiled model.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// What callers see.
    pub interface: Interface,
    /// The model as it was read.
    pub source: Source,
    /// Kernels, steps, constants, and the graph they came from.
    pub compiled: Compiled,
    /// What the passes did.
    pub passes: passes::Report,
    /// The inputs that the caller's state block holds.
    pub states: Vec<State>,
    /// The texts of the graph that [`Config::dump`] asked for: the pass and the text.
    pub dumps: Vec<(String, String)>,
}

/// What to write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Output {
    /// The static library with its header, Rust module, and files for build systems.
    Library,
    /// The object file.
    Object,
    /// The graph after all passes.
    Graph,
    /// The tensor expressions of every step.
    Expr,
    /// The kernels.
    Nest,
    /// The functions in Cranelift's form.
    Clif,
    /// The functions as instructions.
    Asm,
    /// The report, as JSON.
    Report,
}

/// Compiles a model file.
///
/// # Errors
/// Every problem of the first stage that finds one.
pub fn compile(path: &Path, config: &Config) -> Result<Artifact, Error> {
    let machine = Machine::parse(config.target.as_deref(), config.cpu.as_deref())?;
    if let Some(name) = config.dump.after.iter().find(|name| !passes::PASSES.iter().any(|p| p.name == **name)) {
        let known: Vec<&str> = passes::PASSES.iter().map(|p| p.name).collect();
        return Err(Error::Usage(format!("`{name}` is not a pass; expected one of {}", known.join(", "))));
    }
    if !config.dynamic.is_empty() {
        return compile_dynamic(path, config, &machine);
    }
    compile_source(source::read(path, config)?, config, &machine)
}

/// Compiles a model for a range of sizes.
fn compile_dynamic(path: &Path, config: &Config, machine: &Machine) -> Result<Artifact, Error> {
    fn usage<T>(message: String) -> Result<T, Error> {
        Err(Error::Usage(message))
    }
    if !config.states.is_empty() {
        return usage("`--state` does not go with `--dynamic` yet".to_owned());
    }
    let mut config = config.clone();
    let (mut parameters, mut dimensions): (Vec<Parameter>, Vec<Vec<String>>) = (vec![], vec![]);
    for (names, &Range { low, high, step }) in &config.dynamic {
        if low > high || high > 1 << 30 || step < 1 {
            return usage(format!("`--dynamic {names}={low}..{high}:{step}`: expected a range of extents, and steps from 1 on"));
        }
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        if let Some(name) = names.iter().find(|name| config.bindings.contains_key(*name) || config.relations.contains_key(*name)) {
            return usage(format!("dimension `{name}` is bound and varies"));
        }
        if high - low < step {
            config.bindings.extend(names.into_iter().map(|name| (name, low)));
        } else {
            parameters.push(Parameter::new(&names[0], low as i64, high as i64, step as i64));
            dimensions.push(names);
        }
    }
    let at_sizes = |at: &[i64], computed: &BTreeSet<String>| {
        let mut config = Config { computed: computed.clone(), ..config.clone() };
        for (names, &n) in dimensions.iter().zip(at) {
            config.bindings.extend(names.iter().map(|name| (name.clone(), n as usize)));
        }
        source::read(path, &config)
    };
    if parameters.is_empty() {
        return compile_source(at_sizes(&[], &BTreeSet::new())?, &config, machine);
    }
    let mut read = |at: &[i64], computed: &BTreeSet<String>| {
        let mut source = at_sizes(at, computed).map_err(|e| at_these(e, &parameters, at))?;
        Ok((std::mem::take(&mut source.graph), source))
    };
    let mut compile =
        |graph: Graph, source: Source, probes: &Probes| compile_for(Source { graph, ..source }, Some(probes), &config, machine);
    pipeline::compile_range(&parameters, &config, &mut read, &mut compile, Error::diagnostics)
}

/// An error of reading, with the sizes for which it comes.
fn at_these(error: Error, parameters: &[Parameter], at: &[i64]) -> Error {
    let Error::Model(mut problems) = error else { return error };
    let sizes = Parameter::told(parameters, at);
    for p in &mut problems {
        p.message = format!("with {sizes}: {}", p.message);
    }
    Error::Model(problems)
}

/// Compiles a model that was read.
///
/// # Errors
/// Every problem of the first stage that finds one.
pub fn compile_source(source: Source, config: &Config, machine: &Machine) -> Result<Artifact, Error> {
    compile_for(source, None, config, machine)
}

fn compile_for(source: Source, probes: Option<&Probes>, config: &Config, machine: &Machine) -> Result<Artifact, Error> {
    let unbound = onnx::unbound_dimensions(&source.graph, &source.file);
    if !unbound.is_empty() {
        return Err(Error::Model(unbound));
    }
    let too_large = too_large(&source);
    if !too_large.is_empty() {
        return Err(Error::Model(too_large));
    }
    let states = state::resolve(&source, config).map_err(Error::Model)?;
    let mut dumps = vec![];
    let (graph, passes) = pipeline::run_passes(source.graph.clone(), config, &mut |pass, graph| {
        if config.dump.after.contains(pass) {
            dumps.push((pass.to_owned(), crate::graph::print(graph)));
        }
    });
    let tuned = if probes.is_some() { Tuned::default() } else { pipeline::tuned(&graph, machine, config)? };
    let compiled = pipeline::lower_and_schedule_for(graph, probes, machine, config, &tuned, &states).map_err(Error::Model)?;
    let graph = &compiled.graph;
    let signature = |names: &mut dyn Iterator<Item = (String, Value)>| -> Vec<(String, DType, Vec<usize>)> {
        names.map(|(name, v)| (name, graph.ty(v).dtype, graph.ty(v).dims().unwrap_or_default())).collect()
    };
    let inputs = signature(&mut graph.inputs().iter().map(|&v| (graph.name_of(v).to_owned(), v)));
    let outputs = signature(&mut graph.output_names().iter().cloned().zip(graph.outputs().iter().copied()));
    let mut interface = Interface::new(&source.title, inputs, outputs, &compiled.program, source.hash.clone(), VERSION, machine);
    for &(output, shape) in &source.shapes {
        interface.outputs[output].shape_in = Some(shape);
    }
    Ok(Artifact { interface, source, compiled, passes, states, dumps })
}

/// No tensor may have more bytes: sums and products of sizes stay far from overflowing.
const MAX_TENSOR_BYTES: usize = 1 << 40;

/// A problem for every value that no memory holds.
fn too_large(source: &Source) -> Vec<Diagnostic> {
    let graph = &source.graph;
    let mut problems = vec![];
    for node in graph.order() {
        for v in graph.results(node) {
            let ty = graph.ty(v);
            // Without zeros, so that no part of a product overflows either.
            let bytes = ty.dims().and_then(|d| d.iter().try_fold(ty.dtype.size_bytes(), |n, &d| n.checked_mul(d.max(1))));
            if bytes.is_none_or(|b| b > MAX_TENSOR_BYTES) && ty.dims().is_some() {
                let place = format!("{}: value \"{}\"", source.file, graph.name_of(v));
                let problem = Diagnostic::new("too-large", Severity::Unsupported, place, format!("`{ty}` is too large"));
                problems.push(problem.with_line(crate::graph::line(graph, node)));
            }
        }
    }
    problems
}

impl Artifact {
    /// The model as machine code in this process.
    ///
    /// # Errors
    /// If this machine cannot execute code made for the target.
    pub fn executable(&self) -> Result<Executable, Error> {
        Ok(Executable::new(&self.compiled.program, &self.interface.machine)?)
    }

    /// Writes files into a folder, which is created where it is missing; each appears whole or not at all.
    ///
    /// # Errors
    /// If code cannot be made for the target, or a file cannot be written.
    pub fn write(&self, folder: &Path, outputs: &[Output]) -> Result<Written, Error> {
        files::create_folder(folder)?;
        let wants = |output| outputs.contains(&output);
        let listings = wants(Output::Clif) || wants(Output::Asm);
        let needs_code = listings || wants(Output::Library) || wants(Output::Object) || wants(Output::Report);
        let object = if needs_code { Some(object_file(&self.compiled.program, &self.interface, listings)?) } else { None };
        let name = &self.interface.name;
        let mut written: Vec<PathBuf> = vec![];
        let mut put = |file: String, bytes: &[u8]| -> Result<(), Error> {
            let path = folder.join(file);
            files::write(&path, bytes)?;
            written.push(path);
            Ok(())
        };
        if wants(Output::Graph) {
            put(format!("{name}.graph"), crate::graph::print(&self.compiled.graph).as_bytes())?;
            let blobs = crate::graph::blobs(&self.compiled.graph);
            if !blobs.is_empty() {
                put(format!("{name}.blobs"), &crate::graph::write_blobs(&blobs))?;
            }
        }
        for (pass, text) in &self.dumps {
            put(format!("{name}.{pass}.graph"), text.as_bytes())?;
        }
        if wants(Output::Expr) {
            put(format!("{name}.expr"), self.expr_text().as_bytes())?;
        }
        if wants(Output::Nest) {
            put(format!("{name}.nest"), self.nest_text().as_bytes())?;
        }
        if let Some(object) = &object {
            if wants(Output::Clif) {
                put(format!("{name}.clif"), joined(&object.listings, |l| l.clif.clone()).as_bytes())?;
            }
            if wants(Output::Asm) {
                put(format!("{name}.asm"), joined(&object.listings, |l| format!("{}:\n{}", l.name, l.asm)).as_bytes())?;
            }
            if wants(Output::Object) {
                put(format!("{name}.o"), &object.bytes)?;
            }
            if wants(Output::Library) {
                put(format!("{name}.h"), header::header(&self.interface).as_bytes())?;
                put(format!("{name}.rs"), bindings::bindings(&self.interface).as_bytes())?;
                put(format!("{name}.pc"), build_files::pkg_config(&self.interface).as_bytes())?;
                put(format!("{name}-config.cmake"), build_files::cmake_config(&self.interface).as_bytes())?;
                // The library comes last, so that a build that finds it finds the rest.
                let path = folder.join(format!("lib{name}.a"));
                let member = format!("{name}.o");
                let pool = pool::object(self.interface.machine.target.arch);
                let members: [(&str, &[u8]); 2] = [(&member, &object.bytes), (pool::MEMBER, pool)];
                files::write_with(&path, |file| archive::write_archive(file, &members))?;
                written.push(path);
            }
            if wants(Output::Report) {
                let text = format!("{:#}\n", self.report(Some(object)).to_json());
                let path = folder.join(format!("{name}.report.json"));
                files::write(&path, text.as_bytes())?;
                written.push(path);
            }
        }
        Ok(Written { files: written, report: self.report(object.as_ref()) })
    }

    /// Sizes, the memory plan, and what the passes did.
    pub fn report(&self, object: Option<&ObjectFile>) -> Report {
        Report::new(self, object)
    }

    /// The tensor expressions of every step.
    pub fn expr_text(&self) -> String {
        self.compiled.expressions.iter().map(|(label, program)| format!("// {label}\n{program}\n")).collect()
    }

    /// The kernels as loops.
    pub fn nest_text(&self) -> String {
        let program = &self.compiled.program;
        let emitters = emitted_by(program, &self.interface.machine);
        let line = |by: &EmittedBy| match (&by.refused, program.emitter) {
            (_, Emitter::Clif) => String::new(),
            (None, _) => "// by the wide emitter\n".to_owned(),
            (Some(refused), _) => format!("// not by the wide emitter: {refused}\n"),
        };
        program.kernels.iter().zip(&emitters).map(|(kernel, by)| format!("{}{kernel}\n", line(by))).collect()
    }
}

fn joined(listings: &[Listing], text: impl Fn(&Listing) -> String) -> String {
    listings.iter().map(|l| text(l) + "\n").collect()
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Sizes and the memory plan.
    pub report: Report,
}

/// Compiles a model file into a folder: library, header, Rust module, build files.
///
/// # Errors
/// Those of [`compile`] and [`Artifact::write`].
pub fn compile_to(path: &Path, folder: &Path, config: &Config) -> Result<(Artifact, Written), Error> {
    let artifact = compile(path, config)?;
    let written = artifact.write(folder, &[Output::Library])?;
    Ok((artifact, written))
}
