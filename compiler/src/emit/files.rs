//! Files that appear whole or not at all: written under a temporary name in their folder, then renamed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::EmitError;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Creates a folder and those it is in.
///
/// # Errors
/// The system's, with the path.
pub fn create_folder(folder: &Path) -> Result<(), EmitError> {
    fs::create_dir_all(folder).map_err(|source| EmitError::Write { path: folder.to_owned(), source })
}

/// Writes a file by what `fill` writes.
///
/// # Errors
/// The system's, with the path; nothing is left behind then.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<(), EmitError> {
    let temporary = temporary_name(path);
    let written = (|| {
        let mut file = BufWriter::with_capacity(1 << 18, File::create(&temporary)?);
        fill(&mut file)?;
        file.flush()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|source| {
        // The first error is the one to tell; the file may not even exist.
        let _ = fs::remove_file(&temporary);
        EmitError::Write { path: path.to_owned(), source }
    })
}

/// Writes a file of these bytes.
///
/// # Errors
/// Those of [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), EmitError> {
    write_with(path, |file| file.write_all(bytes))
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_fails_leaves_nothing() {
        let folder = std::env::temp_dir().join(format!("tinsmith-files-{}", std::process::id()));
        create_folder(&folder).expect("a folder");
        let failing = write_with(&folder.join("x"), |_| Err(std::io::Error::other("full")));
        assert!(failing.is_err_and(|e| e.to_string().ends_with("cannot be written: full")));
        assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 0);
        write(&folder.join("x"), b"1").expect("a file");
        assert_eq!(fs::read(folder.join("x")).expect("the file"), b"1");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
