//! The files of a model: the model itself, and the data of initializers that lie beside it. The only part of the compiler that opens files
//! which a model names.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use onnx_protobuf::StringStringEntryProto;

use super::problems::Problem;
use super::{ImportOptions, Imported, model};
use crate::diagnostic::{Diagnostic, Severity};

/// Imports a file. `options` may leave out the file's name and folder.
///
/// # Errors
/// All problems of the file.
pub fn import_file(path: &Path, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    let mut options = options.clone();
    if options.file.is_empty() {
        options.file = path.display().to_string();
    }
    let bytes = fs::read(path).map_err(|e| vec![Diagnostic::new("unreadable-file", Severity::Input, &options.file, e.to_string())])?;
    if options.folder.is_none() {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        options.folder = Some(parent.unwrap_or(Path::new(".")).to_owned());
    }
    let model = model::parse(&bytes, &options.file)?;
    drop(bytes);
    model::import_model(model, &options)
}

/// The `size` bytes that the entries of an initializer name, in `folder`.
pub(super) fn read(entries: &[StringStringEntryProto], size: usize, folder: Option<&Path>) -> Result<Vec<u8>, Problem> {
    let entry = |key: &str| entries.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text.trim().parse::<u64>().map(Some).map_err(|_| Problem::invalid(format!("external data has {key} `{text}`"))),
    };
    let location = entry("location").filter(|l| !l.is_empty()).ok_or_else(|| Problem::invalid("external data has no location"))?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let bad = |why: &str| Problem::invalid(format!("external data `{location}` {why}"));
    if length.is_some_and(|l| l != size as u64) {
        return Err(bad(&format!("has {} bytes where the type has {size}", length.unwrap_or(0))));
    }
    let relative = Path::new(location);
    if location.contains(['\\', '\0']) || !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(bad("is outside the model's folder"));
    }
    let folder = folder.ok_or_else(|| bad("cannot be read: the model's folder is not known"))?;
    let cannot = |e: std::io::Error| bad(&format!("cannot be read: {e}"));
    let folder = folder.canonicalize().map_err(cannot)?;
    let path = folder.join(relative).canonicalize().map_err(cannot)?;
    if !path.starts_with(&folder) {
        return Err(bad("is outside the model's folder"));
    }
    let metadata = fs::metadata(&path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(bad("is not a file"));
    }
    if offset.checked_add(size as u64).is_none_or(|end| end > metadata.len()) {
        return Err(bad(&format!("ends before byte {offset} + {size}")));
    }
    let mut file = File::open(&path).map_err(cannot)?;
    file.seek(SeekFrom::Start(offset)).map_err(cannot)?;
    let mut bytes = vec![0; size];
    file.read_exact(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}
