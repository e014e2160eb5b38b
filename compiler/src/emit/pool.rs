//! The thread pool that a library carries: `tinsmith_pool_create` and `tinsmith_pool_destroy`, a member of the archive of its own, which
//! a linker takes once, and only for programs that call them.

use tinsmith_targets::Arch;

/// Name of the archive's member.
pub const MEMBER: &str = "tinsmith_pool.o";

/// The object for an architecture, made of `runtime/src/pool` by `runtime/prebuilt/build.sh`.
pub fn object(arch: Arch) -> &'static [u8] {
    match arch {
        Arch::X86_64 => include_bytes!("../../../runtime/prebuilt/x86_64-unknown-linux-gnu.o"),
        Arch::Aarch64 => include_bytes!("../../../runtime/prebuilt/aarch64-unknown-linux-gnu.o"),
    }
}

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSymbol};
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_objects_are_made_of_the_sources_that_are_here() {
        let mut sources = Sha256::new();
        for text in [
            include_str!("../../../runtime/src/pool/object.rs"),
            include_str!("../../../runtime/src/pool/job.rs"),
            include_str!("../../../runtime/src/pool/sync.rs"),
            include_str!("../../../runtime/src/pool/threads.rs"),
            include_str!("../../../targets/src/abi.rs"),
        ] {
            sources.update(text);
        }
        let hash: String = sources.finalize().iter().map(|b| format!("{b:02x}")).collect();
        let kept = include_str!("../../../runtime/prebuilt/sources.sha256").trim();
        assert_eq!(hash, kept, "run runtime/prebuilt/build.sh");
    }

    #[test]
    fn the_objects_need_the_c_library_only() {
        let known = ["aligned_alloc", "free", "memset", "memcpy", "pthread_create", "pthread_join", "pthread_sigmask", "syscall"];
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let file = object::File::parse(object(arch)).unwrap();
            let architecture = if arch == Arch::X86_64 { object::Architecture::X86_64 } else { object::Architecture::Aarch64 };
            assert_eq!(file.architecture(), architecture);
            let names = |undefined: bool| -> Vec<String> {
                let symbols = file.symbols().filter(|s| s.is_global() && s.is_undefined() == undefined);
                symbols.filter_map(|s| s.name().ok()).filter(|n| !n.is_empty()).map(str::to_owned).collect()
            };
            let needed = names(true);
            assert!(needed.iter().all(|n| known.contains(&n.as_str())), "{arch:?}: {needed:?}");
            let mut given = names(false);
            given.sort();
            assert_eq!(given, ["tinsmith_pool_create", "tinsmith_pool_destroy"], "{arch:?}");
        }
    }
}
