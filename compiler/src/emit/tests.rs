//! What an object file and an archive hold.

use std::io::Cursor;

use ::object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};

use super::*;
use crate::codegen::Level;
use crate::codegen::program::{IoBuffer, Place, Step};

const KERNEL: &str = "
kernel @scale map(lanes=4) (x: f32[4] read, w: f32[4] read, y: f32[4] write) {
  %0: f32x4 = load x[0]
  %1: f32x4 = load w[0]
  %2: f32x4 = mul %0, %1
  store y[0], %2
}";

fn machines() -> impl Iterator<Item = Machine> {
    Level::X86_64.map(Machine::x86_64).into_iter().chain([Machine::aarch64()])
}

fn sample(machine: &Machine) -> (Program, Interface) {
    let mut program = Program::default();
    let weights: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let constant = program.constant("w", weights);
    let kernel = program.kernel(crate::nest::parse(KERNEL.trim()).expect("the sample parses"));
    program.inputs.push(IoBuffer { name: "x".into(), bytes: 16, dims: vec![] });
    program.outputs.push(IoBuffer { name: "y/out".into(), bytes: 16, dims: vec![] });
    let args = vec![Place::Input(0, 0), Place::Constant(constant, 0), Place::Output(0, 0)];
    program.steps.push(Step { label: "y".into(), kernel, args, sizes: vec![] });
    let port = |name: &str| vec![(name.to_owned(), DType::F32, vec![1, 4])];
    let interface = Interface::new("add four", port("x"), port("y/out"), &program, "00".repeat(32), "0.0.0", machine);
    (program, interface)
}

fn object_of(machine: &Machine) -> Vec<u8> {
    let (program, interface) = sample(machine);
    object::object_file(&program, &interface, false).expect("the sample compiles").bytes
}

#[test]
fn two_symbols_are_global_and_none_is_missing() {
    for machine in machines() {
        let bytes = object_of(&machine);
        let file = ::object::File::parse(&*bytes).expect("an object file");
        let mut global: Vec<&str> = file.symbols().filter(|s| s.is_global()).map(|s| s.name().expect("a name")).collect();
        global.sort_unstable();
        assert_eq!(global, ["add_four_model", "add_four_run"], "{machine}");
        let undefined: Vec<_> = file.symbols().filter(|s| s.is_undefined() && s.name() != Ok("")).collect();
        assert!(undefined.is_empty(), "{machine}: {undefined:?}");
    }
}

#[test]
fn code_is_position_independent_and_the_stack_is_not_executable() {
    for machine in machines() {
        let bytes = object_of(&machine);
        let file = ::object::File::parse(&*bytes).expect("an object file");
        assert!(file.section_by_name(".note.GNU-stack").is_some(), "{machine}");
        for section in file.sections() {
            for (at, relocation) in section.relocations() {
                let local = matches!(relocation.target(), RelocationTarget::Symbol(_));
                let absolute = relocation.kind() == ::object::RelocationKind::Absolute && relocation.size() >= 32;
                let may_be_absolute = section.name().is_ok_and(|n| n.starts_with(".data.rel.ro"));
                assert!(local && (!absolute || may_be_absolute), "{machine}: {:?} at {at}: {relocation:?}", section.name());
            }
        }
    }
}

#[test]
fn constants_are_read_only_aligned_and_whole() {
    let bytes = object_of(&Machine::x86_64(Level::V3));
    let file = ::object::File::parse(&*bytes).expect("an object file");
    let symbol = file.symbols().find(|s| s.name() == Ok("constant.w")).expect("the constant");
    let section = file.section_by_index(symbol.section_index().expect("its section")).expect("its section");
    assert_eq!((section.kind(), section.align(), symbol.size()), (SectionKind::ReadOnlyData, 64, 16));
    assert_eq!(&section.data().expect("its data")[4..8], 2f32.to_le_bytes());
}

#[test]
fn the_same_program_gives_the_same_bytes() {
    let archive = || {
        let mut bytes = Cursor::new(vec![]);
        archive::write_archive(&mut bytes, &[("x.o", &object_of(&Machine::aarch64()))]).expect("an archive");
        bytes.into_inner()
    };
    assert_eq!(archive(), archive());
}

#[test]
fn the_header_names_everything() {
    let (_, interface) = sample(&Machine::x86_64(Level::V3));
    let text = header::header(&interface);
    let own: Vec<&str> = text.lines().filter(|l| l.contains("ADD_FOUR") || l.contains("add_four") || l.contains("*y_out")).collect();
    insta::assert_snapshot!(own.join("\n"), @r#"
    #ifndef TINSMITH_MODEL_ADD_FOUR_H
    #define TINSMITH_MODEL_ADD_FOUR_H
    #define ADD_FOUR_WORKSPACE_BYTES 64u
    #define ADD_FOUR_WORKSPACE_ALIGN 64u
    #define ADD_FOUR_MAX_THREADS 1u
    #define ADD_FOUR_X_ELEMENTS 4u
    #define ADD_FOUR_Y_OUT_ELEMENTS 4u
    tinsmith_status add_four_run(const float *x /* [1,4] */,
                                 float *y_out /* [1,4] "y/out" */,
                                 void *workspace /* ADD_FOUR_WORKSPACE_BYTES, aligned */,
    const tinsmith_model *add_four_model(void);
    "#);
}

#[test]
fn the_rust_module_is_typed() {
    let (_, interface) = sample(&Machine::x86_64(Level::V3));
    let text = bindings::bindings(&interface);
    let at = text.find("/// Runs the model").expect("its documentation");
    insta::assert_snapshot!(text[at..], @r"
    /// Runs the model on this thread:
    ///
    /// - `x`: input `x`, `f32[1,4]`
    /// - `y_out`: output `y/out`, `f32[1,4]`
    ///
    /// # Errors
    /// The library's status, if it is not 0.
    #[allow(dead_code, non_snake_case, clippy::too_many_arguments)]
    pub fn run(x: &[f32; 4], y_out: &mut [f32; 4], workspace: &mut Workspace) -> ::core::result::Result<(), Status> {
        run_on(x, y_out, workspace, ::core::ptr::null_mut())
    }

    /// As [`run`], on the threads of a pool; the results are the same to the last bit.
    ///
    /// # Errors
    /// As [`run`].
    #[allow(dead_code, non_snake_case, clippy::too_many_arguments)]
    pub fn run_with(x: &[f32; 4], y_out: &mut [f32; 4], workspace: &mut Workspace, pool: &Pool) -> ::core::result::Result<(), Status> {
        run_on(x, y_out, workspace, pool.0.as_ptr())
    }

    #[allow(non_snake_case, clippy::too_many_arguments)]
    fn run_on(x: &[f32; 4], y_out: &mut [f32; 4], workspace: &mut Workspace, pool: *mut ::core::ffi::c_void) -> ::core::result::Result<(), Status> {
        let workspace = workspace as *mut Workspace as *mut ::core::ffi::c_void;
        // SAFETY: the arrays have the sizes that the library was compiled for, and the references keep them apart.
        let code = unsafe { add_four_run(x.as_ptr(), y_out.as_mut_ptr(), workspace, pool) };
        match code {
            0 => Ok(()),
            1 => Err(Status::BadArgument),
            2 => Err(Status::CpuLacksFeature),
            3 => Err(Status::IndexOutOfRange),
            4 => Err(Status::SizeOutOfRange),
            code => Err(Status::Unknown(code)),
        }
    }
    ");
}
