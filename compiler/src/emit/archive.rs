//! Static libraries: `ar` archives with a symbol table, the same bytes for the same members.

use std::io::{Seek, Write};

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};

/// Writes an archive of object files, each with its member's name.
///
/// # Errors
/// Those of the writer.
pub fn write_archive(to: &mut (impl Write + Seek), objects: &[(&str, &[u8])]) -> std::io::Result<()> {
    let member = |&(name, bytes): &(&str, _)| NewArchiveMember::new(bytes, &DEFAULT_OBJECT_READER, name.to_owned());
    let members: Vec<NewArchiveMember<'_>> = objects.iter().map(member).collect();
    write_archive_to_stream(to, &members, ArchiveKind::Gnu, false, None)
}
